"""The time of `structures` and `compact` beside Torch-Pruning's, measured in turns in one run, one thread each.

Keras's own `clone_model` of the smaller model is the least that making it anew, unlike cutting it in place, can cost.

Torch-Pruning runs in a process of its own. It needs torch, torchvision and torch-pruning, here or where --torch_python
points to; where they are absent, it is left out by name.

python -m tools.benchmark_compact --runs=5
python -m tools.benchmark_compact --torch_python=/somewhere/bin/python
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

import tf_terngrad as tt
from tf_terngrad.console import growing_table

NETWORKS = {
    "ResNet50": "resnet50",
    "MobileNetV2": "mobilenet_v2",
    "VGG16": "vgg16",
    "DenseNet121": "densenet121",
}
"""The name in keras.applications, and the same network's name in torchvision."""

PARTS = ("structures", "compact", "clone", "graph", "removal")
"""What is measured, in milliseconds: two parts of ours, `keras.models.clone_model`, two parts of the peer."""

RUNS = flags.DEFINE_integer("runs", 5, "Measurements of each network, of both in turns.", lower_bound=1)
CHOSEN = flags.DEFINE_multi_enum("network", list(NETWORKS), list(NETWORKS), "A network of keras.applications.")
TORCH_PYTHON = flags.DEFINE_string("torch_python", sys.executable, "A Python that has torch and torch-pruning.")


class Peer:
    """Torch-Pruning in another process."""

    def __init__(self, python):
        script = str(Path(__file__).with_name("compact_peer.py"))
        command = [python, script]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)

    def measure(self, name):
        """Milliseconds for "graph" and "removal"."""
        print(name, file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline())
        return {key: 1000 * seconds for key, seconds in answer.items()}


def is_there(python):
    """Whether a Python has what the peer needs."""
    check = [python, "-c", "import torch, torch_pruning, torchvision"]
    return subprocess.run(check, capture_output=True, check=False).returncode == 0


def halved(name):
    """A network in which half of the members of every structure are zero."""
    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, name)(weights=None)
    for structure in tt.structures(model):
        if structure.kind in ("filter", "unit"):
            structure.zero(np.arange(structure.size // 2))
    return model


def measure(model):
    """Milliseconds of `structures`, of `compact`, and of cloning the smaller model, without its weights."""
    times = [time.perf_counter()]
    tt.structures(model)
    times.append(time.perf_counter())
    small = tt.compact(model)
    times.append(time.perf_counter())
    keras.models.clone_model(small)
    times.append(time.perf_counter())
    return dict(zip(PARTS, 1000 * np.diff(times), strict=False))


def main(_):
    """Print a line a network: medians of all runs, in milliseconds, and of our ratios to a clone and to the peer."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    peer = Peer(TORCH_PYTHON.value) if is_there(TORCH_PYTHON.value) else None
    if peer is None:
        print(f"Torch-Pruning is left out: {TORCH_PYTHON.value} lacks torch, torchvision or torch-pruning.")
    with growing_table(["network", *PARTS, "to clone", "to peer"]) as add:
        for name in CHOSEN.value:
            runs = measured(name, peer)
            middle = [
                f"{statistics.median(run[part] for run in runs):.0f}" if part in runs[0] else "" for part in PARTS
            ]
            ratios = [ratio(runs, "clone"), ratio(runs, "graph", "removal") if peer else ""]
            add(name, *middle, *ratios)


def measured(name, peer):
    """Milliseconds by part, for each run; both take turns."""
    model = halved(name)
    measure(model)  # a first run loads what later ones share
    return [measure(model) | (peer.measure(NETWORKS[name]) if peer else {}) for _ in range(RUNS.value)]


def ratio(runs, *parts):
    """The median ratio of our time to that of other parts."""
    return f"{statistics.median((run['structures'] + run['compact']) / sum(map(run.get, parts)) for run in runs):.2f}"


if __name__ == "__main__":
    app.run(main)
