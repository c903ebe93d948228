"""Tell how much faster a model would train with ternary gradients, by number of workers and link.

A step takes what a worker computes for its own examples, given (--step-ms) or estimated from the model's operations,
and the exchange of gradients, by a formula. Speed-ups are over float32 gradients with as many workers.

The formula was measured with up to 8 workers and 1 Gb/s: 89 % of 198 times were within 25 % of it. Beyond that it is
the same formula, and nothing was measured.

Examples:
  tf-terngrad worth-it
  tf-terngrad worth-it alexnet --batch-size=64 --plot=alexnet.png
  tf-terngrad worth-it mine.keras --step-ms=230 --links=1gbit,10gbit
"""

import math

from tf_terngrad.cli.files import add_model_arguments, check_target, load_model
from tf_terngrad.cli.model_sizes import SIZES, size_of
from tf_terngrad.cli.rates import bits_per_second
from tf_terngrad.cli.types import integer, names, number
from tf_terngrad.console import show_table
from tf_terngrad.ternary import cost
from tf_terngrad.ternary.schedules import SCHEDULES

INFINIBAND = cost.Link(100e9, 2e-6)


def add_arguments(parser) -> None:
    """Add the models, the network and the worker."""
    parser.add_argument(
        "models",
        metavar="MODEL",
        nargs="*",
        default=list(SIZES),
        help=f"some of {', '.join(SIZES)}, or saved Keras models",
    )
    parser.add_argument(
        "--links",
        type=names,
        default=["1gbit", "10gbit", "infiniband"],
        metavar="RATE,...",
        help="of the workers' network: 100mbit, 1gbit, ...; infiniband is 100gbit",
    )
    parser.add_argument(
        "--delay-us",
        type=number(),
        metavar="US",
        help="microseconds from one worker to another; 50 if not given, InfiniBand 2",
    )
    parser.add_argument("--max-workers", type=integer(2, 1024), default=1024, metavar="N", help="the most workers")
    parser.add_argument(
        "--step-ms", type=number(above=0), metavar="MS", help="what a worker alone takes for a step; else estimated"
    )
    parser.add_argument(
        "--batch-size", type=integer(1), metavar="N", help="examples in a worker's step; the paper's if not given"
    )
    parser.add_argument(
        "--teraflops",
        type=number(above=0),
        default=5.0,
        metavar="T",
        help="operations that a worker really does in a second, for the estimate",
    )
    parser.add_argument(
        "--cores", type=integer(1), default=8, metavar="N", help="of the processor, that encode for a worker"
    )
    parser.add_argument(
        "--levels", type=integer(1, 127), default=1, metavar="L", help="digits are from -L to L; 1 is ternary"
    )
    parser.add_argument("--plot", metavar="FILE.png", help="draw the tables")
    parser.add_argument("--overwrite", action="store_true", help="replace a picture that exists")
    add_model_arguments(parser)


def run(arguments) -> None:
    """Print a table for each model and link, and draw them all."""
    saved = [name for name in arguments.models if name not in SIZES]
    if arguments.plot:
        check_target(arguments.plot, [".png"], saved, arguments.overwrite)
    workers = [2**power for power in range(arguments.max_workers.bit_length())]
    sizes = [SIZES.get(name) or size_of(load_model(name, arguments)) for name in arguments.models]
    computes = [compute_seconds(size, arguments) for size in sizes]
    panels = {}
    for name, link in links(arguments).items():
        for size, compute in zip(sizes, computes, strict=True):
            panels[size.name, name] = throughputs(size, compute, link, workers, arguments)
            show(size, compute, name, workers, panels[size.name, name])
    if arguments.plot:
        from tf_terngrad.cli.scaling_plot import plot  # only who draws waits for matplotlib

        plot(arguments.plot, workers, panels)


def links(arguments) -> dict[str, cost.Link]:
    """Title -> link.

    Raises:
        ValueError: a link has no rate.
    """
    found = {}
    for name in arguments.links:
        kind = "InfiniBand" if name == "infiniband" else "Ethernet"
        rate = INFINIBAND.rate if name == "infiniband" else bits_per_second(name)
        if rate is None:
            raise ValueError("Expected links with a rate. Received: unlimited")
        link = INFINIBAND if name == "infiniband" else cost.Link(rate)
        if arguments.delay_us is not None:
            link = cost.Link(link.rate, arguments.delay_us * 1e-6)
        found[f"{kind}, {link.rate / 1e9:g} Gb/s"] = link
    return found


def compute_seconds(size, arguments) -> float:
    """What a worker computes in a step: given, or forward and twice as much backward.

    Raises:
        ValueError: it is neither given nor known.
    """
    if arguments.step_ms is not None:
        return arguments.step_ms / 1000
    if size.operations is None:
        raise ValueError(f"How long a step of {size.name} takes is not known. Measure it, and give --step-ms")
    return 3 * size.operations * (arguments.batch_size or size.batch) / (arguments.teraflops * 1e12)


def throughputs(size, compute, link, workers, arguments) -> dict[str, list[float]]:
    """Method -> steps a second of all workers together, for each number of workers; NaN where it cannot hold them."""
    methods = cost.FLOATS | SCHEDULES  # now: a program may have registered some

    def of(method, count):
        if not methods[method].holds(count, arguments.levels):
            return math.nan
        where = {"levels": arguments.levels, "link": link, "cores": arguments.cores}
        return count / cost.step_seconds(methods[method], compute, size.parameters, count, **where)

    return {method: [of(method, count) for count in workers] for method in methods}


def show(size, compute, name, workers, speeds) -> None:
    """How many times faster than float32, for each number of workers; and how much of N workers' work float32 does."""
    dense = 100 * size.dense / size.parameters
    print(
        f"\n{size.name}: {size.parameters:,} parameters, {dense:.0f} % of them fully connected or recurrent; "
        f"{1000 * compute:.0f} ms a step; {name}"
    )
    alone = speeds["float32"][0]
    efficiency = [100 * speed / (count * alone) for count, speed in zip(workers, speeds["float32"], strict=True)]
    rows = [("float32 efficiency %", *(f"{value:.0f}" for value in efficiency))]
    for method in list(speeds)[1:]:
        ratios = [ours / theirs for ours, theirs in zip(speeds[method], speeds["float32"], strict=True)]
        rows.append((f"{method} / float32", *("-" if math.isnan(ratio) else f"{ratio:.2f}" for ratio in ratios)))
    show_table(["workers", *map(str, workers)], rows)
