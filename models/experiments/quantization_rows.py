"""The rows of the comparison of quantization: how a compact model becomes a small file, and what that file is worth."""

import dataclasses
import functools
import gzip
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tf_keras
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

import tf_terngrad as tt
from models.experiments.measures import reason
from models.experiments.model_optimization import CellConfig, clustered, fake_quantized, flatbuffer_of, tfmot
from models.experiments.tf_keras_copy import check_equal, taught_by, tf_keras_copy
from tf_terngrad.files import write
from tf_terngrad.tflite.litert import quiet

CALIBRATION = 200
Split = tuple[np.ndarray, np.ndarray]
_TYPES = {
    schema.TensorType.FLOAT32: np.dtype("float32"),
    schema.TensorType.FLOAT16: np.dtype("float16"),
    schema.TensorType.INT8: np.dtype("int8"),
}


@dataclasses.dataclass(frozen=True)
class Study:
    """A compact model, and the training that every row gives it once more.

    Args:
        model: from one input to logits.
        train: inputs and labels.
        test: the same, to measure on.
        measure: a function of logits and labels.
        measured: what it gives, in words.
        ways: dict from a row's name to a function of the study and the path of the file that it writes.
        clusters: how many different weights a clustered kernel may hold.
        epochs: of the further training, by Adam.
        learning_rate: at its start; it falls to 0 along a cosine.
        batch_size: its examples in a batch.
        seed: of their order.
    """

    model: keras.Model
    train: Split
    test: Split
    measure: Callable[[np.ndarray, np.ndarray], float]
    measured: str
    ways: dict[str, Callable]
    clusters: int = 16
    epochs: int = 10
    learning_rate: float = 1e-3
    batch_size: int = 64
    seed: int = 0

    def copy(self, **options) -> tf_keras.Model:
        """A new tf_keras copy, equal to the model."""
        copy = tf_keras_copy(self.model, **options)
        check_equal(self.model, copy, self.test[0][:32])
        return copy

    def fine_tune(self, copy: tf_keras.Model) -> tf_keras.Model:
        """Trains a copy further, every one on the same batches."""
        steps = self.epochs * -(-len(self.train[0]) // self.batch_size)
        rate = tf_keras.optimizers.schedules.CosineDecay(self.learning_rate, max(1, steps))
        loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        copy.compile(tf_keras.optimizers.Adam(rate), loss)
        tf_keras.utils.set_random_seed(self.seed)
        copy.fit(*self.train, batch_size=self.batch_size, epochs=self.epochs, verbose=0)
        return copy

    def ship(self, model: keras.Model, path: Path, quantize: str | None) -> None:
        """Writes a Keras 3 model by the package's own conversion."""
        tt.tflite.convert(model, path, quantize, calibration=self.train[0][:CALIBRATION])

    @functools.cached_property
    def further(self) -> keras.Model:
        """The model, trained further."""
        return taught_by(self.model, self.fine_tune(self.copy()))

    @functools.cached_property
    def clustered(self) -> keras.Model:
        """The model, trained further with few different weights."""
        return taught_by(self.model, clustered(self.copy(), self.clusters, self.fine_tune))

    def quantization_aware(self, path: Path, unroll: bool = False, **options) -> None:
        """Trains with rounding, as `fake_quantized` has it, and writes the model that rounds."""
        copy = self.copy(unroll=True) if unroll else self.copy()
        write(path, flatbuffer_of(self.fine_tune(fake_quantized(copy, **options))))


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of a row: a file and its worth, or why there is none."""

    name: str
    path: Path
    worth: float | None = None
    refusal: str | None = None


def measure(study: Study, name: str, path: Path) -> Result:
    """Goes the way of that name. What TFMOT or the converter refuses is a result too: their reason."""
    tf_keras.backend.clear_session()
    try:
        study.ways[name](study, path)
    except Exception as error:  # they raise whatever Keras, TensorFlow and the converter raise
        return Result(name, path, refusal=reason(error))
    inputs, labels = study.test
    return Result(name, path, worth=study.measure(logits_of(path, inputs), labels))


def logits_of(path: Path, inputs: np.ndarray) -> np.ndarray:
    """The output of a TFLite file, one example at a time, each from states of zeros.

    TFLite's fused LSTM operator goes on with the states of the run before. The files of `tt.tflite.convert` clear them;
    those that TensorFlow makes of a tf_keras model leave that to the application.
    """
    with quiet():
        interpreter = Interpreter(model_path=str(path), num_threads=1)
        interpreter.allocate_tensors()
    (given,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    outputs = []
    for example in inputs:
        interpreter.reset_all_variables()
        interpreter.set_tensor(given["index"], example[np.newaxis])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(result["index"]))
    return np.concatenate(outputs)


def table(study: Study, results: list[Result]) -> str:
    """A Markdown table; the latencies are measured in turns, one thread."""
    files = [result for result in results if result.refusal is None]
    latency = dict(zip(files, tt.tflite.compare_latency([one.path for one in files]).reports, strict=True))
    lines = [
        f"| | {study.measured} | bytes | by gzip | weights in int8 | distinct weights | ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        if result.refusal is not None:
            lines.append(f"| {result.name} | `{result.refusal}` | | | | | |")
            continue
        content, arrays = result.path.read_bytes(), weights_in(result.path)
        share = sum(array.size for array in arrays if array.dtype == "int8") / sum(array.size for array in arrays)
        lines.append(
            f"| {result.name} | {result.worth:.2f} | {len(content):,} | {len(gzip.compress(content, 9)):,} "
            f"| {100 * share:.0f} % | {max(len(np.unique(array)) for array in arrays):,} "
            f"| {latency[result].median:.4f} |"
        )
    return "\n".join(lines)


def weights_in(path: Path) -> list[np.ndarray]:
    """The kernels and embeddings that a TFLite file stores: its constants of two and more dimensions, as stored."""
    model = schema.Model.GetRootAs(Path(path).read_bytes(), 0)
    found = {}
    for graph in map(model.Subgraphs, range(model.SubgraphsLength())):
        for tensor in map(graph.Tensors, range(graph.TensorsLength())):
            buffer, kind = model.Buffers(tensor.Buffer()), _TYPES.get(tensor.Type())
            if kind is not None and tensor.ShapeLength() > 1 and buffer.DataLength():
                found[tensor.Buffer()] = buffer.DataAsNumpy().view(kind).reshape(tensor.ShapeAsNumpy())
    return list(found.values())


def perplexity(logits: np.ndarray, labels: np.ndarray) -> float:
    """exp of the mean cross entropy of labels (count, steps) by logits (count, steps, classes)."""
    logits = logits.astype("float64")
    logits = logits - logits.max(-1, keepdims=True)
    chosen = np.take_along_axis(logits, labels[..., np.newaxis], -1)[..., 0]
    return float(np.exp(np.mean(np.log(np.exp(logits).sum(-1)) - chosen)))


def _keeping_clusters(study, path):
    """Clusters first, then rounds while it trains once more, and keeps the clusters meanwhile."""
    copy = clustered(study.copy(), study.clusters, study.fine_tune)
    scheme = tfmot.experimental.combine.Default8BitClusterPreserveQuantizeScheme(preserve_sparsity=False)
    rounding = study.fine_tune(fake_quantized(copy, scheme=scheme))
    write(path, flatbuffer_of(tfmot.experimental.combine.strip_clustering_cqat(rounding)))


def _shipped(model, quantize):
    return lambda study, path: study.ship(getattr(study, model), path, quantize)


def _weights_from(**options):
    """The weights of a training that rounds, and the package's own int8 for the rest."""

    def way(study, path):
        rounding = study.fine_tune(fake_quantized(study.copy(), **options))
        study.ship(taught_by(study.model, rounding), path, "int8")

    return way


def _aware(**options):
    return lambda study, path: study.quantization_aware(path, **options)


def _cells(recurrent):
    """Chooses LSTM layers, by that config, and dense ones."""

    def choose(layer):
        return recurrent if isinstance(layer, tf_keras.layers.LSTM) else _is_dense(layer)

    return choose


def _is_dense(layer):
    return isinstance(layer, tf_keras.layers.Dense)


_POST_TRAINING = {
    "as compacted, float32": _shipped("model", None),
    "float32": _shipped("further", None),
    "float16": _shipped("further", "float16"),
    "dynamic": _shipped("further", "dynamic"),
    "int8": _shipped("further", "int8"),
    "clustered, float32": _shipped("clustered", None),
    "clustered, dynamic": _shipped("clustered", "dynamic"),
    "clustered, int8": _shipped("clustered", "int8"),
}
IMAGE_WAYS = _POST_TRAINING | {
    "quantization-aware": _aware(),
    "quantization-aware weights, int8": _weights_from(),
    "clustered, quantization-aware": _keeping_clusters,
}
LANGUAGE_WAYS = _POST_TRAINING | {
    "quantization-aware": _aware(),
    "the same, behind the embedding": _aware(behind="embedding"),
    "the same, only the logits": _aware(choose=_is_dense),
    "... and the LSTM's weights": _aware(choose=_cells(CellConfig()), behind="embedding"),
    "... and its outputs": _aware(choose=_cells(CellConfig(output=True)), behind="embedding"),
    "... and its activations, unrolled": _aware(
        choose=_cells(CellConfig(inside=True, output=True)), behind="embedding", unroll=True
    ),
    "quantization-aware weights, int8": _weights_from(choose=_cells(CellConfig()), behind="embedding"),
}
