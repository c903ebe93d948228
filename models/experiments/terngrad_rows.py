"""The rows of the results on ternary gradients: what each trains, and with how many simulated workers."""

import csv
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import keras
import tensorflow as tf

import tf_terngrad as tt
from models import NETWORKS
from models.data.augmentation import centre, crop
from models.training.distillation import label_loss
from models.training.trainer import EVALUATION_BATCH, batches
from tf_terngrad.files import write

POINTS = 20  # of a curve


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a network trains in the paper.

    Args:
        network: a key of `models.NETWORKS`.
        dataset: a name that `models.data.datasets.load` knows.
        image_shape: of what it is given.
        optimizers: name -> from a learning-rate schedule to an optimizer, and the rate at the start.
        power: of the schedule's polynomial, which ends at 0; 0: the rate stays.
        weight_decay: of w / 2 times the square of every kernel, in the loss, so that it travels with the gradient.
        iterations: steps of training, of batches of `batch_size` examples.
        prepare: of the images of a training batch and a seed, and of all test images, what the network is given.
    """

    network: str
    dataset: str
    image_shape: tuple[int, int, int]
    optimizers: dict[str, tuple[Callable, float]]
    power: float
    weight_decay: float
    iterations: int
    batch_size: int
    prepare: tuple[Callable | None, Callable | None] = (None, None)


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a table.

    Args:
        recipe: a key of `RECIPES`.
        optimizer: one of the recipe's.
        workers: how many, who share every batch.
        compression: None: gradients travel as floats.
        batches: how many of the recipe's batches are one step; the iterations are so many times fewer.
        what: words for the compression.
    """

    recipe: str
    optimizer: str
    workers: int = 1
    compression: tt.TernGrad | None = None
    batches: int = 1
    what: str = "float"

    @property
    def name(self) -> str:
        """Of the row's folder."""
        return "-".join([self.recipe, self.optimizer, str(self.workers), *self.what.replace(",", "").split()])


RECIPES = {
    "lenet": Recipe(
        "lenet",
        "mnist",
        (28, 28, 1),
        {"sgd": (keras.optimizers.SGD, 0.1), "momentum": (lambda rate: keras.optimizers.SGD(rate, momentum=0.9), 0.01)},
        power=0.5,
        weight_decay=5e-4,
        iterations=10_000,
        batch_size=64,
    ),
    "cifarnet": Recipe(
        "cifarnet",
        "cifar10",
        (24, 24, 3),
        {"adam": (keras.optimizers.Adam, 2e-4)},
        power=0.0,
        weight_decay=0.004,
        iterations=300_000,
        batch_size=128,
        prepare=(crop, centre),
    ),
}


def _lenet_rows():
    for optimizer in RECIPES["lenet"].optimizers:
        yield Row("lenet", optimizer)
        for workers in (2, 8, 64):
            yield Row("lenet", optimizer, workers, tt.TernGrad(smallest=1), what="ternary")


def _cifarnet_rows():
    variants = {
        "ternary": tt.TernGrad(smallest=1),
        "ternary, unclipped": tt.TernGrad(smallest=1, clip=None),
        "ternary, buckets of 4096": tt.TernGrad(smallest=1, bucket_size=4096),
        "ternary, buckets of 256": tt.TernGrad(smallest=1, bucket_size=256),
    }
    for workers, joined in ((2, 1), (16, 16)):
        yield Row("cifarnet", "adam", workers, batches=joined)
        for what, compression in variants.items():
            yield Row("cifarnet", "adam", workers, compression, joined, what)


ROWS = (*_lenet_rows(), *_cifarnet_rows())


def train(row: Row, seed: int, data: tuple, folder: Path, iterations: int | None = None) -> list[tuple[int, float]]:
    """The row's curve for a seed, kept in the folder; trained if it is not there yet.

    Args:
        row: what to train.
        seed: of the initial weights, the order of the examples and the digits.
        data: as `models.data.datasets.load` gives it.
        folder: where the curves are kept; of the first seed, histograms of ternary gradients too, at the beginning,
            half of the way and at the end.
        iterations: instead of the recipe's.

    Returns:
        (iteration, test error in percent) of `POINTS` points, the last one of the trained model.

    Raises:
        ValueError: fewer steps than points.
    """
    recipe = RECIPES[row.recipe]
    iterations = (iterations or recipe.iterations) // row.batches
    if iterations < POINTS:
        raise ValueError(f"Row {row.name}: expected at least {POINTS} steps. Received: {iterations}")
    file = Path(folder) / row.name / f"seed{seed}-{iterations}.csv"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        pictures = file.parent / "histograms" if seed == 0 else None
        errors = [100 * (1 - accuracy) for accuracy in _accuracies(row, recipe, seed, data, iterations, pictures)]
        lines = "".join(f"{step},{error:.4f}\n" for step, error in zip(_points(iterations), errors, strict=True))
        write(file, lines.encode())
    with file.open(encoding="utf-8") as stream:
        return [(int(step), float(error)) for step, error in csv.reader(stream)]


def _accuracies(row, recipe, seed, data, iterations, pictures):
    """On the test images, at each point of the curve."""
    (images, labels), test = data
    of_batch, of_images = recipe.prepare
    test = (of_images(test[0]), test[1]) if of_images else test
    optimizer, rate = recipe.optimizers[row.optimizer]
    if recipe.power:
        rate = keras.optimizers.schedules.PolynomialDecay(rate, iterations, 0.0, recipe.power)
    keras.utils.set_random_seed(seed)
    model = NETWORKS[recipe.network](recipe.image_shape, int(labels.max()) + 1)
    for variable in model.trainable_variables:
        if variable.name == "kernel":
            variable.regularizer = keras.regularizers.L2(recipe.weight_decay / 2)
    model.compile(optimizer(rate), label_loss(), metrics=["accuracy"])
    size, callbacks = recipe.batch_size * row.batches, []
    if row.compression is not None:
        tt.distributed.simulate(model, row.workers, dataclasses.replace(row.compression, seed=seed))
        if pictures:
            few = of_images(images[:size]) if of_images else images[:size], labels[:size]
            callbacks += [
                tt.distributed.callbacks.GradientHistograms(
                    *few, pictures, row.compression, row.workers, every=POINTS // 2
                )
            ]
    epochs = math.ceil(iterations / (len(images) // size))
    stream = batches(images, labels, size, seed, 0, epochs, of_batch).filter(lambda _, answers: len(answers) == size)
    history = model.fit(
        stream,
        steps_per_epoch=iterations // POINTS,
        epochs=POINTS,
        shuffle=False,  # the batches come shuffled
        validation_data=tf.data.Dataset.from_tensor_slices(test).batch(EVALUATION_BATCH),
        callbacks=callbacks,
        verbose=2,
    )
    return history.history["val_accuracy"]


def _points(iterations):
    return [iterations // POINTS * point for point in range(1, POINTS + 1)]
