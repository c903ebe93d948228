"""Training of networks that read: questions about a context, whose answers are words of it."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from models.data.answers import best_spans, scores
from models.data.lexicon import Encoded, Lexicon
from models.training.stage import train_stage
from models.training.trainer import batches
from models.training.workers import Worker

EVALUATION_BATCH = 200


@dataclasses.dataclass(frozen=True)
class ReadingTrainer:
    """Trains networks that read on questions, and goes on where a killed training stopped.

    What is measured and kept is an average of the weights over the last updates, w' <- m w' + (1 - m) w, as in the
    paper; a stage begins with that of the stage before.

    Args:
        folder: where the checkpoints and curves go, `<stage>.npz` and `<stage>.csv`.
        lexicon: the numbers of words and characters.
        parts: questions by part, "train", "valid" and "test", all of one length.
        batch_size: questions in a batch, of all workers together.
        average: m, in [0, 1).
        seed: of the order of the questions.
        optimizer: makes an optimizer from a learning rate and `use_ema` and `ema_momentum`.
        worker: this process among those that train together.

    Raises:
        ValueError: a batch that cannot be shared out, or a part without questions.

    Paper: Seo et al., Bidirectional attention flow for machine comprehension, 2017.
    """

    folder: Path
    lexicon: Lexicon
    parts: dict[str, Encoded]
    batch_size: int = 60
    average: float = 0.999
    seed: int = 0
    optimizer: Callable = keras.optimizers.Adam
    worker: Worker = dataclasses.field(default_factory=Worker)

    def __post_init__(self):
        self.worker.part_of(self.batch_size)
        for part, questions in self.parts.items():
            if not questions.source:
                raise ValueError(f"{part}: expected at least one question. Received: none")

    def fit(
        self,
        model: keras.Model,
        stage: str,
        epochs: int,
        learning_rate: float,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> dict[str, list[float]]:
        """Compile and train, going on after the last epoch that the stage's checkpoint holds.

        Args:
            model: from words and characters, as `models.bidaf` takes them, to logits.
            stage: the name of the checkpoint and of the curves.
            epochs: how many, counted from the very first.
            learning_rate: of all epochs; the average of the weights stands in place of smaller steps.
            callbacks: further Keras callbacks.

        Returns:
            The curves, one value an epoch, by name; those of the validation are of the weights before the average.
        """
        averaged = {"use_ema": True, "ema_momentum": self.average} if self.average else {}
        model.compile(self.worker.optimizer(self.optimizer(learning_rate, **averaged)), SpanLoss())
        curves = train_stage(
            model,
            Path(self.folder) / f"{stage}.npz",
            epochs,
            self.worker,
            self._training,
            self._read("valid"),
            self.worker.steps(len(self.parts["train"].source), self.batch_size),
            tuple(callbacks),
        )
        if epochs:  # a checkpoint holds the weights before the average; averages of no update would be zeros
            model.optimizer.finalize_variable_values(model.trainable_variables)
        return curves

    def answers(self, model: keras.Model, part: str = "test") -> list[str]:
        """The answers of a model to the questions of a part."""
        logits = np.concatenate([model.predict_on_batch(inputs) for inputs, _ in self._read(part)])
        pairs = zip(self.parts[part].source, best_spans(logits), strict=True)
        return [
            question.context.between(*np.minimum(span, len(question.context.places) - 1)) for question, span in pairs
        ]

    def score(self, model: keras.Model, part: str = "test") -> tuple[float, float]:
        """Exact match and F1 of a part, in percent."""
        return scores(self.answers(model, part), [question.answers for question in self.parts[part].source])

    def _training(self, start, stop):
        """This worker's part of each batch."""
        share = self.worker.rank, self.worker.size
        chosen = batches(*self._forms("train"), self.batch_size, self.seed, start, stop, part=share)
        return self._encoded(chosen).prefetch(4)

    def _read(self, part):
        """The batches of a part, in order."""
        return self._encoded(tf.data.Dataset.from_tensor_slices(self._forms(part)).batch(EVALUATION_BATCH))

    def _forms(self, part):
        """The words of a part, each context and behind it its question; and the spans of the answers."""
        questions = self.parts[part]
        return np.concatenate([questions.contexts, questions.questions], axis=1), questions.spans

    def _encoded(self, chosen):
        """Batches of these as what the network takes."""
        length = self.parts["train"].contexts.shape[1]
        return chosen.map(lambda forms, spans: (self.lexicon.inputs(forms[:, :length], forms[:, length:]), spans))


class SpanLoss(keras.losses.Loss):
    """Cross entropy of the answer's first word and of its last, summed, the mean over questions."""

    def __init__(self, name="span_loss"):
        super().__init__(name=name, reduction="sum_over_batch_size")

    def call(self, y_true, y_pred):
        """The loss of each question, of spans (batch, 2) and logits (batch, 2, words)."""
        both = keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)
        return keras.ops.sum(both, axis=-1)

    def get_config(self):
        """The name."""
        return {"name": self.name}
