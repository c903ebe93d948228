"""What a latency report says follows from the runs, and the runs are as many as asked for. No clock is judged."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers

from tf_terngrad import tflite
from tf_terngrad.tflite import latency
from tf_terngrad.tflite.litert import Runner

FEW = {"warmup": 1, "runs": 20, "min_seconds": 0.0}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A file of two named inputs, and one of a free size in its batch and elsewhere."""
    folder = tmp_path_factory.mktemp("files")
    pixels, tokens = keras.Input((6,), name="pixels"), keras.Input((3,), dtype="int32", name="tokens")
    read = layers.Flatten()(layers.Embedding(1, 4)(tokens))
    pair = keras.Model([pixels, tokens], layers.Dense(2)(layers.Concatenate()([pixels, read])))
    tflite.convert(pair, folder / "pair.tflite", calibration=(np.ones((2, 6)), np.zeros((2, 3), int)))
    image = keras.Input((None, None, 1), name="image")
    free = keras.Model(image, layers.GlobalMaxPooling2D()(layers.Conv2D(2, 3)(image)))
    tflite.convert(free, folder / "free.tflite", batch_size=None)
    return folder


class Clock:
    """Counts the seconds that a file would take, so that no real time enters a test."""

    def __init__(self, monkeypatch, seconds):
        self.now, self.runs = 0.0, 0
        self.seconds = itertools.cycle(seconds)
        monkeypatch.setattr(latency.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(Runner, "invoke", lambda runner: self.run())

    def run(self):
        self.now += next(self.seconds)
        self.runs += 1


@pytest.mark.parametrize("name", ["pair", "free"])
def test_real_file_is_measured(files, name):
    path = files / f"{name}.tflite"
    report = tflite.benchmark(path, **FEW)
    assert len(report.samples) == 20 and (report.samples > 0).all()
    assert report.samples.min() <= report.median <= report.samples.max()
    assert (report.bytes, report.batch, report.threads) == (path.stat().st_size, 1, 1)
    assert report.custom == () and set(report.operators) >= {"pair": {"GATHER"}, "free": {"CONV_2D"}}[name]
    assert str(path) in str(report) and f"{report.median:.4g} ms" in str(report)


def test_statistics_are_those_of_the_runs(files, monkeypatch):
    Clock(monkeypatch, [0.001, 0.002, 0.003, 0.010])
    report = tflite.benchmark(files / "pair.tflite", **FEW)
    milliseconds = sorted(report.samples)
    assert set(np.round(milliseconds, 6)) <= {1.0, 2.0, 3.0, 10.0}
    assert report.median == np.median(milliseconds)
    assert report.spread == np.quantile(milliseconds, 0.75) - np.quantile(milliseconds, 0.25)


def test_runs_go_on_until_the_time_is_up(files, monkeypatch):
    clock = Clock(monkeypatch, [0.001])
    report = tflite.benchmark(files / "pair.tflite", warmup=7, runs=1, min_seconds=1.0)
    assert 1000 <= len(report.samples) <= 1000 + 2 * latency.ROUNDS
    assert clock.runs == 7 + latency.ROUNDS + len(report.samples)


def test_ratio_is_free_of_what_slows_all_files_down(files, monkeypatch):
    spent = itertools.count()
    now = [0.0]
    cost = {"pair": 0.001, "free": 0.004}
    monkeypatch.setattr(latency.time, "perf_counter", lambda: now[0])

    def invoke(runner):
        slow = 1 + next(spent) // 84  # a round of both files is 2 * (1 + 41) runs
        now[0] += slow * cost[runner.inputs[0].name.replace("pixels", "pair").replace("image", "free")]

    monkeypatch.setattr(Runner, "invoke", invoke)
    paths = [files / "pair.tflite", files / "free.tflite"]
    comparison = tflite.compare_latency(paths, warmup=0, runs=41 * latency.ROUNDS, min_seconds=0.0)
    assert comparison.reports[0].spread > 1
    np.testing.assert_allclose(comparison.ratios, (1.0, 4.0), rtol=1e-6)
    assert "4.000" in str(comparison)


def test_own_inputs_reach_the_file(files, monkeypatch):
    fed = []
    feed = Runner.feed
    monkeypatch.setattr(Runner, "feed", lambda runner, arrays: (fed.append(arrays), feed(runner, arrays)))
    inputs = {"tokens": np.zeros((1, 3), int), "pixels": np.full((1, 6), 0.25)}
    tflite.benchmark(files / "pair.tflite", inputs=inputs, **FEW)
    assert {array.shape: array.max() for array in fed[0]} == {(1, 6): 0.25, (1, 3): 0}
    image = np.ones((2, 9, 7, 1))
    assert tflite.benchmark(files / "free.tflite", inputs=image, **FEW).batch == 2


REFUSED = {
    "threads": ({"threads": 0}, "benchmark: expected `threads`.*of at least 1. Received: threads=0"),
    "warmup": ({"warmup": -1}, "benchmark: expected `warmup`.*of at least 0. Received: warmup=-1"),
    "runs": ({"runs": 0}, "benchmark: expected `runs`.*of at least 1. Received: runs=0"),
    "seconds": ({"min_seconds": float("nan")}, "benchmark: expected `min_seconds`.*Received: min_seconds=nan"),
    "shape": ({"inputs": (np.ones((1, 5)), np.ones((1, 3), int))}, r"'pixels'.*\(n, 6\).*Received: shape \(1, 5\)"),
    "batch": ({"inputs": (np.ones((2, 6)), np.ones((2, 3), int))}, "1 examples.*Received: 2"),
}


@pytest.mark.parametrize("arguments, message", REFUSED.values(), ids=REFUSED)
def test_bad_arguments_are_refused(files, arguments, message):
    with pytest.raises(ValueError, match=message):
        tflite.benchmark(files / "pair.tflite", **arguments)


def test_no_files_are_refused():
    for paths in ([], "m.tflite"):
        with pytest.raises(ValueError, match="list of at least one file"):
            tflite.compare_latency(paths)


def test_a_model_in_place_of_a_file_is_refused():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    with pytest.raises(TypeError, match=r"path of a \.tflite file; make one with `convert`.*Received: <Sequential"):
        tflite.benchmark(model)
    with pytest.raises(ValueError, match=r"list of at least one file\. Received: <Sequential"):
        tflite.compare_latency(model)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_truncated_file_is_refused(files, tmp_path, share):
    content = (files / "pair.tflite").read_bytes()
    path = tmp_path / "cut.tflite"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"cut\.tflite is not a whole TFLite file"):
        tflite.benchmark(path)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.tflite"):
        tflite.benchmark(tmp_path / "none.tflite")
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        tflite.benchmark(tmp_path)


def test_a_file_that_cannot_run_on_random_inputs_asks_for_others(tmp_path):
    """A table of 20 positions, and a free number of steps."""
    steps = keras.Input((None,), dtype="int32", name="steps")
    places = keras.ops.cumsum(keras.ops.ones_like(steps), axis=1) - 1
    path = tmp_path / "m.tflite"
    tflite.convert(keras.Model(steps, keras.layers.Embedding(20, 3)(places)), path)
    with pytest.raises(ValueError, match=r"with 32 for a free size; give inputs=.*steps \(1, None\)"):
        tflite.benchmark(path, runs=1, min_seconds=0)
    report = tflite.benchmark(path, runs=1, min_seconds=0, inputs=np.ones((1, 5), "int32"))
    assert report.median > 0
