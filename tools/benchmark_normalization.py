"""What a narrower residual width brings where it goes through LayerNormalization.

    python -m tools.benchmark_normalization

Encoders of random weights lose members of their residual width, and nothing else. No layer of Keras's normalizes a part
of a width, so operations do. The TFLite file of the compact model is measured beside that of the whole one, in turns in
one run.
"""

import tempfile
from pathlib import Path

import keras
import numpy as np
from absl import app, flags
from keras import layers

import tf_terngrad as tt
from tf_terngrad.console import growing_table

BLOCKS = flags.DEFINE_integer("blocks", 4, "Blocks of attention and feed-forward.", lower_bound=1)
STEPS = flags.DEFINE_integer("steps", 64, "Steps of the sequence.", lower_bound=1)
WIDTHS = flags.DEFINE_list("widths", ["64", "256"], "Residual widths.")
SHARES = flags.DEFINE_list("shares", ["0.02", "0.05", "0.1", "0.3"], "Shares of the width that leave.")
RUNS = flags.DEFINE_integer("runs", 200, "How often each file is measured.", lower_bound=3)
THREADS = flags.DEFINE_integer("threads", 1, "Threads of TFLite.", lower_bound=1)


def encoder(width):
    """A pre-norm encoder of single numbers that are embedded, with attention of four heads."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((STEPS.value, 8))
    x = layers.Dense(width, name="stream")(inputs)
    for _ in range(BLOCKS.value):
        normalized = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(4, width // 4)(normalized, normalized)])
        hidden = layers.Dense(4 * width, "gelu")(layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Dense(width)(hidden)])
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))))


def narrower(width, share):
    """The compact model of an encoder whose residual width has lost a share of its members."""
    model = encoder(width)
    (stream,) = (found for found in tt.structures(model) if "stream" in found.born)
    stream.zero(np.arange(round(share * width)))
    return tt.compact(model)


def main(_):
    """Print a table: the width, what stays of it, and the bytes and the latency of both files."""
    columns = ["width", "stays", "bytes", "of the whole", "ms", "of the whole"]
    with growing_table(columns) as add, tempfile.TemporaryDirectory() as folder:
        for width in map(int, WIDTHS.value):
            paths = [Path(folder) / "whole.tflite", Path(folder) / "compact.tflite"]
            tt.tflite.convert(encoder(width), paths[0])
            for share in map(float, SHARES.value):
                tt.tflite.convert(narrower(width, share), paths[1])
                whole, small = tt.tflite.compare_latency(paths, THREADS.value, runs=RUNS.value).reports
                sizes = [path.stat().st_size for path in paths]
                ratios = f"{sizes[1] / sizes[0]:.3f}", f"{small.median / whole.median:.3f}"
                add(width, width - round(share * width), f"{sizes[1]:,}", ratios[0], f"{small.median:.3f}", ratios[1])


if __name__ == "__main__":
    app.run(main)
