"""Takes out of a saved Keras model what its outputs do not depend on, checks the smaller model and saves it.

    python tools/compact.py model.keras small.keras
    python tools/compact.py model.keras small.keras --tolerance=1e-3 --round_to=8 --keep=stem,head --report=report.html
    python tools/compact.py model.keras --dry_run

It prints both models side by side, and how far their outputs on random inputs are apart.
"""

import os
import pathlib
import sys
import tempfile
import warnings

import numpy as np
from absl import app, flags
from common import check_target, load_model

import tf_terngrad as tt
from tf_terngrad.tflite.check import RANDOM_EXAMPLES, keras_outputs
from tf_terngrad.tflite.ports import integer_limit, ports, random_arrays, structures_of

FLAGS = flags.FLAGS
flags.DEFINE_float("tolerance", 0.0, "Weights up to this magnitude count as zero.")
flags.DEFINE_integer("round_to", 1, "Keep widths at multiples of this; 8 suits most accelerators.")
flags.DEFINE_list("keep", [], "Names of layers or structures whose members all stay, with commas between them.")
flags.DEFINE_bool("dry_run", False, "Print what would leave; save nothing.")
flags.DEFINE_bool("overwrite", False, "Replace files that exist.")
flags.DEFINE_string("report", None, "An HTML file for the comparison in pictures.")


def save(model, path):
    """Saves a model whole or not at all: an old file stays until the new one is complete."""
    with tempfile.TemporaryDirectory(dir=pathlib.Path(path).absolute().parent, prefix=".compact-") as folder:
        unfinished = pathlib.Path(folder, "model.keras")
        model.save(unfinished)
        os.replace(unfinished, path)


def largest_difference(model, small, arrays):
    """The largest difference of the models' outputs, and the largest output of the first, on the same inputs."""
    pairs = list(zip(keras_outputs(model, arrays), keras_outputs(small, arrays), strict=True))
    difference = max(np.abs(np.subtract(*pair, dtype="float64")).max() for pair in pairs)
    return difference, max(np.abs(first).max() for first, _ in pairs)


def compact(model, **arguments):
    """`tt.compact`, whose warnings are printed as sentences."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        result = tt.compact(model, FLAGS.tolerance, FLAGS.round_to, FLAGS.keep, **arguments)
    for warning in caught:
        print(f"warning: {warning.message}")
    return result


def run(source, target):
    """Compacts the model in the file `source` into the file `target`, as the flags say, and prints the comparison."""
    check_target(target, [".keras"], [source], FLAGS.overwrite)
    if FLAGS.report:
        check_target(FLAGS.report, [".html", ".htm"], [source], FLAGS.overwrite)
    model = load_model(source)
    small = compact(model)
    arrays = random_arrays(ports(structures_of(model)[0]), RANDOM_EXAMPLES, limit=integer_limit(model))
    report = tt.compare(model, small, input_shapes=[array.shape[1:] for array in arrays])
    difference, scale = largest_difference(model, small, arrays)
    save(small, target)
    if FLAGS.report:
        report.to_html(FLAGS.report)
    print(report)
    print(f"\noutputs on {len(arrays[0])} random inputs differ by at most {difference:.1e}; the largest is {scale:.1e}")


def main(argv):
    """Reads the command line: one or two paths and flags."""
    if len(argv) != (2 if FLAGS.dry_run else 3):
        raise app.UsageError("Expected two paths: model.keras small.keras, or one and --dry_run")
    try:
        if FLAGS.dry_run:
            print(compact(load_model(argv[1]), dry_run=True))
        else:
            run(*argv[1:])
    except (OSError, TypeError, ValueError) as error:
        sys.exit(f"compact: {error}")


if __name__ == "__main__":
    app.run(main)
