"""Training of language models: truncated back-propagation through time, with states carried from batch to batch."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from models.data.text import Text
from models.training.distillation import Distillation
from models.training.stage import train_stage
from models.training.workers import Worker
from tf_terngrad.keras_internals import all_layers


@dataclasses.dataclass(frozen=True)
class LanguageTrainer:
    """Trains language models on one text, and goes on where a killed training stopped.

    A batch is as many texts as `batch_size` side by side, `steps` words of each; the next batch goes on there. The loss
    is the cross entropy summed over the steps, as in the papers whose learning rates and strengths are used here.

    Args:
        folder: where the checkpoints and curves go, `<stage>.npz` and `<stage>.csv`.
        text: a `Text`.
        batch_size: texts side by side, of all workers together.
        steps: words of each in a batch, through which gradients flow back.
        clip: the largest norm of all gradients together, 0: any. Zaremba et al. (2014) have 5 for LSTMs of 200 and of
            650 units, 10 for 1,500.
        optimizer: makes an optimizer from a learning-rate schedule and `global_clipnorm`.
        worker: this process among those that train together.

    Raises:
        ValueError: a batch that cannot be shared out, or a part of the text that is too short for one.
    """

    folder: Path
    text: Text
    batch_size: int = 20
    steps: int = 35
    clip: float = 5.0
    optimizer: Callable = keras.optimizers.SGD
    worker: Worker = dataclasses.field(default_factory=Worker)

    def __post_init__(self):
        self.worker.part_of(self.batch_size)
        for part in ("train", "valid", "test"):
            count = len(getattr(self.text, part))
            if count <= self.batch_size * self.steps:
                raise ValueError(
                    f"{part}: expected a text of more than {self.batch_size} times {self.steps} words. "
                    f"Received: {count}"
                )

    @property
    def rows(self) -> int:
        """Texts side by side in a batch of one worker."""
        return self.worker.part_of(self.batch_size)

    def fit(
        self,
        model: keras.Model,
        stage: str,
        epochs: int,
        learning_rate: float | Sequence[float],
        callbacks: tuple[keras.callbacks.Callback, ...] = (),
        teacher: keras.Model | None = None,
    ) -> dict[str, list[float]]:
        """Compile and train, going on after the last epoch that the stage's checkpoint holds.

        Args:
            model: from words (rows, any) to logits, with states that are kept.
            stage: the name of the checkpoint and of the curves.
            epochs: how many, counted from the very first.
            learning_rate: of each epoch; or one number, that of the first third of them: the second has a tenth of it,
                the last a hundredth.
            callbacks: further Keras callbacks.
            teacher: a trained model of the same words, with states that are kept: its answers are half of what is
                learned, the words themselves the other half (`Distillation`), and the loss of training is of both.

        Returns:
            The curves, one value an epoch, by name: loss, perplexity (of what is not taught) and both of the validation
            text.

        Raises:
            ValueError: another number of learning rates than of epochs.
        """
        if isinstance(learning_rate, Sequence) and len(learning_rate) != epochs:
            raise ValueError(f"Expected a learning rate for each of {epochs} epochs. Received: {learning_rate}")
        batches = self._batches(self.text.train)
        steps = len(batches[0])
        optimizer = self.worker.optimizer(
            self.optimizer(_schedule(learning_rate, epochs, steps), global_clipnorm=self.clip)
        )
        model.compile(optimizer, SequenceLoss(self.steps))
        return train_stage(
            model,
            Path(self.folder) / f"{stage}.npz",
            epochs,
            self.worker,
            lambda start, stop: _read(batches, teacher).repeat(stop - start).prefetch(4),
            tf.data.Dataset.from_tensor_slices(self._batches(self.text.valid)),
            steps,
            (BeginAnew(), Perplexity(self.steps, taught=teacher is not None), *callbacks),
        )

    def perplexity(self, model: keras.Model, part: str = "test") -> float:
        """exp of the mean cross entropy of a part's words, each text from its beginning.

        Args:
            model: as `fit` takes it.
            part: "train", "valid" or "test".
        """
        reset_states(model)
        total = words = 0
        for inputs, targets in zip(*self._batches(getattr(self.text, part)), strict=True):
            logits = model.predict_on_batch(inputs)
            total += float(np.sum(keras.losses.sparse_categorical_crossentropy(targets, logits, from_logits=True)))
            words += targets.size
        reset_states(model)
        return math.exp(total / words)

    def _batches(self, words):
        """Two arrays (batches, rows, steps), this worker's: words, and those that follow them."""
        length = (len(words) - 1) // self.batch_size // self.steps * self.steps
        shape = (self.batch_size, length // self.steps, self.steps)
        parts = [words[shift : shift + self.batch_size * length].reshape(shape) for shift in (0, 1)]
        return tuple(part[self.worker.rank :: self.worker.size].swapaxes(0, 1) for part in parts)


def _read(batches, teacher):
    """A data set of batches of words and targets; with a teacher, each target has its logits behind it."""
    if teacher is None:
        return tf.data.Dataset.from_tensor_slices(batches)

    def taught():
        reset_states(teacher)
        for words, targets in zip(*batches, strict=True):
            yield words, np.concatenate([targets[..., None], teacher.predict_on_batch(words)], -1, dtype="float32")

    rows, steps = batches[0].shape[1:]
    targets = tf.TensorSpec((rows, steps, 1 + teacher.output_shape[-1]), "float32")
    return tf.data.Dataset.from_generator(taught, output_signature=(tf.TensorSpec((rows, steps), "int32"), targets))


def _schedule(learning_rate, epochs, steps):
    """A learning rate for each of an epoch's steps."""
    if isinstance(learning_rate, Sequence):
        ends, rates = [steps * epoch for epoch in range(1, epochs + 1)], [*learning_rate, learning_rate[-1]]
    else:
        third = max(1, epochs * steps // 3)
        ends, rates = [third, 2 * third], [learning_rate, learning_rate / 10, learning_rate / 100]
    return keras.optimizers.schedules.PiecewiseConstantDecay(ends, rates)


class SequenceLoss(keras.losses.Loss):
    """Cross entropy of the next words, summed over the steps, the mean over texts.

    Where the targets have a teacher's logits behind each word, half of it is the divergence from the teacher's answers.

    Args:
        steps: how many there are.
    """

    def __init__(self, steps, name="sequence_loss"):
        super().__init__(name=name, reduction="sum_over_batch_size")
        self.steps = steps

    def call(self, y_true, y_pred):
        if len(y_true.shape) == len(y_pred.shape):
            return self.steps * Distillation(temperature=1.0, share=0.5).call(y_true, y_pred)
        return self.steps * keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)

    def get_config(self):
        return {"name": self.name, "steps": self.steps}


class Perplexity(keras.callbacks.Callback):
    """Adds to an epoch's curves the perplexities, exp(loss / steps).

    Args:
        steps: over which the loss is summed.
        taught: whether the loss of training is not that of the words alone, and gives no perplexity.
    """

    def __init__(self, steps, taught=False):
        super().__init__()
        self.steps = steps
        self.prefixes = ("val_",) if taught else ("", "val_")

    def on_epoch_end(self, epoch, logs=None):
        for prefix in self.prefixes:
            logs[f"{prefix}perplexity"] = math.exp(logs[f"{prefix}loss"] / self.steps)


class BeginAnew(keras.callbacks.Callback):
    """Every epoch, and every validation, reads its text from the beginning."""

    def on_epoch_begin(self, epoch, logs=None):
        reset_states(self.model)

    def on_test_begin(self, logs=None):
        reset_states(self.model)


def reset_states(model: keras.Model) -> None:
    """Set the states that a model's recurrent layers keep to zero."""
    for layer in all_layers(model):
        if isinstance(layer, keras.layers.RNN) and layer.stateful:
            layer.reset_state()


def at_rest(model: keras.Model, batch_size: int | None = None, steps: int | None = None) -> keras.Model:
    """The same model for texts that stand for themselves: no states are kept, and the batch is another.

    Args:
        model: Functional, from one input of words.
        batch_size: of the new model; None: any.
        steps: likewise.
    """

    def anew(layer):
        config = layer.get_config()
        return type(layer).from_config(config | ({"stateful": False} if "stateful" in config else {}))

    words = keras.Input(batch_shape=(batch_size, steps), dtype="int32", name="words")
    untrained = keras.Model(model.input, model.output, name=model.name)  # without the loss, which files could not name
    inputs = keras.tree.pack_sequence_as(model.input, [words])
    copy = keras.models.clone_model(untrained, input_tensors=inputs, clone_function=anew)
    for new, old in zip(copy.trainable_variables, model.trainable_variables, strict=True):
        new.assign(old)
    return copy
