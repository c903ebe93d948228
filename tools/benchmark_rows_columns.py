"""Rows and columns of zeros: what they bring in a matrix product, as sparse storage, and as a layer in a TFLite file.

    python -m tools.benchmark_rows_columns
    python -m tools.benchmark_rows_columns --rows=ssl-no-loss --runs=400

AlexNet's five convolutions with random weights and the zeros that the paper reports, on one thread. All ratios are
medians of the dense layer's processor time over the other's, measured in turns: 2.00 means twice as fast. First the
matrix products alone, as the paper measured them: rows and columns taken out, and as many single zeros in sparse
storage. Then TFLite files of the layer: after `tt.compact` where the zero columns lie anywhere, where they are those of
whole input channels, and where they form a border of the kernel; and with single zeros, left in place.
"""

import logging
import tempfile
from pathlib import Path

import numpy as np
from absl import app, flags

import tf_terngrad as tt
from models.experiments import rows_columns
from models.experiments.processor_time import compare_files, compare_products
from tf_terngrad.console import growing_table
from tools.chosen_rows import chosen

ROWS = flags.DEFINE_list("rows", [], "Only these rows; all, if not given.")
RUNS = flags.DEFINE_integer("runs", 200, "How often each product and each file is measured.", lower_bound=3)
SEED = flags.DEFINE_integer("seed", 0, "Of weights, and of what is zero.", lower_bound=0)


def main(_):
    """Print two tables for each row: matrix products, and files."""
    logging.getLogger("tf_terngrad").setLevel(logging.ERROR)  # in some layers nothing leaves, which is what is shown
    for row in chosen(rows_columns.ROWS, ROWS.value, "benchmark_rows_columns"):
        cases = list(zip(rows_columns.LAYERS, row.rows, row.columns, row.paper, row.l1, strict=True))
        print(f"\n{row.name}: matrix products, dense time / time")
        with growing_table(
            ["layer", "zero", "dense, ms", "rows, columns out", "paper", "single zeros", "paper"]
        ) as add:
            for layer, rows, columns, paper, l1 in cases:
                zero, dense, ratios = products(layer, rows, columns)
                add(layer.name, f"{zero:.1%}", f"{dense:.3f}", f"{ratios[0]:.2f}", paper, f"{ratios[1]:.2f}", l1)
        print(f"\n{row.name}: TFLite files, dense time / time, and what is left of the layer")
        with growing_table(["layer", "dense, ms", *rows_columns.PLACEMENTS, "left", "single zeros"]) as add:
            for layer, rows, columns, *_ in cases:
                with tempfile.TemporaryDirectory() as folder:
                    add(layer.name, *files(layer, rows, columns, Path(folder)))


def products(layer, rows, columns):
    """The share of zeros, the dense product's milliseconds, and how many times faster (rows and columns, single)."""
    random = np.random.default_rng(SEED.value)
    zeros = rows_columns.anywhere(layer, rows, columns, random)
    weights = random.normal(size=zeros.alive.shape).astype("float32")
    single = list(weights * rows_columns.scattered(layer, zeros, random))
    dense, ratios = compare_products(list(weights * zeros.alive), layer.places, RUNS.value, random, single)
    return 1 - zeros.alive.mean(), dense, ratios


def files(layer, rows, columns, folder):
    """The dense layer's milliseconds, how many times faster the others are, and their kernels."""
    random = np.random.default_rng(SEED.value)
    found = {name: place(layer, rows, columns, random) for name, place in rows_columns.PLACEMENTS.items()}
    single = rows_columns.scattered(layer, found["anywhere"], random)
    whole = np.ones_like(single)
    dense, zeros = (rows_columns.kernel(layer, alive, random) for alive in (whole, single))
    models = {"dense": rows_columns.alone(rows_columns.network(layer, dense), layer.name)}
    for name, each in found.items():
        models[name] = rows_columns.compact_alone(layer, rows_columns.kernel(layer, each.alive, random))
    models["single zeros"] = rows_columns.alone(rows_columns.network(layer, zeros), layer.name)
    paths = [folder / f"{number}.tflite" for number in range(len(models))]
    for model, path in zip(models.values(), paths, strict=True):
        tt.tflite.convert(model, path)
    milliseconds, ratios = compare_files(paths, RUNS.value)
    faster = [f"{ratio:.2f}" for ratio in ratios]
    left = ", ".join("x".join(map(str, models[name].layers[-1].kernel.shape)) for name in found)
    return f"{milliseconds:.3f}", *faster[:-1], left, faster[-1]


if __name__ == "__main__":
    app.run(main)
