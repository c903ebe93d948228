"""Recurrent networks in TFLite: every route gives the model's outputs."""

import warnings

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers
from recurrent_models import both_ways, inside, known, noise, one, shared, stacked, words
from small_models import randomized, sequential

from tf_terngrad import tflite
from tf_terngrad.tflite import candidates

FUSED = "UNIDIRECTIONAL_SEQUENCE_LSTM"


@pytest.mark.parametrize("build, count", [(one, 1), (stacked, 2), (both_ways, 4), (shared, 2), (inside, 1)])
def test_lstm_becomes_the_fused_operator_with_the_same_outputs(build, count, tmp_path):
    report = tflite.convert(randomized(build()), tmp_path / "m.tflite", recurrent="fused")
    assert report.operators[FUSED] == count and "WHILE" not in report.operators and report.custom == ()
    assert set(report.recurrent.values()) == {"fused"}
    assert report.relative_difference <= 1e-5


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_fused_operator_forgets_the_run_before(scale, tmp_path):
    model = randomized(one())
    for weight in model.weights:
        weight.assign(scale * weight)
    tflite.convert(model, tmp_path / "m.tflite", recurrent="fused")
    run = Interpreter(model_path=str(tmp_path / "m.tflite")).get_signature_runner()
    for example in scale * noise(5, 1, 6, 3):
        np.testing.assert_allclose(run(image=example)["a"], model(example), atol=1e-6)


def tiny_forget_gate():
    """The forget gates hardly read the inputs, and keep nearly everything."""
    model = randomized(sequential((60, 7), layers.LSTM(128, return_sequences=True, name="a"), layers.Dense(2)))
    kernel, _, bias = model.layers[0].weights
    kernel.assign(np.where(np.arange(512) // 128 == 1, 1e-9, 1) * kernel)
    bias.assign(np.where(np.arange(512) // 128 == 1, 3, bias))
    return model


@pytest.mark.parametrize("quantize, tolerance", [(None, 1e-5), ("float16", 1e-2), ("dynamic", 0.1)])
def test_fused_operator_forgets_the_run_before_whatever_the_size_of_a_gates_kernel(quantize, tolerance, tmp_path):
    report = tflite.convert(tiny_forget_gate(), tmp_path / "m.tflite", quantize, recurrent="fused")
    assert report.recurrent == {"a": "fused"} and report.relative_difference <= tolerance


@pytest.mark.parametrize("good, took", [("loop", "loop"), ("unroll", "unrolled"), (None, "fused")])
def test_a_quantized_file_within_tolerance_goes_before_a_fast_one(good, took, tmp_path, monkeypatch):
    """Where none is within tolerance, the nearest is taken, with a warning."""
    noises = {"loop": 0.9, "fused": 0.5, "unroll": 0.8, good: 0.0}
    honest = candidates.flatbuffer

    def noisy(model, *arguments):
        bias, noise = model.layers[1].bias, noises[routes.pop(0)]
        bias.assign_add([noise, 0.0])
        content = honest(model, *arguments)
        bias.assign_sub([noise, 0.0])
        return content

    routes, model = list(candidates.ROUTES), randomized(known(6))
    monkeypatch.setattr(candidates, "flatbuffer", noisy)
    monkeypatch.setattr(candidates, "_fastest_first", lambda found, *arguments: found)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        report = tflite.convert(model, tmp_path / "m.tflite", "float16")
    assert set(report.recurrent.values()) == {took}
    assert sum("for float16" in str(one.message) for one in warned) == (0 if good else 1)
    assert (report.relative_difference <= 1e-2) == bool(good)


NOT_FUSED = {
    "other layer": (lambda: known(6, layers.GRU), "no fused GRU"),
    "mask": (lambda: sequential((6, 3), layers.Masking(), layers.LSTM(4)), "no mask"),
    "activation": (lambda: sequential((6, 3), layers.LSTM(4, activation="relu")), "not tanh and sigmoid"),
}


@pytest.mark.parametrize("build, reason", NOT_FUSED.values(), ids=NOT_FUSED)
def test_what_cannot_be_fused_is_a_loop_and_says_why(build, reason, tmp_path):
    with pytest.raises(tflite.ConversionError, match=f"fits no layer.*{reason}"):
        tflite.convert(randomized(build()), tmp_path / "m.tflite", recurrent="fused")
    report = tflite.convert(randomized(build()), tmp_path / "m.tflite", recurrent="loop")
    assert "WHILE" in report.operators and report.relative_difference <= 1e-5


def test_a_model_is_fused_where_it_can_be_and_the_loop_beside_it_starts_from_zeros(tmp_path):
    model = sequential((6, 3), layers.LSTM(4, return_sequences=True, name="low"), layers.GRU(4, name="high"))
    report = tflite.convert(randomized(model), tmp_path / "m.tflite", recurrent="fused")
    assert report.recurrent == {"low": "fused", "high": "loop (TFLite has no fused GRU)"}
    assert report.operators[FUSED] == report.operators["WHILE"] == 1


def test_the_fastest_route_is_taken_and_told(tmp_path, monkeypatch):
    medians = {"loop": 0.4, "fused": 0.1, "unroll": 0.2}

    def measured(paths, **arguments):
        reports = [type("Report", (), {"median": medians[str(path).rsplit(".", 1)[-1]]}) for path in paths]
        return type("Comparison", (), {"reports": reports})

    monkeypatch.setattr(candidates, "compare_latency", measured)
    report = tflite.convert(randomized(one()), tmp_path / "m.tflite")
    assert report.recurrent == {"a": "fused"} and report.operators[FUSED] == 1
    assert {route: time for route, (time, _) in report.routes.items()} == medians
    assert ["layer", "'a'", "fused"] in map(str.split, str(report).splitlines())
    assert f"fused 0.1 ms {report.bytes:,} bytes" in str(report)
    medians["unroll"] = 0.05
    assert tflite.convert(randomized(one()), tmp_path / "m.tflite").recurrent == {"a": "unrolled"}
    medians["fused"] = 0.054  # near, and smaller
    assert tflite.convert(randomized(one()), tmp_path / "m.tflite").recurrent == {"a": "fused"}
    assert [path.name for path in tmp_path.iterdir()] == ["m.tflite"]


def test_the_smallest_file_is_taken_without_a_measurement(tmp_path, monkeypatch):
    monkeypatch.setattr(candidates, "compare_latency", None)
    sizes = {}
    for route in ("loop", "fused", "unroll", "smallest"):
        report = tflite.convert(randomized(one()), tmp_path / "m.tflite", recurrent=route)
        sizes[route] = report.bytes
    assert sizes.pop("smallest") == min(sizes.values()) and report.routes == {}


@pytest.mark.parametrize("recurrent", ["loop", "fused", "unroll"])
@pytest.mark.parametrize("quantize, tolerance", [("float16", 1e-2), ("dynamic", 0.1)])
def test_quantized_routes_stay_near_the_model(recurrent, quantize, tolerance, tmp_path):
    report = tflite.convert(
        randomized(stacked()), tmp_path / "m.tflite", quantize, noise(20, 6, 3), recurrent=recurrent
    )
    assert report.relative_difference <= tolerance


# TensorFlow's quantizer leaves a SPLIT in float32 in some runs, with the same model and data.
@pytest.mark.filterwarnings("ignore:.*not all int8. SPLIT compute:UserWarning")
@pytest.mark.parametrize("layer", [layers.LSTM, layers.GRU])
@pytest.mark.parametrize("streaming", [None, 1])
def test_int8_unrolls(layer, streaming, tmp_path):
    arguments = {"quantize": "int8", "calibration": noise(50, 6, 3), "streaming": streaming}
    report = tflite.convert(randomized(known(6, layer)), tmp_path / "m.tflite", **arguments)
    assert set(report.recurrent.values()) == {"unrolled"} and report.relative_difference <= 0.15


def test_a_stateful_model_starts_from_zeros_and_keeps_its_states(tmp_path):
    model = randomized(words(stateful=True))
    model(np.ones((2, 3), "int32"))
    before = [keras.ops.convert_to_numpy(state) for state in model.get_layer("low").states]
    report = tflite.convert(model, tmp_path / "m.tflite", recurrent="fused")
    assert report.inputs == {"text": (2, None)} and report.relative_difference <= 1e-5
    assert model.get_layer("low").stateful
    for old, new in zip(before, model.get_layer("low").states, strict=True):
        np.testing.assert_array_equal(old, keras.ops.convert_to_numpy(new))


REFUSED = {
    "route": (
        one,
        {"recurrent": "gpu"},
        ValueError,
        "convert: expected `recurrent` to be one of.*Received: recurrent='gpu'",
    ),
    "fused int8": (
        one,
        {"quantize": "int8", "calibration": noise(3, 6, 3), "recurrent": "fused"},
        ValueError,
        "keeps the states of the run before.*unroll",
    ),
    "endless": (inside, {"recurrent": "unroll"}, tflite.ConversionError, "its number of steps is free"),
}


@pytest.mark.parametrize("build, arguments, error, message", REFUSED.values(), ids=REFUSED)
def test_refused_with_the_reason(build, arguments, error, message, tmp_path):
    with pytest.raises(error, match=f"(?s){message}"):
        tflite.convert(build(), tmp_path / "m.tflite", **arguments)
    assert not list(tmp_path.iterdir())
