"""The time to encode and decode gradients: this package's codecs, TernGrad in TensorFlow operations, float16, a copy.

All are measured in turns, in one process for each number of threads; a ratio is the median of a round's ratios.

python -m tools.benchmark_codec --threads=1,2 --sizes=1000,25000000
"""

import functools
import itertools
import json
import os
import statistics
import subprocess
import sys
import time

import numpy as np
import tensorflow as tf
from absl import app, flags

from tf_terngrad.console import growing_table
from tf_terngrad.ternary import native, twin
from tools import grace

THREADS = flags.DEFINE_list("threads", ["1", "2"], "Threads that an operation may use: one table for each.")
SIZES = flags.DEFINE_list("sizes", ["1000", "32000", "1000000", "25000000"], "Elements of the float32 gradients.")
ROUNDS = flags.DEFINE_integer("rounds", 15, "Measurements of each.", lower_bound=3)
CLIP = flags.DEFINE_float("clip", 2.5, "Standard deviations at which gradients are clipped.", lower_bound=0.1)
WORKERS = flags.DEFINE_integer("workers", 4, "Workers whose digits the words have room for.", lower_bound=1)
TWIN = flags.DEFINE_bool("twin", True, "Measure the TensorFlow twin of the codec too.")
HERE = flags.DEFINE_bool("here", False, "Measure in this process, with the threads that TensorFlow has.")

SEED = (1, 2, 3, 4)


def codec_cases(name, codec, gradient):
    """Case name -> function to measure, and its arguments, of one of this package's codecs."""
    lengths = tf.constant([gradient.shape[0]])
    seed, workers = tf.constant(SEED, tf.int64), tf.constant(WORKERS.value)

    def encode_bytes(gradient):
        thresholds, scales = codec.scale(gradient, lengths, CLIP.value)
        return codec.encode_bytes(gradient, lengths, thresholds, scales, seed), scales

    def encode_words(gradient):
        thresholds, scales = codec.scale(gradient, lengths, CLIP.value)
        return codec.encode_words(gradient, lengths, thresholds, scales, seed, workers), scales

    def encode_and_compress(gradient):
        data, scales = encode_bytes(gradient)
        return codec.compress(data, tf.shape(data)), scales

    data, scales = encode_bytes(gradient)
    words, _ = encode_words(gradient)
    counts = tf.shape(data)
    streams, _ = codec.compress(data, counts)
    return {
        f"{name}: scale + encode_bytes": (encode_bytes, gradient),
        f"{name}: compress bytes": (lambda data: codec.compress(data, counts), data),
        f"{name}: all three": (encode_and_compress, gradient),
        f"{name}: scale + encode_words": (encode_words, gradient),
        f"{name}: decompress bytes": (lambda streams: codec.decompress(streams, counts), streams),
        f"{name}: mean_of_bytes (1 row)": (lambda data: codec.mean_of_bytes(data, lengths, scales[None]), data[None]),
        f"{name}: mean_of_words": (lambda words: codec.mean_of_words(words, lengths, scales, workers), words),
    }


def cases(size):
    """Case name -> function without arguments to measure, warmed up."""
    values = np.random.default_rng(0).normal(scale=1e-3, size=size).astype("float32")
    copy, gradient = np.ones_like(values), tf.constant(values)
    table = {
        "float16: cast": (lambda gradient: tf.cast(gradient, tf.float16), gradient),
        "float16: cast back": (lambda half: tf.cast(half, tf.float32), tf.cast(gradient, tf.float16)),
        "GRACE: encode": (lambda gradient: grace.encode(gradient, CLIP.value), gradient),
        "GRACE: decode": (grace.decode, *grace.encode(gradient, CLIP.value)),
    }
    table |= codec_cases("native", native, gradient)
    if TWIN.value:
        table |= codec_cases("twin", twin, gradient)
    functions = {"memcpy": functools.partial(np.copyto, copy, values)}
    for name, (function, *arguments) in table.items():
        functions[name] = functools.partial(tf.function(function), *arguments)
        functions[name]()
    return functions


def seconds(function, repeats):
    """How long one call takes, the mean of some."""
    start = time.perf_counter()
    for _ in range(repeats):
        function()
    return (time.perf_counter() - start) / repeats


def measure(threads, size):
    """Prints the rows of one size, each a line of JSON: median milliseconds, times memcpy, times faster than GRACE."""
    functions = cases(size)
    repeats = max(1, 1_000_000 // size)
    times = {name: [] for name in functions}
    for _, name in itertools.product(range(ROUNDS.value), functions):
        times[name].append(seconds(functions[name], repeats))
    for name, mine in times.items():
        decoding = any(word in name for word in ("mean", "back", "decompress"))
        theirs = times["GRACE: decode" if decoding else "GRACE: encode"]
        slower = statistics.median(a / b for a, b in zip(mine, times["memcpy"], strict=True))
        faster = statistics.median(a / b for a, b in zip(theirs, mine, strict=True))
        ms = 1000 * statistics.median(mine)
        print(json.dumps([threads, f"{size:,}", name, f"{ms:.3f}", f"{slower:.2f}", f"{faster:.2f}"]), flush=True)


def main(_):
    """Measure in a process for each number of threads: TensorFlow takes it once."""
    if native.library() is None:
        raise app.UsageError(f"There is no native codec to measure: {native.reason()}")
    if HERE.value:
        for size in SIZES.value:
            measure(THREADS.value[0], int(size))
        return
    titles = ["threads", "elements", "what", "ms", "x memcpy", "GRACE / x"]
    with growing_table(titles, text=["what"]) as add:
        for threads in THREADS.value:
            for row in measured_with(threads):
                add(*row)


def measured_with(threads):
    """The rows of all sizes, measured in a process that has so many threads."""
    env = {**os.environ, "TF_NUM_INTRAOP_THREADS": threads, "TF_NUM_INTEROP_THREADS": "1"}
    command = [sys.executable, "-m", "tools.benchmark_codec", *sys.argv[1:], f"--threads={threads}", "--here"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        yield from map(json.loads, process.stdout)
    if process.returncode:
        sys.exit(f"benchmark_codec: measuring with {threads} threads failed (the message above says why)")


if __name__ == "__main__":
    app.run(main)
