"""What is an integer, a number or a switch is the same for every public argument, and so is the sentence that refuses.

One row of `ARGUMENTS` is one argument: who takes it, its name, and a call in which nothing else is of interest.
"""

import dataclasses
import warnings
from collections.abc import Callable

import keras
import numpy as np
import pytest

import tf_terngrad as tt
from tf_terngrad.ternary.distributed.settings import Settings


@dataclasses.dataclass(frozen=True)
class Argument:
    """A public argument: values that it takes, values of a wrong kind, and values out of its range."""

    owner: str
    name: str
    call: Callable
    taken: tuple
    mistyped: tuple
    out_of_range: tuple = ()


def integer(owner, name, call, least, flags=False, none=False):
    """An integer; where `flags`, True and False mean something too, where `none`, None does."""
    mistyped = (2.0, np.float32(2), "2", [2], 2j, np.ones(1, int), *(() if none else (None,)))
    taken = (2, np.int64(2), np.uint8(2), *((np.True_,) if flags else ()))
    return Argument(owner, name, call, taken, mistyped + (() if flags else (True, np.True_)), (least - 1, -(10**30)))


def number(owner, name, call, good=0.5, positive=False, none=False):
    """A finite number of at least 0, or above 0; where `none`, None means something too."""
    wrong = (float("nan"), float("inf"), np.float32("-inf"), -1e-300, 10**400, *((0, 0.0) if positive else (-1,)))
    mistyped = (True, np.True_, str(good), [good], 1j, *(() if none else (None,)))
    return Argument(owner, name, call, (good, np.float32(good)), mistyped, wrong)


def flag(owner, name, call):
    """A switch."""
    return Argument(owner, name, call, (True, False, np.True_), (1, 0, "yes", None, 1.0))


def strings(owner, name, call, good, none=False, one=False):
    """A list of texts; where `none`, None means something too, where `one`, a text alone."""
    mistyped = (3, True, 2.5, [3], ["a", None], {1: "a"}, b"a", *(() if none else (None,)), *(() if one else (good,)))
    return Argument(owner, name, call, ([good], (good,), np.array([good]), {good}, *((good,) if one else ())), mistyped)


def dense():
    hidden, more = keras.layers.Dense(3, name="hidden"), keras.layers.Dense(3, name="more")
    return keras.Sequential([keras.Input((4,)), hidden, more, keras.layers.Dense(2)])


def recurrent():
    return keras.Sequential([keras.Input((4, 2)), keras.layers.GRU(2)])


def convert(model=dense, **arguments):
    tt.tflite.convert(model(), "m.tflite", **arguments)


def mode(**arguments):
    tt.tflite.QuantizationMode(**{"name": "mine", "prepare": print, "tolerance": 0.1, **arguments})


def benchmark(**arguments):
    tt.tflite.benchmark("file.tflite", **{"runs": 1, "warmup": 0, "min_seconds": 0.0, **arguments})


def compare_latency(**arguments):
    tt.tflite.compare_latency(["file.tflite"], **{"runs": 1, "warmup": 0, "min_seconds": 0.0, **arguments})


def compact(**arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nothing leaves
        tt.compact(dense(), **arguments)


def simulated(workers):
    model = dense()
    model.compile("sgd")
    tt.distributed.simulate(model, workers, tt.TernGrad())


def histograms(**arguments):
    tt.distributed.callbacks.GradientHistograms(np.ones((4, 4)), np.ones(4), "histograms", **arguments)


TFLITE = [
    integer("convert", "batch_size", lambda v: convert(batch_size=v), 1, none=True),
    integer("convert", "streaming", lambda v: convert(recurrent, streaming=v), 1, flags=True, none=True),
    integer("benchmark", "threads", lambda v: benchmark(threads=v), 1),
    integer("benchmark", "warmup", lambda v: benchmark(warmup=v), 0),
    integer("benchmark", "runs", lambda v: benchmark(runs=v), 1),
    number("benchmark", "min_seconds", lambda v: benchmark(min_seconds=v), good=0.01),
    integer("compare_latency", "threads", lambda v: compare_latency(threads=v), 1),
    integer("compare_latency", "warmup", lambda v: compare_latency(warmup=v), 0),
    integer("compare_latency", "runs", lambda v: compare_latency(runs=v), 1),
    number("compare_latency", "min_seconds", lambda v: compare_latency(min_seconds=v), good=0.01),
    number("QuantizationMode", "tolerance", lambda v: mode(tolerance=v), positive=True),
    strings("QuantizationMode", "routes", lambda v: mode(routes=v), good="loop"),
    flag("QuantizationMode", "exact", lambda v: mode(exact=v)),
    flag("QuantizationMode", "needs_calibration", lambda v: mode(needs_calibration=v)),
]
SPARSITY = [
    number("compact", "tolerance", lambda v: compact(tolerance=v)),
    integer("compact", "round_to", lambda v: compact(round_to=v), 1),
    strings("compact", "keep", lambda v: compact(keep=v), good="hidden", none=True, one=True),
    flag("compact", "dry_run", lambda v: compact(dry_run=v)),
    number("SparsityMonitor", "tolerance", lambda v: tt.callbacks.SparsityMonitor(tolerance=v)),
    integer("SparsityMonitor", "every", lambda v: tt.callbacks.SparsityMonitor(every=v), 1),
    number("ZeroSmallWeights", "threshold", lambda v: tt.callbacks.ZeroSmallWeights(v)),
    flag("ZeroSmallWeights", "hold", lambda v: tt.callbacks.ZeroSmallWeights(1e-3, hold=v)),
    number("sparsify", "strength", lambda v: tt.sparsify(dense(), strength=v), none=True),
    number("sparsify", "ratio", lambda v: tt.sparsify(dense(), ratio=v), none=True),
    strings("sparsify", "kinds", lambda v: tt.sparsify(dense(), 1.0, kinds=v), good="unit", none=True),
    strings("sparsify", "include", lambda v: tt.sparsify(dense(), 1.0, include=v), good="hid*", none=True),
    strings("sparsify", "exclude", lambda v: tt.sparsify(dense(), 1.0, exclude=v), good="hidden", none=True),
    number("FilterLasso", "strength", tt.regularizers.FilterLasso),
    number("GroupLasso", "strength", lambda v: tt.regularizers.GroupLasso(v, axis=0)),
    integer("BlockLasso", "block[0]", lambda v: tt.regularizers.BlockLasso(1.0, block=(v, 8)), 1),
    integer("BlockLasso", "block[1]", lambda v: tt.regularizers.BlockLasso(1.0, block=(8, v)), 1),
]
TERNARY = [
    number("TernGrad", "clip", lambda v: tt.TernGrad(clip=v), positive=True, none=True),
    integer("TernGrad", "levels", lambda v: tt.TernGrad(levels=v), 1),
    integer("TernGrad", "bucket_size", lambda v: tt.TernGrad(bucket_size=v), 1, none=True),
    flag("TernGrad", "share_scales", lambda v: tt.TernGrad(share_scales=v)),
    integer("TernGrad", "smallest", lambda v: tt.TernGrad(smallest=v), 0),
    integer("TernGrad", "seed", lambda v: tt.TernGrad(seed=v), -(2**63)),
    integer("ternarize", "levels", lambda v: tt.ternarize(np.ones(4, "float32"), seed=(1, 2), levels=v), 1),
    integer("ternarize", "seed[0]", lambda v: tt.ternarize(np.ones(4, "float32"), seed=(v, 2)), -(2**63)),
    integer("pack", "levels", lambda v: tt.pack(np.ones(4, "int8"), levels=v), 1),
    integer("simulate", "workers", simulated, 1),
    integer("BroadcastVariables", "root_rank", lambda v: tt.distributed.callbacks.BroadcastVariables(v), 0),
    number("WarmUpLearningRate", "initial_lr", lambda v: tt.distributed.callbacks.WarmUpLearningRate(v)),
    number("ScheduleLearningRate", "initial_lr", lambda v: tt.distributed.callbacks.ScheduleLearningRate(v, 0.5)),
    integer("CheckReplicas", "every", lambda v: tt.distributed.callbacks.CheckReplicas(every=v), 1),
    integer("GradientHistograms", "workers", lambda v: histograms(workers=v), 1),
    integer("GradientHistograms", "every", lambda v: histograms(every=v), 1),
    strings("GradientHistograms", "variables", lambda v: histograms(variables=v), good="*bias", one=True),
    strings("DistributedOptimizer", "exclude", lambda v: Settings(exclude=v), good="*bias"),
]
ARGUMENTS = [*TFLITE, *SPARSITY, *TERNARY]


@pytest.fixture(autouse=True, scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("arguments"))
        tt.tflite.convert(dense(), "file.tflite")
        yield


every_argument = pytest.mark.parametrize(
    "argument", ARGUMENTS, ids=lambda argument: f"{argument.owner}-{argument.name}"
)


@every_argument
def test_what_it_means_is_taken_whatever_made_it(argument):
    for value in argument.taken:
        argument.call(value)


@every_argument
@pytest.mark.parametrize("error, values", [(TypeError, "mistyped"), (ValueError, "out_of_range")])
def test_what_it_is_not_is_refused_in_one_sentence(argument, error, values):
    for value in getattr(argument, values):
        with pytest.raises(error) as caught:
            argument.call(value)
        check(argument, value, str(caught.value))


def check(argument, value, sentence):
    """Who, what was expected, what came."""
    assert sentence.startswith(f"{argument.owner}: expected `{argument.name}` to be "), sentence
    assert f". Received: {argument.name}={value!r}"[:100] in sentence, sentence
    assert "\n" not in sentence
