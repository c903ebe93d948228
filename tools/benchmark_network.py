"""Milliseconds and bytes to average gradients: Horovod's own ways, TernGrad by GRACE's formula, and this package's.

    python -m tools.benchmark_network --workers=2,4,8 --rates=100mbit,1gbit,unlimited --sizes=1000,5000000
    python -m tools.benchmark_network --workers=4 --rates=100mbit,1gbit --sizes= --batch_size=32

Needs root, Linux and iproute2. For each number of workers and each rate, one launch measures all methods in turns, so
that ratios ("float32 /": how many times faster than float32) compare times of one run; each is the median of the
rounds' ratios. Bytes are those that a worker's network card counts, without packets' headers. "/ model" divides
milliseconds and bytes by what `tf_terngrad.ternary.cost` says. With --batch_size, rows of training steps follow, of a
network of AlexNet's shape; "per s" are steps a second then. Of several gradients (--tensors, --batch_size), "auto"
makes one exchange, and "auto-each" one of each.
"""

import collections
import itertools
import json
import math
import os
import pathlib
import statistics
import sys
import tempfile

from absl import app, flags

from tf_terngrad.cli.rates import bits_per_second
from tf_terngrad.console import growing_table
from tf_terngrad.ternary.cost import FLOATS, Link
from tf_terngrad.ternary.schedules import AUTOMATIC, SCHEDULES
from tools.emulated_network import CannotEmulate, burst_seconds
from tools.network_lab import Lab, WorkersFailed, exit_on_signals

BASES = [*FLOATS, "GRACE"]
MODELLED = FLOATS | SCHEDULES | {AUTOMATIC.name: AUTOMATIC}
ALL_METHODS = [*BASES, *SCHEDULES, AUTOMATIC.name, "auto-each"]
SMALLEST = 1000  # as in exchange_methods.py: smaller ones travel as floats by every method

WORKERS = flags.DEFINE_list("workers", ["2", "4", "8"], "Numbers of workers.")
RATES = flags.DEFINE_list("rates", ["100mbit", "1gbit", "unlimited"], "Rates of each worker's link.")
SIZES = flags.DEFINE_list("sizes", ["5000000"], "Elements of the float32 gradients.")
TENSORS = flags.DEFINE_integer("tensors", 1, "Tensors that share these elements.", lower_bound=1)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 0, "Images of a training step, of each worker; 0: no training.")
ROUNDS = flags.DEFINE_integer("rounds", 7, "Measurements of each.", lower_bound=1)
METHODS = flags.DEFINE_list("methods", ALL_METHODS, f"Some of {', '.join(ALL_METHODS)}.")
REALTIME = flags.DEFINE_bool("realtime", False, "The workers go before all else that runs on this machine.")

for name, least in {"workers": 2, "sizes": SMALLEST}.items():
    flags.register_validator(
        name,
        lambda values, least=least: all(value.isdecimal() and int(value) >= least for value in values),
        f"expected whole numbers of at least {least}, such as {least},{2 * least}",
    )

Measured = collections.namedtuple("Measured", "seconds data")  # lists, by round


def launch(workers, rate):
    """Dict ((what, size), method) -> `Measured`: the slowest worker's times, the mean of the workers' bytes."""
    with tempfile.TemporaryDirectory() as folder, Lab(workers, bits_per_second(rate)) as lab:
        lists = {"sizes": SIZES.value, "methods": METHODS.value}
        options = [f"--{name}={','.join(values)}" for name, values in lists.items()]
        options += [f"--{flag.name}={flag.value}" for flag in (TENSORS, BATCH_SIZE, ROUNDS, REALTIME)]
        # Workers share this machine's cores: more threads would only wait for one another.
        one_thread = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
        lab.run([sys.executable, "-m", "tools.exchange_worker", f"--output={folder}", *options], env=one_thread)
        files = [json.loads(pathlib.Path(folder, f"{rank}.json").read_text()) for rank in range(workers)]
    results = {}
    for rows in zip(*files, strict=True):
        seconds = [max(times) for times in zip(*(row["seconds"] for row in rows), strict=True)]
        data = [statistics.mean(sent) for sent in zip(*(row["data"] for row in rows), strict=True)]
        results[tuple(rows[0]["case"]), rows[0]["method"]] = Measured(seconds, data)
    return results


def add_rows(add, workers, rate, results):
    """Adds a row for each case and method to a table."""
    for (case, method), measured in results.items():
        seconds, data = (statistics.median(values) for values in measured)
        expected_seconds, expected_data = model(method, case[1], workers, rate)
        if (case, "alone") in results:
            expected_seconds += statistics.median(results[case, "alone"].seconds)
        add(
            *(workers, rate, *case, method, f"{1000 * seconds:.2f}", f"{1 / seconds:.2f}"),
            *(f"{seconds / expected_seconds:.2f}", f"{data:,.0f}", f"{data / expected_data:.3f}"),
            *(f"{speedup(results, case, base, method):.2f}" for base in BASES),
        )


def model(method, size, workers, rate):
    """The seconds and bytes that the cost model says; NaN where it says nothing."""
    unknown = {"alone": (0, math.nan), "GRACE": (math.nan, (workers - 1) * size), "auto-each": (math.nan, math.nan)}
    if method in unknown:
        return unknown[method]
    bits = bits_per_second(rate)
    link = Link(bits or math.inf, burst=burst_seconds(bits))
    seconds = MODELLED[method].seconds(size, workers, link=link, cores=os.cpu_count() / workers)
    return seconds, MODELLED[method].bytes(size, workers)


def speedup(results, case, base, method):
    """How many times faster than another method this one was, in the rounds' median."""
    if (case, base) not in results:
        return math.nan
    pairs = zip(results[case, base].seconds, results[case, method].seconds, strict=True)
    return statistics.median(theirs / ours for theirs, ours in pairs)


def main(_):
    """Measure and print."""
    unknown = set(METHODS.value) - set(ALL_METHODS)
    if unknown:
        sys.exit(f"benchmark_network: expected some of {', '.join(ALL_METHODS)}. Received: {', '.join(unknown)}")
    exit_on_signals()
    titles = ["workers", "rate", "what", "elements", "method", "ms", "per s", "ms / model", "bytes", "bytes / model"]
    try:
        with growing_table([*titles, *(f"{base} /" for base in BASES)], text=["what", "method"]) as add:
            for workers, rate in itertools.product(map(int, WORKERS.value), RATES.value):
                add_rows(add, workers, rate, launch(workers, rate))
    except (CannotEmulate, WorkersFailed, ValueError) as error:
        sys.exit(f"benchmark_network: {error}")


if __name__ == "__main__":
    app.run(main)
