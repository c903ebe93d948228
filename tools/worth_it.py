"""Is it worth it? How much faster a model would train with ternary gradients, by number of workers and link.

    python tools/worth_it.py                                       # the paper's networks and an LSTM
    python tools/worth_it.py --model=alexnet --batch_size=64 --plot=alexnet.png
    python tools/worth_it.py --model=mine.keras --step_ms=230 --links=1gbit,10gbit

A step takes t_comp + t_comm: what a worker computes for its own examples, given or estimated from the model's
operations, and the exchange as `tf_terngrad.ternary.cost` has it. Speed-ups are over float32 with as many workers.

What it says of exchanges was measured with up to 8 workers and 1 Gb/s: 89 % of 198 times were within 25 % of it (see
docs/results.md for the others). Beyond that it is the same formula, and nothing was measured.
"""

import math
import pathlib
import sys

from absl import app, flags
from common import load_model
from emulated_network import bits_per_second
from model_sizes import SIZES, size_of
from worth_it_plot import plot

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tf_terngrad.ternary import cost
from tf_terngrad.ternary.schedules import SCHEDULES

FLAGS = flags.FLAGS
flags.DEFINE_list("model", list(SIZES), f"Some of {', '.join(SIZES)}, or paths of .keras files.")
flags.DEFINE_list("links", ["1gbit", "10gbit", "infiniband"], "Rates, such as 1gbit; infiniband is 100gbit.")
flags.DEFINE_float(
    "delay_us", None, "Microseconds from one worker to another; by default 50, InfiniBand 2.", lower_bound=0
)
flags.DEFINE_integer("max_workers", 1024, "The largest number of workers.", lower_bound=2, upper_bound=1024)
flags.DEFINE_float("step_ms", None, "Milliseconds that a worker alone takes for a step; by default estimated.")
flags.DEFINE_integer("batch_size", None, "Examples in a worker's step; by default the paper's.", lower_bound=1)
flags.DEFINE_float("teraflops", 5, "Operations that a worker really does in a second, for the estimate.")
flags.DEFINE_integer("cores", 8, "Of the processor, that encode and decode for a worker.", lower_bound=1)
flags.DEFINE_integer("levels", 1, "L: digits are in [-L, L].", lower_bound=1, upper_bound=127)
flags.DEFINE_string("plot", None, "A PNG file for the picture.")

for name in ("model", "links"):
    flags.register_validator(name, bool, "expected at least one")
for name in ("step_ms", "teraflops"):
    flags.register_validator(name, lambda value: value is None or 0 < value < math.inf, "expected a number above 0")
flags.register_validator("delay_us", lambda value: value is None or math.isfinite(value), "expected a finite number")

METHODS = cost.FLOATS | SCHEDULES
INFINIBAND = cost.Link(100e9, 2e-6)


def links():
    """Title -> `Link`, as the flags say."""
    found = {}
    for name in FLAGS.links:
        kind = "InfiniBand" if name == "infiniband" else "Ethernet"
        rate = INFINIBAND.rate if name == "infiniband" else bits_per_second(name)
        if rate is None:
            raise ValueError("Expected links with a rate. Received: unlimited")
        link = INFINIBAND if name == "infiniband" else cost.Link(rate)
        if FLAGS.delay_us is not None:
            link = cost.Link(link.rate, FLAGS.delay_us * 1e-6)
        found[f"{kind}, {link.rate / 1e9:g} Gb/s"] = link
    return found


def compute_seconds(size):
    """t_comp: given, or forward and twice as much backward."""
    if FLAGS.step_ms is not None:
        return FLAGS.step_ms / 1000
    if size.operations is None:
        raise ValueError(f"How long a step of {size.name} takes is not known. Measure it, and give --step_ms.")
    return 3 * size.operations * (FLAGS.batch_size or size.batch) / (FLAGS.teraflops * 1e12)


def throughputs(size, compute, link, workers):
    """Method -> steps a second of all workers together, for each number of workers."""

    def of(method, count):
        where = {"levels": FLAGS.levels, "link": link, "cores": FLAGS.cores}
        return count / cost.step_seconds(METHODS[method], compute, size.parameters, count, **where)

    return {method: [of(method, count) for count in workers] for method in METHODS}


def print_table(size, compute, name, workers, speeds):
    """How many times faster than float32, for each number of workers; and how much of N workers' work float32 does."""
    dense = 100 * size.dense / size.parameters
    print(
        f"\n{size.name}: {size.parameters:,} parameters, {dense:.0f} % of them fully connected or recurrent; "
        f"{1000 * compute:.0f} ms a step; {name}"
    )
    print(f"{'workers':>22}" + "".join(f"{count:>8}" for count in workers))
    alone = speeds["float32"][0]
    efficiency = [100 * speed / (count * alone) for count, speed in zip(workers, speeds["float32"], strict=True)]
    print(f"{'float32 efficiency %':>22}" + "".join(f"{value:>8.0f}" for value in efficiency))
    for method in list(METHODS)[1:]:
        ratios = [ours / theirs for ours, theirs in zip(speeds[method], speeds["float32"], strict=True)]
        print(f"{method + ' / float32':>22}" + "".join(f"{ratio:>8.2f}" for ratio in ratios))


def main(argv):
    """Print a table for each model and link, and draw them all."""
    if len(argv) > 1:
        raise app.UsageError(f"Expected flags only. Received: {argv[1:]}")
    workers = [2**power for power in range(FLAGS.max_workers.bit_length())]
    panels = {}
    try:
        sizes = [SIZES[name] if name in SIZES else size_of(load_model(name)) for name in FLAGS.model]
        for size in sizes:
            compute = compute_seconds(size)
            for name, link in links().items():
                speeds = throughputs(size, compute, link, workers)
                print_table(size, compute, name, workers, speeds)
                panels[size.name, name] = speeds
        if FLAGS.plot:
            plot(FLAGS.plot, workers, panels)
    except (OSError, ValueError) as error:
        sys.exit(f"worth_it: {error}")


if __name__ == "__main__":
    app.run(main)
