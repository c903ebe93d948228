"""Measures the latency of TFLite files on this machine's CPU; of several, in turns, with ratios to the first.

python tools/benchmark_tflite.py model.tflite
python tools/benchmark_tflite.py dense.tflite compact.tflite --threads=2
"""

import sys

from absl import app, flags

from tf_terngrad import tflite

FLAGS = flags.FLAGS
flags.DEFINE_integer("threads", 1, "How many threads LiteRT may use.", lower_bound=1)
flags.DEFINE_integer("warmup", 10, "Runs of each file before the first one measured.", lower_bound=0)
flags.DEFINE_integer("runs", 200, "The fewest runs of each file to measure.", lower_bound=1)
flags.DEFINE_float("min_seconds", 0.5, "The shortest time to measure each file for.", lower_bound=0)


def run(paths):
    """Measures the files as the flags say and prints a report each, and for several the comparison."""
    comparison = tflite.compare_latency(paths, FLAGS.threads, FLAGS.warmup, FLAGS.runs, FLAGS.min_seconds)
    print("\n\n".join(map(str, comparison.reports)))
    if len(paths) > 1:
        print(f"\n{comparison}")


def main(argv):
    """Reads the command line: paths and flags."""
    if len(argv) < 2:
        raise app.UsageError("Expected at least one path: model.tflite")
    try:
        run(argv[1:])
    except (OSError, ValueError) as error:
        sys.exit(f"benchmark_tflite: {error}")


if __name__ == "__main__":
    app.run(main)
