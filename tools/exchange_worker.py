"""What a worker of tools/benchmark_network.py does: averages gradients by every method, in turns, and notes the cost.

It writes a file of JSON: for every case and method, the seconds of each round and the bytes that its card sent.
"""

import json
import os
import pathlib
import time

import horovod.tensorflow as hvd
import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

from tf_terngrad.cli.model_sizes import elements
from tools.exchange_methods import EXCHANGES
from tools.network_lab import own_traffic

METHODS = flags.DEFINE_list("methods", [], "Names of EXCHANGES.")
SIZES = flags.DEFINE_list("sizes", [], "Elements of the gradients.")
TENSORS = flags.DEFINE_integer("tensors", 1, "Tensors that share these elements.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 0, "Images of a training step's; 0: no training.")
ROUNDS = flags.DEFINE_integer("rounds", 5, "Measurements of each.")
REALTIME = flags.DEFINE_bool("realtime", False, "Go before all else that runs on this machine.")
OUTPUT = flags.DEFINE_string("output", None, "Folder for the results.")

ELEMENTS_AT_ONCE = 200_000  # small gradients are exchanged several times in a measurement, up to so many elements


def exchange(method, size):
    """A function without arguments that averages gradients of this size together."""
    values = np.random.default_rng(hvd.rank()).normal(scale=1e-3, size=size).astype("float32")
    gradients = [tf.Variable(part) for part in np.array_split(values, TENSORS.value)]

    @tf.function
    def step():
        means = EXCHANGES[method]([gradient.value() for gradient in gradients], f"{method}.{size}")
        return tf.add_n([mean[-1] for mean in means])

    return step


def network():
    """AlexNet's shape in small: convolutions that take the time, fully connected layers that hold the parameters."""
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Conv2D(32, 5, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(64, 3, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(64, 3, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(2048, activation="relu"),
            keras.layers.Dense(1024, activation="relu"),
            keras.layers.Dense(100),
        ]
    )


def training(method, model):
    """A function without arguments that trains a model for a step."""
    optimizer = keras.optimizers.SGD(1e-3, momentum=0.9)
    optimizer.build(model.trainable_variables)
    generator = np.random.default_rng(hvd.rank())
    images = tf.constant(generator.normal(size=(BATCH_SIZE.value, 32, 32, 3)), tf.float32)
    labels = tf.constant(generator.integers(0, 100, BATCH_SIZE.value))
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = loss_of(labels, model(images, training=True))
        variables = [variable.value for variable in model.trainable_variables]
        means = EXCHANGES[method](tape.gradient(loss, variables), f"{method}.training")
        optimizer.apply(means, model.trainable_variables)
        return loss

    return step


def cases():
    """(size, what, method -> function) of each case."""
    # Of one gradient, "auto-each" is "auto".
    methods = [method for method in METHODS.value if method != "auto-each" or TENSORS.value > 1]
    for size in map(int, SIZES.value):
        yield size, "exchange", {method: exchange(method, size) for method in methods}
    if BATCH_SIZE.value:
        keras.utils.set_random_seed(0)
        model = network()
        functions = {method: training(method, model) for method in ("alone", *METHODS.value)}
        yield elements(model.trainable_variables), "training", functions


def measure(function, repeats):
    """Seconds, and bytes sent without headers, of one call; all workers start together."""
    meet("start")
    before, start = own_traffic(), time.perf_counter()
    for _ in range(repeats):
        function().numpy()
    seconds = time.perf_counter() - start
    meet("end")  # what this worker has got may have come before all that it sends has left
    return seconds / repeats, (own_traffic() - before).data / repeats


def meet(name):
    """Wait for all other workers."""
    hvd.allreduce(tf.zeros(()), name=name).numpy()


def go_first():
    """What else runs on this machine waits for this process, whose threads need little time but need it at once."""
    for thread in pathlib.Path("/proc/self/task").iterdir():
        os.sched_setscheduler(int(thread.name), os.SCHED_RR, os.sched_param(1))


def main(_):
    """Measure, and write what was found."""
    hvd.init()
    if REALTIME.value:
        go_first()
    results = []
    for size, what, functions in cases():
        repeats = max(1, min(10, ELEMENTS_AT_ONCE // size))
        for function in functions.values():
            measure(function, 2)  # traces, and lets TCP find its pace
        rounds = [{name: measure(functions[name], repeats) for name in functions} for _ in range(ROUNDS.value)]
        for method in functions:
            seconds, data = zip(*(measured[method] for measured in rounds), strict=True)
            results.append({"case": [what, size], "method": method, "seconds": seconds, "data": data})
    pathlib.Path(OUTPUT.value, f"{hvd.rank()}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    app.run(main)
