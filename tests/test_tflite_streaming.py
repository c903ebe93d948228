"""Streams in TFLite: a file of a few steps, whose states its caller keeps, gives what the whole sequence gives."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers
from recurrent_models import both_ways, inside, known, noise, one, shared, words
from small_models import randomized, sequential

import tf_terngrad as tt
from tf_terngrad import tflite
from tf_terngrad.keras_internals import all_layers


def masked(last=False, **arguments):
    """Sentences padded with zeros in front, in the middle and behind."""
    text = keras.Input((None,), dtype="int32", name="text")
    x = layers.Embedding(3, 6, mask_zero=True)(text)
    x = layers.LSTM(5, return_sequences=True, **arguments)(x)
    x = layers.GRU(4, return_sequences=True, **arguments)(x)
    return keras.Model(text, layers.RNN(layers.SimpleRNNCell(3), return_sequences=not last, name="next")(x))


def namesakes():
    """An LSTM and a Dense layer of one name outside of a nested model and inside of it, and names that clash."""
    inner = sequential((None, 4), layers.LSTM(4, return_sequences=True, name="a"), layers.Dense(4, name="b"))
    x = given = keras.Input((None, 3), name="image")
    for layer in (layers.LSTM(4, return_sequences=True, name="a"), layers.Dense(4, name="b"), inner):
        x = layer(x)
    for name in ("l.1", "l_1"):
        x = layers.GRU(3, return_sequences=True, name=name)(x)
    return keras.Model(given, {"a_cell": layers.Dense(2, name="a_hidden")(x)})


def intrinsic():
    lstm = layers.LSTM(4, return_sequences=True, name="inside")
    return sequential((8, 3), tt.layers.IntrinsicSparse(lstm, 1e-3), layers.Dense(2))


STREAMS = {
    "masked": masked,
    "masked with zeros": lambda: masked(zero_output_for_mask=True),
    "stacked cells": lambda: known(8, lambda size, **r: layers.RNN([layers.LSTMCell(6), layers.GRUCell(4)], **r)),
    "names twice": namesakes,
    "intrinsic": intrinsic,
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
    sequence = noise(shape[0], 8, 3) if len(shape) == 3 else np.arange(8 * shape[0], dtype="int32").reshape(-1, 8) % 3
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
    report = tflite.convert(words(), tmp_path / "m.tflite", streaming=True, recurrent="unroll")
    states = {f"{layer}_{state}": (1, 5) for layer in ("low", "high") for state in ("hidden", "cell")}
    assert report.inputs == {"text": (1, 1), **states}
    assert report.checked_on == "8 random inputs, 1 step at a time"
    assert "WHILE" not in report.operators


def test_stream_names_are_apart_from_all_others(tmp_path):
    model = namesakes()
    before = [layer.name for layer in all_layers(model)]
    report = tflite.convert(model, tmp_path / "m.tflite", streaming=1)
    first, second = ["a_hidden", "a_cell"], ["a_hidden_2", "a_cell_2"]
    first = [f"{name}_1" for name in first]
    assert set(report.inputs) == {"image", *first, *second, "l_1_state", "l_1_state_1"}
    assert [output.name for output in report.outputs] == ["a_cell"]
    assert [layer.name for layer in all_layers(model)] == before


def test_states_of_stacked_cells_are_named_in_their_order(tmp_path):
    cells = [layers.LSTMCell(6), layers.GRUCell(4)]
    report = tflite.convert(sequential((8, 3), layers.RNN(cells, name="rnn")), tmp_path / "m.tflite", streaming=1)
    states = {"rnn_state": (1, 6), "rnn_state_1": (1, 6), "rnn_state_2": (1, 4)}
    assert report.inputs == {"image": (1, 1, 3), **states}


def test_last_output_of_a_masked_stream_is_that_of_the_last_word(tmp_path):
    model, text = randomized(masked(last=True)), np.array([[1, 2, 0, 0, 0, 0], [0, 0, 2, 0, 1, 0], [0, 0, 0, 0, 0, 0]])
    report = tflite.convert(model, tmp_path / "m.tflite", calibration=text, streaming=2)
    assert report.relative_difference <= 1e-5 and report.outputs[0].scale > 0


@pytest.mark.parametrize("steps", [20, 32, 64])
def test_a_stream_of_a_free_time_is_checked_on_two_runs_at_least(steps, tmp_path, monkeypatch):
    lengths = []
    run = tflite.streaming.Stream.pieces
    monkeypatch.setattr(
        tflite.streaming.Stream,
        "pieces",
        lambda self, *rest: (lengths.append(rest[1][0].shape[1]), run(self, *rest))[1],
    )
    tflite.convert(known(None), tmp_path / "m.tflite", streaming=steps, recurrent="loop")
    assert lengths and all(length % steps == 0 and length >= 2 * steps for length in lengths)


def test_streaming_false_is_none(tmp_path):
    assert tflite.convert(one(), tmp_path / "m.tflite", streaming=False).inputs == {"image": (1, 6, 3)}


@pytest.mark.parametrize("shape, steps", [((10, 6), 2), ((4, 12), 5)], ids=["whole runs", "cut with its labels"])
def test_stream_is_evaluated_on_sequences(shape, steps, tmp_path):
    model, text = randomized(words()), np.arange(np.prod(shape)).reshape(shape) % 20
    labels = keras.ops.convert_to_numpy(model(text)).argmax(-1)
    report = tflite.convert(model, tmp_path / "m.tflite", evaluation=(text, labels), streaming=steps)
    assert (report.outputs[0].keras_accuracy, report.outputs[0].file_accuracy) == (1.0, 1.0)


def from_a_state():
    sequence = keras.Input((6, 3))
    output, *states = layers.GRU(4, return_sequences=True, return_state=True)(sequence)
    return keras.Model(sequence, layers.GRU(4)(output, initial_state=states))


def last_of_words():
    text = keras.Input((None, 3), name="text")
    return keras.Model(text, layers.LSTM(4, name="last")(text))


def masked_cells():
    cells = [layers.LSTMCell(3), layers.LSTMCell(3)]
    return sequential((6, 3), layers.Masking(), layers.RNN(cells, return_sequences=True, name="two"))


def two_times():
    texts = [keras.Input((None, 3), name=name) for name in ("left", "right")]
    return keras.Model(texts, [layers.GRU(2)(text) for text in texts])


REFUSED = {
    "masked cells": (
        masked_cells,
        {"streaming": 2},
        ValueError,
        "layer 'two' is masked, and repeats an output.*zero_output_for_mask=True",
    ),
    "short": (
        last_of_words,
        {"streaming": 5, "calibration": noise(4, 3, 3)},
        ValueError,
        "calibration for input 'text': streaming=5 needs sequences of at least 5 steps. Received: 3",
    ),
    "lost labels": (
        last_of_words,
        {"streaming": 5, "evaluation": (noise(4, 12, 3), np.zeros(4, int))},
        ValueError,
        "output 'last' is that of the last step, which streaming=5 would cut off.*multiple of 5. Received: 12 steps",
    ),
    "uneven": (
        two_times,
        {"streaming": 2, "calibration": (noise(4, 4, 3), noise(4, 6, 3))},
        ValueError,
        "calibration: streaming needs the same number of steps of every input.*'left': 4, 'right': 6",
    ),
    "intrinsic": (
        lambda: sequential((6, 3), tt.layers.IntrinsicSparse(layers.Bidirectional(layers.LSTM(4)), 0.1)),
        {"streaming": 2},
        ValueError,
        "a wrapper hides .*backward half of a Bidirectional",
    ),
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
    "zero": (
        one,
        {"streaming": 0},
        ValueError,
        "convert: expected `streaming` to be an integer of at least 1.*Received: streaming=0",
    ),
    "fused stream": (one, {"streaming": 1, "recurrent": "fused"}, tflite.ConversionError, "starts from zeros"),
}


@pytest.mark.parametrize("build, arguments, error, message", REFUSED.values(), ids=REFUSED)
def test_refused_with_the_reason(build, arguments, error, message, tmp_path):
    with pytest.raises(error, match=f"(?s){message}"):
        tflite.convert(build(), tmp_path / "m.tflite", **arguments)
    assert not list(tmp_path.iterdir())
