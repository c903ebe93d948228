"""Quantization modes: the four that come with the package, and those that a user adds through what is public."""

import inspect
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from keras import layers
from recurrent_models import known, noise
from small_models import example_inputs, randomized, sequential

import tf_terngrad as tt
from tf_terngrad import tflite
from tf_terngrad.tflite import modes


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """What a test registers is gone after it."""
    monkeypatch.setattr(modes, "MODES", dict(modes.MODES))


def int16_activations(converter):
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8]


def wide(**arguments):
    return tflite.QuantizationMode("int16", int16_activations, 0.05, needs_calibration=True, **arguments)


def dense():
    return randomized(sequential((6,), layers.Dense(8, activation="relu"), layers.Dense(3)))


def tensor_types(path):
    graph = schema.Model.GetRootAs(path.read_bytes(), 0).Subgraphs(0)
    return {graph.Tensors(i).Type() for i in range(graph.TensorsLength())}


@pytest.mark.parametrize("registered", [True, False])
def test_a_mode_from_outside_goes_all_the_way(registered, tmp_path):
    mode = wide()
    model, path = dense(), tmp_path / "m.tflite"
    quantize = tflite.register_mode(mode).name if registered else mode
    report = tflite.convert(model, path, quantize, calibration=example_inputs(model, 50))
    assert report.quantize == "int16" and "int16" in str(report)
    assert 0 < report.relative_difference <= 0.05
    assert {schema.TensorType.INT16, schema.TensorType.INT8} <= tensor_types(path)
    with pytest.raises(ValueError, match=r"`calibration`.*quantize='int16'"):
        tflite.convert(model, path, quantize)


# TensorFlow's quantizer leaves a SPLIT in float32 in some runs, with the same model and data.
@pytest.mark.filterwarnings("ignore:.*not all int16. SPLIT compute:UserWarning")
def test_a_calibrated_mode_unrolls(tmp_path):
    mode = wide(routes=("loop", "unroll"))
    report = tflite.convert(randomized(known(6, layers.GRU)), tmp_path / "m.tflite", mode, noise(50, 6, 3))
    assert set(report.recurrent.values()) == {"unrolled"}
    with pytest.raises(
        ValueError, match=r"`recurrent` to be one of 'auto', 'smallest', 'loop', 'unroll' for quantize='int16'"
    ):
        tflite.convert(known(6), tmp_path / "m.tflite", mode, noise(5, 6, 3), recurrent="fused")


def test_the_tolerance_is_the_modes(tmp_path):
    """Float16 as it is loses a little: within its own tolerance, beyond one a million times smaller."""
    float16 = modes.MODES["float16"]
    strict = tflite.QuantizationMode("exact16", float16.prepare, tolerance=1e-9, exact=True)
    flagged = tflite.QuantizationMode("near16", float16.prepare, tolerance=1e-9)
    assert tflite.convert(dense(), tmp_path / "m.tflite", "float16").relative_difference > 1e-9
    with pytest.raises(tflite.ConversionError, match=r"expected at most 1e-09 of its scale.*for exact16"):
        tflite.convert(dense(), tmp_path / "strict.tflite", strict)
    assert not (tmp_path / "strict.tflite").exists()
    with pytest.warns(UserWarning, match="for near16"):
        tflite.convert(dense(), tmp_path / "m.tflite", flagged)


def test_only_the_routes_of_a_mode_are_tried(tmp_path, monkeypatch):
    mode = tflite.QuantizationMode("fused only", lambda converter: None, 1e-4, routes=["fused"])
    monkeypatch.setattr(tflite.candidates, "compare_latency", None)  # there is nothing to compare
    report = tflite.convert(randomized(known(6)), tmp_path / "m.tflite", mode)
    assert set(report.recurrent.values()) == {"fused"} and report.routes == {}
    with pytest.raises(ValueError, match=r"one of 'auto', 'smallest', 'fused'.*The mode leaves it out"):
        tflite.convert(known(6), tmp_path / "m.tflite", mode, recurrent="loop")


@pytest.mark.filterwarnings("ignore:.*not all int8. SPLIT compute:UserWarning")
def test_long_sequences_are_unrolled_only_where_nothing_else_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(tflite.candidates, "UNROLLED_STEPS", 5)
    monkeypatch.setattr(tflite.candidates, "_fastest_first", lambda found, draft: found)
    model = randomized(known(6, layers.GRU))
    report = tflite.convert(model, tmp_path / "m.tflite")
    assert {what.split()[0] for what in report.recurrent.values()} == {"loop"}
    report = tflite.convert(model, tmp_path / "m.tflite", "int8", noise(20, 6, 3))  # whose calibration refuses loops
    assert set(report.recurrent.values()) == {"unrolled"}


def test_a_name_is_registered_once():
    mode = tflite.register_mode(wide())
    assert tflite.register_mode(mode) is mode
    with pytest.raises(
        ValueError, match=r"own, none of None, 'float16', 'dynamic', 'int8', 'int16'. Received: mode=.*'int16'"
    ):
        tflite.register_mode(wide(routes=("unroll",)))
    with pytest.raises(TypeError, match=r"register_mode: expected `mode` to be a QuantizationMode.*'int16'"):
        tflite.register_mode("int16")


REFUSED = {
    "name": ({"name": 3}, TypeError, "`name`.*Received: name=3"),
    "prepare": ({"prepare": "int16"}, TypeError, "`prepare`.*Received: prepare='int16'"),
    "tolerance": ({"tolerance": 0.0}, ValueError, "`tolerance`.*Received: tolerance=0.0"),
    "route": ({"routes": ("loop", "gpu")}, ValueError, "`routes`.*'unroll'. Received: routes='gpu'"),
    "no route": ({"routes": ()}, ValueError, "`routes`.*Received: routes=()"),
    "flag": ({"exact": 1}, TypeError, "`exact`.*Received: exact=1"),
    "calibration": ({"needs_calibration": "x"}, TypeError, "`needs_calibration`.*'x'"),
}


@pytest.mark.parametrize("arguments, error, message", REFUSED.values(), ids=REFUSED)
def test_what_is_no_mode_is_refused_when_it_is_made(arguments, error, message):
    with pytest.raises(error, match=f"QuantizationMode: expected {message}"):
        tflite.QuantizationMode(**{"name": "mine", "prepare": int16_activations, "tolerance": 0.1, **arguments})


def test_nobody_else_knows_the_names():
    """The names of modes and of routes stand in the file of their registry alone; elsewhere in docstrings at most."""
    homes = {name: "modes" for name in modes.MODES if name} | dict.fromkeys(
        ("loop", "fused", "unroll", "unrolled"), "recurrent"
    )
    for module in (tflite.candidates, tflite.conversion, tflite.converter, tflite.streaming, tflite.trial, modes):
        code = re.sub(r'"""(.|\n)*?"""', "", inspect.getsource(module))
        found = {name for name in homes if f'"{name}"' in code and not module.__name__.endswith(homes[name])}
        allowed = {"float16"} if module is tflite.converter else set()  # there it is a dtype
        allowed |= {"loop", "unroll"} if module is modes else set()  # the routes of int8
        assert found <= allowed, f"{module.__name__} knows {found - allowed}"


@pytest.mark.parametrize(
    "public",
    [tflite.convert, tflite.benchmark, tflite.compare_latency, tflite.QuantizationMode],
    ids=lambda f: f.__name__,
)
def test_the_example_runs(public, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = inspect.getdoc(public)
    (example,) = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert "\nUse it when" in text
    exec(example, {"tt": tt, "tf": tf, "keras": keras, "np": np})
    assert "bytes" in capsys.readouterr().out and list(tmp_path.glob("*.tflite"))
