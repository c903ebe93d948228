"""Take out of a saved model what its outputs do not depend on, and save the smaller model.

It compares both models on random inputs, and prints their widths, parameters and multiply-adds side by side. The result
is an ordinary Keras model, which needs nothing of this package.

Examples:
  tf-terngrad compact model.keras small.keras
  tf-terngrad compact model.keras small.keras --tolerance=1e-3 --round-to=8 --keep=stem,head --report=report.html
  tf-terngrad compact model.keras --dry-run
"""

import argparse

import numpy as np

from tf_terngrad import files
from tf_terngrad.cli.files import add_model_arguments, check_target, load_model
from tf_terngrad.cli.types import integer, names, number
from tf_terngrad.console import doing
from tf_terngrad.sparsity.compact import compact
from tf_terngrad.sparsity.report import compare
from tf_terngrad.tflite.check import RANDOM_EXAMPLES, keras_outputs
from tf_terngrad.tflite.draw import draw
from tf_terngrad.tflite.ports import ports, structures_of


def add_arguments(parser) -> None:
    """Add the two models, and what may leave."""
    parser.add_argument("model", metavar="MODEL.keras", help="a saved Keras model; .h5 is read too")
    parser.add_argument("target", metavar="SMALL.keras", nargs="?", help="the file to write")
    parser.add_argument(
        "--tolerance",
        type=number(),
        default=0.0,
        metavar="T",
        help="weights up to this magnitude count as zero; above 0 the outputs change a little",
    )
    parser.add_argument(
        "--round-to",
        type=integer(1),
        default=1,
        metavar="N",
        help="keep widths at multiples of N; 8 suits most accelerators",
    )
    parser.add_argument(
        "--keep",
        type=names,
        default=[],
        metavar="NAME,...",
        help="layers or structures whose members all stay; `tf-terngrad structures` has their names",
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would leave, and write nothing")
    parser.add_argument("--report", metavar="FILE.html", help="write the comparison with pictures too")
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    add_model_arguments(parser)


def run(arguments) -> None:
    """Print the plan, or write the smaller model and the comparison."""
    if arguments.dry_run:
        model = load_model(arguments.model, arguments)
        with doing("Finding what would leave"):
            plan = _compact(model, arguments)
        print(plan)
        return
    check_targets(arguments)
    model = load_model(arguments.model, arguments)
    with doing("Taking out what is dead"):
        small = _compact(model, arguments)
    with doing("Comparing both models"):
        arrays = draw(model, ports(structures_of(model)[0]), RANDOM_EXAMPLES)
        report = compare(model, small, input_shapes=[array.shape[1:] for array in arrays])
        difference, scale = largest_difference(model, small, arrays)
    with files.replacing(arguments.target) as draft:
        small.save(draft)
    if arguments.report:
        report.to_html(arguments.report)
    print(report)
    print(f"\noutputs on {len(arrays[0])} random inputs differ by at most {difference:.1e}; the largest is {scale:.1e}")


def check_targets(arguments) -> None:
    """Refuse files that cannot be written, before any work is done.

    Raises:
        ValueError, OSError: as for `check_target`.
    """
    if arguments.target is None:
        raise argparse.ArgumentError(None, "expected the file to write behind the model, or --dry-run")
    check_target(arguments.target, [".keras"], [arguments.model], arguments.overwrite)
    if arguments.report:
        check_target(arguments.report, [".html", ".htm"], [arguments.model], arguments.overwrite)


def largest_difference(model, small, arrays) -> tuple[float, float]:
    """The largest difference of the models' outputs, and the largest output of the first, on the same inputs."""
    pairs = list(zip(keras_outputs(model, arrays), keras_outputs(small, arrays), strict=True))
    difference = max(np.abs(np.subtract(*pair, dtype="float64")).max() for pair in pairs)
    return difference, max(np.abs(first).max() for first, _ in pairs)


def _compact(model, arguments):
    return compact(model, arguments.tolerance, arguments.round_to, arguments.keep, dry_run=arguments.dry_run)
