"""The cost of `sparsify` in a training step, as a ratio to the plain step, both measured in turns in one run.

python -m tools.benchmark_sparsify --rounds=40
"""

import functools
import itertools
import statistics
import time

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

import tf_terngrad as tt
from models import NETWORKS
from tf_terngrad.console import growing_table, tracked
from tf_terngrad.sparsity.sparsify import METHODS

ROUNDS = flags.DEFINE_integer("rounds", 30, "Blocks of steps measured of each.", lower_bound=3)
STEPS = flags.DEFINE_integer("steps", 5, "Training steps in a block.", lower_bound=1)
BATCH = flags.DEFINE_integer("batch_size", 128, "Examples in a step.", lower_bound=1)

CASES = {"lenet": (28, 28, 1), "resnet20": (32, 32, 3)}
CHOICES = ("plain", *METHODS)


def training_step(network, shape, method):
    """A function that trains for one step, as `fit` does, warmed up."""
    keras.utils.set_random_seed(0)
    model = NETWORKS[network](shape, 10)
    if method != "plain":
        tt.sparsify(model, strength=1e-4, method=method)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(BATCH.value, *shape)).astype("float32")
    labels = rng.integers(0, 10, BATCH.value)
    batches = iter(tf.data.Dataset.from_tensors((images, labels)).repeat())
    model.make_train_function()
    step = functools.partial(model.train_function, batches)
    for _ in range(3):
        step()
    return step


def seconds(step):
    """How long a block of steps takes, for each step."""
    start = time.perf_counter()
    for _ in range(STEPS.value):
        step()
    return (time.perf_counter() - start) / STEPS.value


def main(_):
    """Print a table: network, method, median milliseconds a step, and the median of the ratios to the plain step."""
    with growing_table(["network", "method", "ms a step", "ratio"], text=["method"]) as add:
        for network, shape in CASES.items():
            times = measured(network, shape)
            for method in CHOICES:
                ratios = [mine / plain for mine, plain in zip(times[method], times["plain"], strict=True)]
                ms = 1000 * statistics.median(times[method])
                add(network, method, f"{ms:.2f}", f"{statistics.median(ratios):.3f}")


def measured(network, shape):
    """Method -> seconds of a step, for each round; the methods take turns."""
    steps = {method: training_step(network, shape, method) for method in CHOICES}
    times = {method: [] for method in CHOICES}
    turns = list(itertools.product(range(ROUNDS.value), CHOICES))
    for _, method in tracked(turns, network):
        times[method].append(seconds(steps[method]))
    return times


if __name__ == "__main__":
    app.run(main)
