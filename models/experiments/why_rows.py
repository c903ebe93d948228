"""The rows of the tables that explain the package: zeros beside structure, and quantization by Keras beside ours."""

import dataclasses
import gzip
import warnings
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import tf_terngrad as tt
from models.experiments.measures import error_percent, reason
from tf_terngrad.sparsity.costs import layer_costs
from tf_terngrad.tflite.litert import Runner, quiet

CALIBRATION = 200
Split = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Row:
    """One way from a model to a file.

    Args:
        name: of the row.
        model: from images to logits.
        write: a function of the model, the path of the file and some training images.
    """

    name: str
    model: keras.Model
    write: Callable


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of a row: the file and its error in percent, or why there is none."""

    row: Row
    path: Path
    error: float | None = None
    refusal: str | None = None


@keras.saving.register_keras_serializable("tf_terngrad.models")
class Kept(keras.constraints.Constraint):
    """Holds all weights at zero but the largest of a kernel, as magnitude pruning does."""

    def __init__(self, kernel: np.ndarray, share: float):
        count = max(1, int(share * kernel.size))
        self.mask = (np.abs(kernel) >= np.sort(np.abs(kernel), axis=None)[-count]).astype(kernel.dtype)

    def __call__(self, kernel):
        """The kernel with zeros."""
        return kernel * self.mask


def prune(model: keras.Model, share: float) -> keras.Model:
    """A copy of a model that keeps this share of each kernel's weights, the largest; the others stay zero in training.

    Weights are zero one by one, so that every shape stays. The multiply-adds of those that are left are this share of
    the model's.
    """
    pruned = copy_of(model)
    for layer in pruned.layers:
        if getattr(layer, "kernel", None) is not None:
            layer.kernel.constraint = Kept(keras.ops.convert_to_numpy(layer.kernel), share)
            layer.kernel.assign(layer.kernel.constraint(layer.kernel))
    return pruned


def copy_of(model: keras.Model) -> keras.Model:
    """A copy of a model."""
    copied = keras.models.clone_model(model)
    copied.set_weights(model.get_weights())
    return copied


def multiply_adds(model: keras.Model) -> int:
    """The multiply-adds of a model for one example, those by weights that are zero left out."""
    return sum(round(cost.multiply_adds * _share_not_zero(cost.layer)) for cost in layer_costs(model))


def weights(model: keras.Model) -> int:
    """How many of a model's weights are not zero."""
    return sum(np.count_nonzero(weight) for weight in model.get_weights())


def _share_not_zero(layer):
    kernel = getattr(layer, "kernel", None)
    return 0.0 if kernel is None else float(np.mean(keras.ops.convert_to_numpy(kernel) != 0))


def by_convert(quantize: str | tt.tflite.QuantizationMode | None) -> Callable:
    """A row's `write`: this package's conversion in one of its modes."""

    def write(model, path, images):
        tt.tflite.convert(model, path, quantize, calibration=images[:CALIBRATION])

    return write


def by_keras(quantize: str | None) -> Callable:
    """A row's `write`: Keras's own `model.quantize` and `model.export(format="litert")`."""

    def write(model, path, images):
        copied = copy_of(model)
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the layers that Keras leaves as they are
            if quantize is not None:
                copied.quantize(quantize)
            copied.export(path, format="litert", verbose=False)

    return write


def _sparse(converter):
    converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]


SPARSE = tt.tflite.QuantizationMode("sparse", _sparse, tolerance=1e-4, exact=True)
"""TFLite's format for matrices with zeros, which stores where the others are."""


def zero_rows(dense: keras.Model, zeros: keras.Model, compact: keras.Model) -> list[Row]:
    """Zeros beside structure, at equal multiply-adds."""
    return [
        Row("dense", dense, by_convert(None)),
        Row("zeros", zeros, by_convert(None)),
        Row("zeros, `EXPERIMENTAL_SPARSITY`", zeros, by_convert(SPARSE)),
        Row("structure taken out", compact, by_convert(None)),
    ]


def quantization_rows(dense: keras.Model, compact: keras.Model) -> list[Row]:
    """Keras's own quantization beside this package's."""
    return [
        Row("Keras: `export`, float32", dense, by_keras(None)),
        Row('Keras: `quantize("int8")`, `export`', dense, by_keras("int8")),
        Row('Keras: `quantize("int4")`, `export`', dense, by_keras("int4")),
        Row("ours: float32", dense, by_convert(None)),
        Row("ours: float16", dense, by_convert("float16")),
        Row("ours: dynamic", dense, by_convert("dynamic")),
        Row("ours: int8", dense, by_convert("int8")),
        Row("ours: structure taken out, int8", compact, by_convert("int8")),
    ]


def measure(row: Row, path: Path, train: Split, test: Split) -> Result:
    """Writes a row's file and measures its error; what the converter refuses is a result too."""
    try:
        row.write(row.model, path, train[0])
        (logits,) = Runner(path).run([test[0]])
    except Exception as error:  # they raise whatever Keras, TensorFlow and the converter raise
        return Result(row, path, refusal=reason(error))
    return Result(row, path, error=error_percent(logits, test[1]))


def table(results: list[Result]) -> str:
    """A Markdown table; the latencies are measured in turns, one thread, batch 1."""
    files = [result for result in results if result.refusal is None]
    latency = dict(zip(files, tt.tflite.compare_latency([one.path for one in files]).reports, strict=True))
    lines = [
        "| | error % | weights not zero | multiply-adds by them | bytes | by gzip | ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        model = result.row.model
        start = f"| {result.row.name} | {{}} | {weights(model):,} | {multiply_adds(model):,} |"
        if result.refusal is not None:
            lines.append(f"{start.format('')} `{result.refusal}` | | |")
            continue
        content = result.path.read_bytes()
        lines.append(
            f"{start.format(f'{result.error:.2f}')} {len(content):,} | {len(gzip.compress(content, 9)):,} "
            f"| {latency[result].median:.4f} |"
        )
    return "\n".join(lines)
