"""Measure the latency of TFLite files on this machine's CPU.

Several files run in turns, so that whatever else the machine does slows all of them; ratios are to the first.

Examples:
  tf-terngrad benchmark model.tflite
  tf-terngrad benchmark dense.tflite compact.tflite --threads=2
"""

from tf_terngrad import tflite
from tf_terngrad.cli.types import integer, number
from tf_terngrad.console import doing


def add_arguments(parser) -> None:
    """Add the files, and how long to measure."""
    parser.add_argument("files", metavar="FILE.tflite", nargs="+", help="TFLite files")
    parser.add_argument("--threads", type=integer(1), default=1, metavar="N", help="threads that LiteRT may use")
    parser.add_argument(
        "--warmup", type=integer(0), default=10, metavar="N", help="runs of each file before the first one measured"
    )
    parser.add_argument("--runs", type=integer(1), default=200, metavar="N", help="the fewest runs of each to measure")
    parser.add_argument(
        "--min-seconds", type=number(), default=0.5, metavar="S", help="the shortest time to measure each for"
    )


def run(arguments) -> None:
    """Measure, and print a report of each file and the comparison."""
    with doing(f"Measuring {', '.join(arguments.files)}"):
        options = arguments.threads, arguments.warmup, arguments.runs, arguments.min_seconds
        comparison = tflite.compare_latency(arguments.files, *options)
    print("\n\n".join(map(str, comparison.reports)))
    if len(arguments.files) > 1:
        print(f"\n{comparison}")
