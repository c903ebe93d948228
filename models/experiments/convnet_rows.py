"""The rows of the results on rows and columns that are learned: the paper's three-convolution network on CIFAR-10."""

import dataclasses
import functools
import statistics
from pathlib import Path

import keras
import numpy as np

import tf_terngrad as tt
from models.convnet import convnet
from models.experiments.processor_time import compare_products
from models.training.trainer import Trainer
from tf_terngrad.files import save_model
from tf_terngrad.sparsity.learn.penalties import zero_small

SHARES = (6, 4, 3)  # of all epochs: dense, with the penalty from there on, and further with zeros held, as in the paper
LEARNING_RATES = (0.05, 0.05, 0.01)
BATCH_SIZE = 100
THRESHOLD = 1e-4
LAYERS = ("conv1", "conv2", "conv3")
PAPER = (
    "paper, dense | 17.9 | 0, 0, 0 | 0, 0, 0 | 1, 1, 1 |",
    "paper, rows and columns | 17.9 | 50.0, 28.1, 1.6 | 0, 59.3, 35.1 | 1.43, 3.05, 1.57 |",
    "paper, fewer | 16.9 | | | 1.25, 2.01, 1.18 |",
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        name: of the row and of its folder.
        rows: the strength of the penalty on each filter, the kernel's rows.
        columns: of that on each shape fibre, the columns.
        l1: of one on each weight, instead.
    """

    name: str
    rows: float = 0.0
    columns: float = 0.0
    l1: float = 0.0

    def penalize(self, model: keras.Model) -> None:
        """Put the penalties of the row on the three kernels; none where all strengths are zero."""
        for layer in map(model.get_layer, LAYERS):
            if self.rows or self.columns:
                layer.kernel.regularizer = tt.regularizers.FilterLasso(self.rows) + tt.regularizers.ShapeLasso(
                    self.columns
                )
                layer.kernel.constraint = functools.partial(zero_small, threshold=THRESHOLD)
            if self.l1:
                layer.kernel.regularizer = keras.regularizers.L1(self.l1)
                layer.kernel.constraint = functools.partial(zero_small, threshold=THRESHOLD)


ROWS = (
    Row("dense"),
    Row("ssl", rows=0.003, columns=0.003),
    Row("ssl-less", rows=0.0015, columns=0.0015),
    Row("l1", l1=1.5e-4),
)


@dataclasses.dataclass(frozen=True)
class Kernel:
    """What a convolution's kernel came to, as a matrix with a row a filter: shares of zeros, and times over the dense.

    Args:
        rows, columns, zeros: shares.
        product: how many times faster the matrix product is without rows and columns of zeros.
        sparse: how many times faster with all zeros in sparse storage.
    """

    rows: float
    columns: float
    zeros: float
    product: float
    sparse: float


def train(row: Row, seed: int, data: tuple, folder: Path, epochs: int) -> keras.Model:
    """The row's final model for a seed, kept in the folder; trained if it is not there yet.

    Args:
        row: what to train.
        seed: of first weights and orders of examples.
        data: as `models.data.datasets.load` gives it.
        folder: where checkpoints and models are kept.
        epochs: of all three stages together.
    """
    final = folder / row.name / f"seed{seed}" / "final.keras"
    if final.exists():
        return keras.models.load_model(final, compile=False)
    first, second, third = (max(1, round(epochs * share / sum(SHARES))) for share in SHARES)
    keras.utils.set_random_seed(seed)
    data, model = _centred(data), convnet()
    _trainer(folder / "dense" / f"seed{seed}", data, seed, decay=0.0005).fit(model, "first", first, LEARNING_RATES[0])
    row.penalize(model)
    own = _trainer(final.parent, data, seed, decay=0.0 if row != ROWS[0] else 0.0005)
    own.fit(model, "sparse", second, LEARNING_RATES[1])
    hold(model)
    _trainer(final.parent, data, seed, decay=0.0005).fit(model, "further", third, LEARNING_RATES[2])
    for layer in map(model.get_layer, LAYERS):
        layer.kernel.constraint = None
    save_model(model, final)
    return model


def hold(model: keras.Model) -> None:
    """Take the penalties off, and hold weights that are zero now at zero."""
    for layer in map(model.get_layer, LAYERS):
        alive = keras.ops.convert_to_numpy(layer.kernel) != 0
        layer.kernel.regularizer = None
        layer.kernel.constraint = functools.partial(keras.ops.multiply, alive.astype("float32"))


def measure(model: keras.Model, runs: int = 50) -> list[Kernel]:
    """What became of each kernel, and what that brings on one thread."""
    sizes = dict(zip(LAYERS, (32, 16, 8), strict=True))
    return [_kernel(model.get_layer(name).kernel.numpy(), size**2, runs) for name, size in sizes.items()]


def _kernel(kernel, places, runs):
    matrix = np.ascontiguousarray(kernel.reshape(-1, kernel.shape[-1]).T)
    _, faster = compare_products([matrix], places, runs, np.random.default_rng(0))
    return Kernel(1 - matrix.any(1).mean(), 1 - matrix.any(0).mean(), 1 - (matrix != 0).mean(), *faster)


def table(results: dict[Row, list[keras.Model]], data: tuple, folder: Path) -> str:
    """A Markdown table of the rows beside the paper's; `results`: the models of each row's seeds."""
    test = _centred(data)[1]
    lines = [
        "| | error %, mean (each seed) | rows zero %, conv1-3 | columns zero % | product x | all zeros % | CSR x "
        "| multiply-adds after compact | TFLite ms |",
        "|---|---|---|---|---|---|---|---|---|",
        *(f"| *{line.split(' | ', 1)[0]}* | {line.split(' | ', 1)[1]} | | | |" for line in PAPER),
    ]
    small = {row: tt.compact(models[0]) for row, models in results.items()}
    files = [folder / f"{row.name}.tflite" for row in results]
    for row, file in zip(results, files, strict=True):
        tt.tflite.convert(small[row], file)
    latency = tt.tflite.compare_latency(files).reports
    for (row, models), report in zip(results.items(), latency, strict=True):
        errors = [100 * Trainer(Path(), test, test).test_error(model) for model in models]
        kernels = measure(models[0])
        shares = [_listed(100 * getattr(each, name) for each in kernels) for name in ("rows", "columns", "zeros")]
        times = [", ".join(f"{getattr(each, name):.2f}" for each in kernels) for name in ("product", "sparse")]
        lines.append(
            f"| {row.name} | {statistics.mean(errors):.2f} ({', '.join(f'{error:.2f}' for error in errors)}) "
            f"| {shares[0]} | {shares[1]} | {times[0]} | {shares[2]} | {times[1]} "
            f"| {tt.costs(small[row]).multiply_adds:,} | {report.median:.4f} |"
        )
    return "\n".join(lines)


def _listed(shares):
    return ", ".join(f"{share:.1f}" for share in shares)


def _centred(data):
    """The data less the mean training image."""
    mean = data[0][0].mean(0)
    return tuple((images - mean, labels) for images, labels in data)


def _trainer(folder, data, seed, decay):
    optimizer = functools.partial(keras.optimizers.SGD, momentum=0.9, weight_decay=decay or None)
    return Trainer(folder, *data, BATCH_SIZE, seed, optimizer)
