"""Training of image classifiers, every stage resumable. Language models have `language_trainer`."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from models.data.augmentation import shift
from models.training.distillation import Distillation, accuracy, label_loss, lesson
from models.training.stage import train_stage
from models.training.workers import Worker

EVALUATION_BATCH = 1000


@dataclasses.dataclass(frozen=True)
class Trainer:
    """Trains classifiers that give logits on one data set, and goes on where a killed training stopped.

    The order of the examples depends on the seed and the epoch alone, so that a resumed training sees what an unbroken
    one would have seen.

    Args:
        folder: where the checkpoints and curves go, `<stage>.npz` and `<stage>.csv`.
        train: images (count, height, width, channels) and labels (count,) to train on.
        test: the same, to measure the error on.
        batch_size: examples in a batch, of all workers together: several train as one would.
        seed: of the order of the examples.
        optimizer: makes an optimizer from a learning-rate schedule.
        worker: this process among those that train together.
        jit_compile: as `keras.Model.compile` takes it. Without XLA a ResNet-20 trains twice as fast on a processor.
        prepare: a function of `models.data.augmentation`, how images to train on differ each time; None: they do not.

    Raises:
        ValueError: images or labels of shapes that do not fit together, or a batch that cannot be shared out.
    """

    folder: Path
    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    batch_size: int = 64
    seed: int = 0
    optimizer: Callable[[keras.optimizers.schedules.LearningRateSchedule], keras.optimizers.Optimizer] = (
        keras.optimizers.SGD
    )
    worker: Worker = dataclasses.field(default_factory=Worker)
    jit_compile: bool | str = "auto"
    prepare: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None

    def __post_init__(self):
        self.worker.part_of(self.batch_size)
        for part, (images, labels) in {"train": self.train, "test": self.test}.items():
            if len(images) == 0 or labels.shape != images.shape[:1]:
                raise ValueError(
                    f"{part}: expected as many labels as images, at least one. "
                    f"Received: images of shape {images.shape}, labels of shape {labels.shape}"
                )

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of one image."""
        return self.train[0].shape[1:]

    @property
    def classes(self) -> int:
        """How many classes the labels name."""
        return int(self.train[1].max()) + 1

    def fit(
        self,
        model: keras.Model,
        stage: str,
        epochs: int,
        learning_rate: float,
        callbacks: tuple[keras.callbacks.Callback, ...] = (),
        teacher: keras.Model | None = None,
    ) -> dict[str, list[float]]:
        """Compile and train, going on after the last epoch that the stage's checkpoint holds.

        Args:
            model: from images to logits.
            stage: the name of the checkpoint and of the curves.
            epochs: how many, counted from the very first.
            learning_rate: at the start; it falls to 0 along a cosine.
            callbacks: further Keras callbacks.
            teacher: a trained model of the same data, whose softened answers the model learns beside the labels, from
                images that are shifted by up to a pixel (`models.data.augmentation`); None: images and labels alone.

        Returns:
            The curves, one value an epoch, by name.

        Raises:
            ValueError: the model does not fit the data, or the checkpoint is of another model.
        """
        self._check_fits(model)
        loss, metric, prepare, train, test = label_loss(), "accuracy", self.prepare, self.train, self.test
        if teacher is not None:
            self._check_fits(teacher)
            loss, metric, prepare = Distillation(), accuracy, shift
            train, test = ((images, lesson(teacher, images, labels)) for images, labels in (train, test))
        steps = self.worker.steps(len(self.train[0]), self.batch_size)
        schedule = keras.optimizers.schedules.CosineDecay(learning_rate, max(1, epochs * steps))
        optimizer = self.worker.optimizer(self.optimizer(schedule))
        model.compile(optimizer, loss, metrics=[metric], jit_compile=self.jit_compile)
        curves = train_stage(
            model,
            Path(self.folder) / f"{stage}.npz",
            epochs,
            self.worker,
            lambda start, stop: self._batches(train, start, stop, prepare),
            tf.data.Dataset.from_tensor_slices(test).batch(EVALUATION_BATCH),
            steps,
            callbacks,
        )
        if teacher is not None:
            model.compile(model.optimizer, label_loss(), metrics=["accuracy"])  # what a file of the model can name
        return curves

    def first_loss(self, model: keras.Model) -> keras.KerasTensor:
        """The loss of the first batch of the first epoch, a scalar tensor."""
        images, labels = next(iter(batches(*self.train, self.batch_size, self.seed, 0, 1)))
        return label_loss()(labels, model(images, training=True))

    def test_error(self, model: keras.Model) -> float:
        """The share of the test images that the model gets wrong, 0 to 1."""
        images, labels = self.test
        logits = model.predict(images, batch_size=EVALUATION_BATCH, verbose=0)
        return float(np.mean(logits.argmax(-1) != labels))

    def _batches(self, examples, start, stop, prepare):
        """This worker's part of each batch."""
        return batches(
            *examples, self.batch_size, self.seed, start, stop, prepare, (self.worker.rank, self.worker.size)
        )

    def _check_fits(self, model: keras.Model) -> None:
        expected = ((None, *self.image_shape), (None, self.classes))
        if (model.input_shape, model.output_shape) != expected:
            raise ValueError(
                f"Model {model.name!r} does not fit the data. Expected input and output of shapes {expected}. "
                f"Received: {(model.input_shape, model.output_shape)}"
            )


def batches(
    images: np.ndarray,
    labels: np.ndarray,
    batch_size: int,
    seed: int,
    start: int,
    stop: int,
    prepare=None,
    part: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """The batches of epochs start to stop - 1, each epoch in an order that depends on the seed and its number alone.

    Args:
        images: of shape (count, ...).
        labels: of shape (count, ...).
        batch_size: examples in a batch; the last one of an epoch may be smaller.
        seed: of the order.
        start: number of the first epoch.
        stop: number after the last one.
        prepare: function of the images of a batch and a seed, what the images become; None: they stay.
        part: (k, n), every n-th example of each batch from the k-th on; a last, smaller batch is then left out.
    """
    images, labels = tf.constant(images), tf.constant(labels)

    def one_epoch(epoch):
        order = tf.random.experimental.stateless_shuffle(tf.range(len(labels)), seed=tf.stack([seed, epoch]))
        rows = tf.data.Dataset.from_tensor_slices(order).batch(batch_size, drop_remainder=part[1] > 1)
        mine = rows.map(lambda row: row[part[0] :: part[1]])
        chosen = mine.map(lambda row: (tf.gather(images, row), tf.gather(labels, row)))
        if prepare is None:
            return chosen
        numbered = chosen.enumerate()
        return numbered.map(
            lambda step, batch: (prepare(batch[0], tf.stack([seed, epoch, step])), batch[1]), tf.data.AUTOTUNE
        )

    return tf.data.Dataset.range(start, stop).flat_map(one_epoch).prefetch(tf.data.AUTOTUNE)
