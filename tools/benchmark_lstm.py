"""Speed of a language model at the sizes of the paper, with and without the hidden units that left it there.

    python -m tools.benchmark_lstm

Two LSTMs of 1,500 units, and of 373 and 315, weights random, measured in turns in one run: in Keras, with batches of 10
texts of 30 words, and in TFLite, one text, as loops and as fused operators, and one word at a time. The paper (Wen et
al., 2018) has 10.59 times the speed, on 24 threads of a Xeon, with 7.48 times fewer multiply-adds, the softmax's among
them.
"""

import statistics
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

import tf_terngrad as tt
from models.lstm_lm import lstm_lm
from tf_terngrad.console import growing_table
from tf_terngrad.sparsity.costs import layer_costs

DENSE = flags.DEFINE_list("dense", ["1500", "1500"], "Hidden units of the dense network's LSTMs.")
COMPACT = flags.DEFINE_list("compact", ["373", "315"], "Hidden units of the compact one's.")
VOCABULARY = flags.DEFINE_integer("vocabulary", 10_000, "Words that are told apart.", lower_bound=1)
BATCH = flags.DEFINE_integer("batch_size", 10, "Texts of a batch, in Keras.", lower_bound=1)
STEPS = flags.DEFINE_integer("steps", 30, "Words of a text.", lower_bound=1)
ROUNDS = flags.DEFINE_integer("rounds", 20, "How often each is measured.", lower_bound=3)
THREADS = flags.DEFINE_integer("threads", 1, "Threads of TensorFlow and of TFLite.", lower_bound=1)


def network(units, batch):
    """The model for batches of so many texts; both have the dense one's embedding, as in the paper."""
    keras.utils.set_random_seed(0)
    return lstm_lm(VOCABULARY.value, units, int(DENSE.value[0]), batch_size=batch, steps=STEPS.value)


def keras_times(sizes):
    """Milliseconds of a batch, a list of as many rounds for each size; in turns."""
    words = np.random.default_rng(0).integers(0, VOCABULARY.value, (BATCH.value, STEPS.value)).astype("int32")
    runs = [tf.function(network(units, BATCH.value), jit_compile=False) for units in sizes]
    times = [[] for _ in sizes]
    for number in range(ROUNDS.value + 2):
        for run, mine in zip(runs, times, strict=True):
            start = time.perf_counter()
            run(tf.constant(words)).numpy()
            if number >= 2:  # the first builds the graph
                mine.append(1000 * (time.perf_counter() - start))
    return times


def tflite_times(sizes, folder, **options):
    """Median milliseconds of each size's TFLite file, in turns."""
    paths = [Path(folder) / f"{number}.tflite" for number in range(len(sizes))]
    for units, path in zip(sizes, paths, strict=True):
        tt.tflite.convert(network(units, 1), path, **options)
    comparison = tt.tflite.compare_latency(paths, THREADS.value, runs=ROUNDS.value)
    return [report.median for report in comparison.reports]


def multiply_adds(costs, layers):
    """Of the layers of a class, in a text."""
    return sum(cost.multiply_adds or 0 for cost in costs if isinstance(cost.layer, layers))


def main(_):
    """Print a table: how each was run, milliseconds of both networks, and the ratio."""
    tf.config.threading.set_intra_op_parallelism_threads(THREADS.value)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    sizes = [tuple(map(int, units)) for units in (DENSE.value, COMPACT.value)]
    names = [" + ".join(map(str, units)) for units in sizes]
    with growing_table(["", *names, "ratio"]) as add, tempfile.TemporaryDirectory() as folder:
        costs = [layer_costs(network(units, 1)) for units in sizes]
        for name, layers in (("multiply-adds of the LSTMs", keras.layers.LSTM), ("multiply-adds", keras.Layer)):
            counts = [multiply_adds(each, layers) for each in costs]
            add(name, *(f"{count:,}" for count in counts), f"{counts[0] / counts[1]:.2f}")
        times = keras_times(sizes)
        ratio = statistics.median(dense / compact for dense, compact in zip(*times, strict=True))
        add(*row(f"Keras, {BATCH.value} texts", [statistics.median(mine) for mine in times], ratio))
        for name, options in (
            ("TFLite, a text, loop", {"recurrent": "loop"}),
            ("TFLite, a text, fused", {"recurrent": "fused"}),
            ("TFLite, a word, streaming", {"streaming": 1}),
        ):
            add(*row(name, tflite_times(sizes, folder, **options)))


def row(name, times, ratio=None):
    """The cells of a row with milliseconds."""
    return name, *(f"{time:.3f} ms" for time in times), f"{ratio or times[0] / times[1]:.2f}"


if __name__ == "__main__":
    app.run(main)
