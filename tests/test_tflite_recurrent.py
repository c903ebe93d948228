"""Recurrent networks in TFLite: every route gives the model's outputs, and a stream gives the whole sequence's."""

import warnings

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers
from small_models import randomized, sequential

from tf_terngrad import tflite
from tf_terngrad.tflite import candidates

FUSED = "UNIDIRECTIONAL_SEQUENCE_LSTM"


def one():
    return sequential((6, 3), layers.LSTM(4, name="a"))


def stacked():
    return sequential((6, 3), layers.LSTM(4, return_sequences=True), layers.LSTM(5, use_bias=False), layers.Dense(2))


def both_ways():
    return sequential(
        (6, 3), layers.Bidirectional(layers.LSTM(4, return_sequences=True)), layers.Bidirectional(layers.LSTM(3))
    )


def shared():
    first, second = keras.Input((6, 3), name="first"), keras.Input((6, 3), name="second")
    lstm = layers.LSTM(4)
    return keras.Model([first, second], layers.Concatenate()([lstm(first), lstm(second)]))


def inside():
    inner = sequential((None, 4), layers.LSTM(3, return_sequences=True))
    return sequential((None, 3), layers.Dense(4), inner, layers.Dense(2))


def words(layer=layers.LSTM, stateful=False):
    text = keras.Input(batch_shape=(2 if stateful else None, None), dtype="int32", name="text")
    x = layers.Embedding(20, 6)(text)
    for name in ("low", "high"):
        x = layer(5, return_sequences=True, stateful=stateful, name=name)(x)
    return keras.Model(text, layers.Dense(20, name="next")(x))


def known(steps, layer=layers.LSTM):
    return sequential((steps, 3), layer(4, return_sequences=True), layers.Dense(2, name="answer"))


def noise(*shape):
    return np.random.default_rng(5).normal(size=shape).astype("float32")


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
    monkeypatch.setattr(candidates, "_best_first", lambda found, draft: found)
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


STREAMS = {
    "lstm": words,
    "gru": lambda: words(layers.GRU),
    "simple": lambda: words(layers.SimpleRNN),
    "stateful": lambda: words(stateful=True),
    "nested": inside,
    "known steps": lambda: known(8),
    "cell": lambda: known(8, lambda size, **rest: layers.RNN(layers.GRUCell(size), **rest)),
}


@pytest.mark.parametrize("build", STREAMS.values(), ids=STREAMS)
def test_stream_gives_what_the_whole_sequence_gives(build, tmp_path):
    model = randomized(build())
    whole = tflite.convert(model, tmp_path / "whole.tflite", recurrent="loop")
    (name, shape), (output,) = next(iter(whole.inputs.items())), whole.outputs
    sequence = noise(shape[0], 8, 3) if len(shape) == 3 else np.arange(8 * shape[0], dtype="int32").reshape(-1, 8)
    interpreter = Interpreter(model_path=whole.path)
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], sequence.shape)
    expected = interpreter.get_signature_runner()(**{name: sequence})[output.name][:1]
    for steps, route in ((1, "unroll"), (4, "loop")):
        report = tflite.convert(model, tmp_path / "m.tflite", streaming=steps, recurrent=route)
        assert report.relative_difference <= 1e-5 and report.custom == ()
        received = by_steps(report, name, output.name, sequence[:1], steps)
        np.testing.assert_allclose(received, expected, atol=1e-5)


def by_steps(report, name, output, sequence, steps):
    """A caller's loop: the states that come out go in again."""
    run = Interpreter(model_path=report.path).get_signature_runner()
    states = {key: np.zeros(shape, "float32") for key, shape in report.inputs.items() if key != name}
    pieces = []
    for start in range(0, sequence.shape[1], steps):
        results = run(**{name: sequence[:, start : start + steps]}, **states)
        states = {key: results[key] for key in states}
        pieces.append(results[output])
    return np.concatenate(pieces, axis=1)


def test_stream_names_its_states_after_layer_and_state(tmp_path):
    report = tflite.convert(words(), tmp_path / "m.tflite", streaming=True)
    states = {f"{layer}_{state}": (1, 5) for layer in ("low", "high") for state in ("hidden", "cell")}
    assert report.inputs == {"text": (1, 1), **states}
    assert report.checked_on == "8 random inputs, 1 step at a time"
    assert "WHILE" not in report.operators


def test_stream_is_evaluated_on_whole_sequences(tmp_path):
    model, text = randomized(words()), np.arange(60).reshape(10, 6) % 20
    labels = keras.ops.convert_to_numpy(model(text)).argmax(-1)
    report = tflite.convert(model, tmp_path / "m.tflite", evaluation=(text, labels), streaming=2)
    assert (report.outputs[0].keras_accuracy, report.outputs[0].file_accuracy) == (1.0, 1.0)


def test_a_stateful_model_starts_from_zeros_and_keeps_its_states(tmp_path):
    model = randomized(words(stateful=True))
    model(np.ones((2, 3), "int32"))
    before = [keras.ops.convert_to_numpy(state) for state in model.get_layer("low").states]
    report = tflite.convert(model, tmp_path / "m.tflite", recurrent="fused")
    assert report.inputs == {"text": (2, None)} and report.relative_difference <= 1e-5
    assert model.get_layer("low").stateful
    for old, new in zip(before, model.get_layer("low").states, strict=True):
        np.testing.assert_array_equal(old, keras.ops.convert_to_numpy(new))


def from_a_state():
    sequence = keras.Input((6, 3))
    output, *states = layers.GRU(4, return_sequences=True, return_state=True)(sequence)
    return keras.Model(sequence, layers.GRU(4)(output, initial_state=states))


REFUSED = {
    "both ways": (both_ways, {"streaming": 1}, ValueError, "backward half of a Bidirectional"),
    "backward": (
        lambda: sequential((6, 3), layers.LSTM(4, go_backwards=True)),
        {"streaming": 1},
        ValueError,
        "goes backwards",
    ),
    "pictures": (
        lambda: sequential((4, 5, 5, 1), layers.ConvLSTM2D(2, 3)),
        {"streaming": 1},
        ValueError,
        "states that are no vectors",
    ),
    "shared": (shared, {"streaming": 1}, ValueError, "called twice"),
    "from a state": (from_a_state, {"streaming": 1}, ValueError, "another layer gives"),
    "mixed steps": (
        lambda: sequential((6, 3), layers.Conv1D(3, 3, padding="same"), layers.LSTM(4)),
        {"streaming": 2},
        ValueError,
        "treat each step",
    ),
    "flat": (
        lambda: sequential((6, 3), layers.LSTM(4, return_sequences=True), layers.Flatten(), layers.Dense(2)),
        {"streaming": 2},
        ValueError,
        "cannot take 2 steps at a time",
    ),
    "no layer": (lambda: sequential((6, 3), layers.Dense(2)), {"streaming": 1}, ValueError, "no recurrent layer"),
    "no time": (lambda: sequential((), layers.Reshape((1,))), {"streaming": 1}, ValueError, "whose time is a multiple"),
    "part": (one, {"streaming": 4}, ValueError, r"multiple of it.*Received: input 'image' of shape \(None, 6, 3\)"),
    "zero": (one, {"streaming": 0}, ValueError, "streaming: expected a whole number.*Received: 0"),
    "route": (one, {"recurrent": "gpu"}, ValueError, "recurrent: expected one of.*Received: 'gpu'"),
    "fused int8": (
        one,
        {"quantize": "int8", "calibration": noise(3, 6, 3), "recurrent": "fused"},
        ValueError,
        "keeps the states of the run before.*unroll",
    ),
    "fused stream": (one, {"streaming": 1, "recurrent": "fused"}, tflite.ConversionError, "starts from zeros"),
    "endless": (inside, {"recurrent": "unroll"}, tflite.ConversionError, "its number of steps is free"),
}


@pytest.mark.parametrize("build, arguments, error, message", REFUSED.values(), ids=REFUSED)
def test_refused_with_the_reason(build, arguments, error, message, tmp_path):
    with pytest.raises(error, match=f"(?s){message}"):
        tflite.convert(build(), tmp_path / "m.tflite", **arguments)
    assert not list(tmp_path.iterdir())
