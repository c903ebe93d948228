"""Predicts the latency of twenty compact networks and the bytes of their files, and measures both.

python -m tools.check_latency                       # all of them; several minutes, more where nothing is measured yet
python -m tools.check_latency --networks=lenet,vit

The networks are those of models/ and of keras.applications, with random weights, pruned by `tt.prune` at several
budgets and seeds. Each is predicted by `tt.costs` of the model that was pruned, then compacted, converted and run on
one thread, in the processor's time, until the shortest run stays as it is. Prints a line for each; ends with an error
if a latency is further off than --latency, or a size than --bytes.
"""

import pathlib
import sys
import tempfile

import keras
import numpy as np
from absl import app, flags

import tf_terngrad as tt
from models.cifarnet import cifarnet
from models.lenet import lenet
from models.mlp import mlp
from models.resnet20 import resnet20
from models.vit import vit
from tf_terngrad.console import growing_table
from tf_terngrad.tflite.stopwatch import settled_times
from tools.applications import application

FLAGS = flags.FLAGS
flags.DEFINE_list("networks", None, "Those to check, of the table's first column; default: all.")
flags.DEFINE_float("latency", 0.15, "How far a predicted latency may be off, a share.", lower_bound=0)
flags.DEFINE_float("bytes", 0.03, "How far predicted bytes may be off, a share.", lower_bound=0)

TITLES = ["network", "budget", "seed", "predicted ms", "measured ms", "ratio", "bytes", "ratio of bytes"]


def lstm():
    """A classifier of sequences."""
    return keras.Sequential([keras.Input((20, 16)), keras.layers.LSTM(64), keras.layers.Dense(3)], name="lstm")


def gru():
    """Two GRUs behind an embedding."""
    layers = [keras.layers.Embedding(200, 24), keras.layers.GRU(48, return_sequences=True), keras.layers.GRU(32)]
    return keras.Sequential([keras.Input((12,)), *layers, keras.layers.Dense(5)], name="gru")


NETWORKS = {
    "lenet": (lenet, [(0.5, 0), (0.3, 1), (0.1, 2)]),
    "mlp": (mlp, [(0.5, 0), (0.2, 1)]),
    "cifarnet": (cifarnet, [(0.5, 0), (0.25, 1)]),
    "resnet20": (resnet20, [(0.7, 0), (0.5, 1), (0.25, 2)]),
    "vit": (vit, [(0.7, 0), (0.4, 1)]),
    "lstm": (lstm, [(0.6, 0), (0.3, 1)]),
    "gru": (gru, [(0.5, 0)]),
    "MobileNet": (application("MobileNet"), [(0.5, 0), (0.25, 1)]),
    "MobileNetV2": (application("MobileNetV2"), [(0.7, 0), (0.4, 1)]),
    "ResNet50": (application("ResNet50"), [(0.3, 0)]),
}


def main(_):
    """Check all, then say which were wrong."""
    wrong = []
    with growing_table(TITLES) as add, tempfile.TemporaryDirectory() as folder:
        for name in FLAGS.networks or NETWORKS:
            build, cases = NETWORKS[name]
            costs = tt.costs(build())
            for share, seed in cases:
                latency, size = check(build(), costs, share, seed, pathlib.Path(folder) / "checked.tflite")
                ratios = latency[0] / latency[1], size[0] / size[1]
                add(
                    name,
                    share,
                    seed,
                    *(f"{each:.4f}" for each in latency),
                    f"{ratios[0]:.3f}",
                    size[1],
                    f"{ratios[1]:.4f}",
                )
                far = (max(ratio, 1 / ratio) - 1 for ratio in ratios)
                if any(off > most for off, most in zip(far, (FLAGS.latency, FLAGS.bytes), strict=True)):
                    wrong.append(f"{name} at {share}")
    if wrong:
        sys.exit(f"Predicted too far off: {', '.join(wrong)}")


def check(model, costs, share, seed, path):
    """Prune a model by its scores; give pairs (predicted, measured) of its latency and its bytes."""
    random = np.random.default_rng(seed)
    for variable in model.weights:
        if keras.backend.is_float_dtype(variable.dtype):
            variable.assign(np.abs(random.normal(0.05, 0.02, variable.shape)))
    tt.prune(model, tt.Budget(multiply_adds=share), tt.importance.Random(seed))
    found = zip(costs.structures, tt.structures(model), strict=True)  # names of operations are numbered in each model
    predicted = costs.of({mine.name: int(np.count_nonzero(each.norms())) for mine, each in found})
    size = tt.tflite.convert(tt.compact(model), path).bytes
    measured = settled_times([path.read_bytes()])[0]
    return (predicted.latency, measured), (predicted.bytes, size)


if __name__ == "__main__":
    app.run(main)
