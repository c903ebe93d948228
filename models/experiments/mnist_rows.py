"""The rows of the results on MNIST: what each trains, and how it is measured."""

import dataclasses
import functools
import statistics
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np

import tf_terngrad as tt
from models import NETWORKS
from models.experiments.cuts import multiply_adds
from models.training.trainer import Trainer
from tf_terngrad.files import save_model
from tf_terngrad.sparsity.learn.penalties import zero_small

LEARNING_RATE = 0.05
BATCH_SIZE = 128


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What the rows of one network share.

    Args:
        epochs: of sparse training, and of further training.
        paper: lines of the paper's table.
        tolerance: weights up to this magnitude leave in between.
    """

    epochs: tuple[int, int]
    paper: tuple[str, ...]
    tolerance: float = 0.0


RECIPES = {
    "lenet": Recipe(
        (10, 60),
        (
            "paper, baseline | 0.9 | 20-50-500 | 100 %",
            "paper, row 2 | 0.8 | 5-19 filters | conv1 25 %, conv2 7.6 %",
            "paper, row 3 | 1.0 | 3-12 filters | conv1 15 %, conv2 3.6 %",
        ),
    ),
    "mlp": Recipe(
        (20, 30),
        (
            "paper, baseline | 1.43 | 784-500-300-10 | 100 %",
            "paper | 1.34 | 469-294-166-10 | 35 %",
            "paper | 1.53 | 434-174-78-10 | 16 %",
        ),
        tolerance=1e-3,  # a pixel that was shrunk to zero is pulled off it again by the next image that lights it
    ),
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a table: a network, and the strength for each kind or layer.

    Args:
        name: of the row and of its folder.
        network: a key of `RECIPES`.
        strengths: the group lasso's strength by kind or by name of a layer; empty: a dense baseline.
        l1: the strength of a plain l1 penalty on every kernel, instead.
        taught: whether the second stage learns from the answers of the dense baseline too.
        decay: AdamW's weight decay in the second stage; the dense networks want much of it, the taught ones little.
        learning_rate: AdamW's, at the start of the second stage; small networks that are taught want a large one.
    """

    name: str
    network: str
    strengths: Mapping[str, float] = dataclasses.field(default_factory=dict)
    l1: float = 0.0
    taught: bool = False
    decay: float = 0.3
    learning_rate: float = 0.004

    @property
    def baseline(self) -> "Row":
        """The row that goes through the same stages with nothing taken out."""
        return next(row for row in ROWS if row.network == self.network and not row.strengths and not row.l1)

    def penalize(self, model: keras.Model) -> None:
        """Put the penalties of the row on a new model."""
        for name, strength in self.strengths.items():
            chosen = {"kinds": [name]} if name in ("unit", "input") else {"include": [name]}
            tt.sparsify(model, strength=strength, **chosen)
        for variable in model.trainable_variables if self.l1 else ():
            if variable.name == "kernel":
                variable.regularizer = keras.regularizers.L1(self.l1)
                variable.constraint = lambda value: zero_small(value, 1e-4)


TAUGHT = {"taught": True, "decay": 0.05, "learning_rate": 0.012}
ROWS = (
    Row("lenet-dense", "lenet"),
    Row("lenet-sparse", "lenet", {"conv1": 0.02, "conv2": 0.0027, "dense1": 0.0014}, **TAUGHT),
    Row("lenet-sparser", "lenet", {"conv1": 0.02, "conv2": 0.0034, "dense1": 0.0018}, **TAUGHT),
    Row("lenet-sparse-untaught", "lenet", {"conv1": 0.02, "conv2": 0.0027, "dense1": 0.0014}),
    Row("lenet-l1", "lenet", l1=1e-4, **TAUGHT),
    Row("mlp-dense", "mlp"),
    Row("mlp-sparse", "mlp", {"unit": 0.0004, "input": 0.001}, taught=True, decay=0.05),
    Row("mlp-sparser", "mlp", {"unit": 0.0006, "input": 0.002}, taught=True, decay=0.05),
    Row("mlp-sparse-untaught", "mlp", {"unit": 0.0004, "input": 0.001}),
)


@dataclasses.dataclass(frozen=True)
class Result:
    """What the models of a row's seeds came to: one value each."""

    row: Row
    errors: list[float]
    widths: list[str]
    multiply_adds: list[int]
    weights: list[int]
    nonzero: list[int]


def train(row: Row, seed: int, data: tuple, folder: Path) -> keras.Model:
    """The row's final model for a seed, kept in the folder; trained if it is not there yet."""
    teacher = train(row.baseline, seed, data, folder) if row.taught else None
    folder = folder / row.name / f"seed{seed}"
    final = folder / "final.keras"
    if final.exists():
        return keras.models.load_model(final, compile=False)
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(seed)
    model = NETWORKS[row.network](data[0][0].shape[1:], 10)
    row.penalize(model)
    recipe = RECIPES[row.network]
    first, further = recipe.epochs
    Trainer(folder, *data, BATCH_SIZE, seed, _momentum).fit(model, "sparse", first, LEARNING_RATE)
    small = model if row.l1 else tt.compact(model, tolerance=recipe.tolerance)
    trainer = Trainer(folder, *data, BATCH_SIZE, seed, functools.partial(_adamw, decay=row.decay))
    trainer.fit(small, "further", further, row.learning_rate, teacher=teacher)
    save_model(small, final)
    return small


def measure(row: Row, models: list[keras.Model], data: tuple) -> Result:
    """Errors and sizes of a row's models."""
    trainer = Trainer(Path(), *data)
    return Result(
        row,
        [100 * trainer.test_error(model) for model in models],
        ["-".join(str(layer.kernel.shape[-1]) for layer in _with_kernels(model)) for model in models],
        [multiply_adds(model) for model in models],
        [model.count_params() for model in models],
        [sum(int(np.count_nonzero(array)) for array in model.get_weights()) for model in models],
    )


def table(network: str, results: list[Result], folder: Path) -> str:
    """A Markdown table of the rows of one network beside the paper's."""
    dense = results[0]
    lines = [
        "| | error %, mean (each seed) | widths | multiply-adds | weights kept | not zero | TFLite bytes | TFLite ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in RECIPES[network].paper:
        name, error, widths, cost = (cell.strip() for cell in row.split("|"))
        lines.append(f"| *{name}* | {error} | {widths} | {cost} | | | | |")
    files = [folder / f"{result.row.name}.tflite" for result in results]
    for result, file in zip(results, files, strict=True):
        tt.tflite.convert(keras.models.load_model(folder / result.row.name / "seed0" / "final.keras"), file)
    latency = tt.tflite.compare_latency(files).reports
    for result, report in zip(results, latency, strict=True):
        each = ", ".join(f"{error:.2f}" for error in result.errors)
        lines.append(
            f"| {result.row.name} | {statistics.mean(result.errors):.2f} ({each}) | {'; '.join(result.widths)} "
            f"| {_shares(result.multiply_adds, dense.multiply_adds)} | {_shares(result.weights, dense.weights)} "
            f"| {_shares(result.nonzero, dense.weights)} | {report.bytes:,} | {report.median:.4f} |"
        )
    return "\n".join(lines)


def _with_kernels(model: keras.Model) -> list[keras.Layer]:
    return [layer for layer in model.layers if any(weight.name == "kernel" for weight in layer.weights)]


def _shares(values: list[int], whole: list[int]) -> str:
    return ", ".join(f"{100 * value / whole[0]:.2f} %" for value in values)


def _momentum(rate):
    return keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, weight_decay=5e-3)


def _adamw(rate, decay):
    return keras.optimizers.AdamW(rate, weight_decay=decay)
