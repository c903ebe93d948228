"""How long a TFLite file takes on this machine's CPU."""

import collections.abc
import dataclasses
import os
import pathlib
import time

import numpy as np

from tf_terngrad.checks import integer, number
from tf_terngrad.console import plain_table
from tf_terngrad.tflite.litert import Runner, operators
from tf_terngrad.tflite.ports import FREE_SIZE, arrange, random_arrays
from tf_terngrad.tflite.report import format_fields, format_operators

ROUNDS = 20


@dataclasses.dataclass(frozen=True)
class LatencyReport:
    """The latency of one TFLite file; `str()` gives a table. Times are milliseconds.

    Use it when you want to read what `benchmark` measured: print it, or look at its fields.

    Attributes:
        path: Of the file, a string.
        threads: How many LiteRT might use.
        batch: Examples in one run.
        bytes: Size of the file.
        operators: Dict of operator name to count.
        custom: Names among them that are not stock TFLite operators.
        samples: Array of the time of every run measured.
    """

    path: str
    threads: int
    batch: int
    bytes: int
    operators: dict
    custom: tuple
    samples: np.ndarray = dataclasses.field(repr=False, compare=False)

    def quantile(self, share):
        """The time that this share of the runs stayed below: `quantile(0.9)`."""
        return float(np.quantile(self.samples, share))

    @property
    def median(self):
        """Half of the runs took longer; noise of the machine moves it little."""
        return self.quantile(0.5)

    @property
    def spread(self):
        """Between the quartiles: half of the runs lie in a span this wide."""
        return self.quantile(0.75) - self.quantile(0.25)

    def __str__(self):
        shown = ", ".join(f"{100 * share:.0f} % {self.quantile(share):.4g}" for share in (0.1, 0.25, 0.75, 0.9))
        return format_fields(
            [
                ("file", self.path),
                ("bytes", f"{self.bytes:,}"),
                ("operators", format_operators(self.operators, self.custom)),
                ("median", f"{self.median:.4g} ms, spread {self.spread:.2g} ms (between the quartiles)"),
                ("quantiles", f"{shown} ms"),
                ("measured", f"runs {len(self.samples):,}, batch {self.batch}, threads {self.threads}"),
            ]
        )


@dataclasses.dataclass(frozen=True)
class LatencyComparison:
    """The latencies of several files, measured in turns; `str()` gives a table.

    Use it when you want to read what `compare_latency` measured: print it, or look at its fields.

    Attributes:
        reports: Tuple of `LatencyReport`.
        ratios: Tuple of the latency of each file over the first one's: the median over rounds of the ratio of the
            medians in a round. A slow spell of the machine hits both and cancels.
    """

    reports: tuple
    ratios: tuple

    def __str__(self):
        rows = [
            (r.path, f"{r.bytes:,}", f"{r.median:.4g}", f"{r.spread:.2g}", f"{ratio:.3f}")
            for r, ratio in zip(self.reports, self.ratios, strict=True)
        ]
        return plain_table(["file", "bytes", "median ms", "spread ms", "ratio"], rows)


def benchmark(path, threads=1, warmup=10, runs=200, min_seconds=0.5, inputs=None):
    """Measure the latency of a TFLite file on this machine's CPU with LiteRT.

    Use it when you want to know what a file costs: its time for one run, its bytes, its operators.

    Each run is timed alone. Runs go on until there are `runs` of them and `min_seconds` have passed, so that a file of
    microseconds gets enough of them.

    Args:
        path: of the file, a string or a `pathlib.Path`.
        threads: how many threads LiteRT may use, an integer of at least 1.
        warmup: runs before the first one measured, an integer of at least 0.
        runs: the fewest runs to measure, an integer of at least 1.
        min_seconds: the shortest time to measure for, a number of at least 0.
        inputs: one batch of inputs: an array, a tuple of them in the order of the file's inputs, or a dict by name.
            Random ones by default, which serve unless the work depends on the values.

    Returns:
        A `LatencyReport`; `print` it.

    Raises:
        TypeError: not a path, such as a model that is not converted; or an argument of another kind.
        FileNotFoundError: no such file.
        ValueError: not a whole TFLite file, an argument out of range, inputs of a wrong shape, or a file that cannot
            run on random ones.

    Example:

    ```python
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    tt.tflite.convert(model, "digits.tflite")
    print(tt.tflite.benchmark("digits.tflite", threads=1))
    ```
    """
    return _compared("benchmark", [path], threads, warmup, runs, min_seconds, inputs).reports[0]


def compare_latency(paths, threads=1, warmup=10, runs=200, min_seconds=0.5, inputs=None):
    """Measure several TFLite files in turns and give their latencies as ratios to the first one's.

    Use it when you want to know which of two files is faster: before and after compaction, or in two modes.

    In each of 20 rounds every file runs for its share of the time, in an order that changes from round to round; the
    first run of a turn, with the caches full of another file, is not counted.

    Args:
        paths: of the files, a list of strings or of `pathlib.Path`.
        threads: how many threads LiteRT may use, an integer of at least 1.
        warmup: runs of each file before the first one measured, an integer of at least 0.
        runs: the fewest runs of each file to measure, an integer of at least 1.
        min_seconds: the shortest time to measure each file for, a number of at least 0.
        inputs: one batch of inputs that fits every file, as in `benchmark`. Random ones by default.

    Returns:
        A `LatencyComparison`; `print` it.

    Raises:
        TypeError: not a path, such as a model that is not converted; or an argument of another kind.
        FileNotFoundError: no such file.
        ValueError: not a whole TFLite file, an argument out of range, or inputs of a wrong shape.

    Example:

    ```python
    for units in (400, 40):
        model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(units), keras.layers.Dense(4)])
        tt.tflite.convert(model, f"{units}.tflite")
    print(tt.tflite.compare_latency(["400.tflite", "40.tflite"]))
    ```
    """
    return _compared("compare_latency", paths, threads, warmup, runs, min_seconds, inputs)


def _compared(owner, paths, threads, warmup, runs, min_seconds, inputs):
    _check_paths(paths)
    threads = integer(threads, "threads", owner, least=1)
    warmup = integer(warmup, "warmup", owner, least=0)
    runs = integer(runs, "runs", owner, least=1)
    min_seconds = number(min_seconds, "min_seconds", owner)
    runners = [_fed_runner(path, threads, inputs) for path in paths]
    for runner in runners:
        _timed(runner, warmup, 0.0)
    turns = [[] for _ in runners]
    for round_number in range(ROUNDS):
        for turn in range(len(runners)):
            which = (turn + round_number) % len(runners)
            runners[which].invoke()
            turns[which].append(_timed(runners[which], -(-runs // ROUNDS), min_seconds / ROUNDS))
    medians = np.array([[np.median(samples) for samples in of_file] for of_file in turns])
    reports = [_report(path, threads, *pair) for path, *pair in zip(paths, runners, turns, strict=True)]
    return LatencyComparison(tuple(reports), tuple(map(float, np.median(medians / medians[0], axis=1))))


def _check_paths(paths):
    several = isinstance(paths, collections.abc.Sized) and not isinstance(paths, (str, os.PathLike))
    if not several or not len(paths):
        raise ValueError(f"paths: expected a list of at least one file. Received: {paths!r}.")
    for path in paths:
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"Expected the path of a .tflite file; make one with `convert`. Received: {path!r}.")


def _fed_runner(path, threads, inputs):
    runner = Runner(path, threads)
    batch = runner.batch or 1
    # Integers stay 0, the row that every lookup table has.
    arrays = random_arrays(runner.inputs, batch, limit=1) if inputs is None else arrange(inputs, runner.inputs, path)
    if runner.batch and len(arrays[0]) != batch:
        raise ValueError(f"{path}: expected inputs of {batch} examples, a batch. Received: {len(arrays[0])}.")
    runner.feed(arrays)
    if inputs is None and any(None in port.shape[1:] for port in runner.inputs):
        _check_takes_random(runner, path)
    return runner


def _check_takes_random(runner, path):
    try:
        runner.invoke()
    except RuntimeError as error:
        sizes = ", ".join(f"{port.name} {port.shape}" for port in runner.inputs)
        raise ValueError(
            f"{path}: LiteRT cannot run the file on random inputs, with {FREE_SIZE} for a free size; give inputs=."
            f" Received: inputs {sizes}; {str(error).strip().splitlines()[0]}"
        ) from error


def _timed(runner, runs, seconds):
    """Runs at least `runs` times and for `seconds`; returns the milliseconds of each run."""
    samples, begin = [], time.perf_counter()
    end = begin
    while len(samples) < runs or end - begin < seconds:
        start = time.perf_counter()
        runner.invoke()
        end = time.perf_counter()
        samples.append(1000 * (end - start))
    return samples


def _report(path, threads, runner, turns):
    counts, custom = operators(path)
    size = pathlib.Path(path).stat().st_size
    return LatencyReport(str(path), threads, runner.examples, size, counts, custom, np.concatenate(turns))
