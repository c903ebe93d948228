"""How a recurrent layer runs in a TFLite file: by a loop, by the fused LSTM operator, or unrolled."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from tf_terngrad.keras_internals import all_layers

LARGEST_VALUE = 5e4  # of the step that clears the states; float16 ends at 65504


@dataclasses.dataclass(frozen=True)
class Route:
    """One way for recurrent layers to run in a file; a layer that cannot take it becomes a loop.

    Attributes:
        name: What `convert(recurrent=)` calls it.
        became: What a layer that took it is: the kind of its `Outcome`.
        run: A function of the layer, a `Traced` that it fills, the layer's own `call`, and that call's arguments.
        grows: Whether the file grows with the number of steps.
        limit: Why a quantization mode may leave it out, a sentence for an error.
    """

    name: str
    became: str
    run: Callable
    grows: bool = False
    limit: str = ""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a recurrent layer became: "fused", "unrolled" or "loop"; and the reason, if it is not what was wanted."""

    kind: str
    reason: str = ""

    def __str__(self):
        return self.kind + (self.reason and f" ({self.reason})")


@dataclasses.dataclass
class Traced:
    """What tracing a model found.

    Attributes:
        became: Dict of a recurrent layer's name to its `Outcome`.
        steps: The steps of all recurrent layers together, without those whose number is free.
    """

    became: dict = dataclasses.field(default_factory=dict)
    steps: int = 0


def recurrent_layers(model):
    """Returns the layers of `model` with a loop over time, those inside of wrappers and nested models too."""
    return [layer for layer in all_layers(model) if isinstance(layer, keras.layers.RNN)]


@contextlib.contextmanager
def stateless(model):
    """Lets the layers that keep their states start each sequence from zeros, as behind `reset_state()`."""
    layers = [layer for layer in recurrent_layers(model) if layer.stateful]
    try:
        for layer in layers:
            layer.stateful = False
        yield
    finally:
        for layer in layers:
            layer.stateful = True


@contextlib.contextmanager
def routed(model, route):
    """Lets the recurrent layers of `model` run by `route` while they are traced.

    Args:
        model: A built Keras model.
        route: A key of `ROUTES`.

    Yields:
        A `Traced` that tracing fills.
    """
    layers, traced = recurrent_layers(model), Traced()
    for layer in layers:
        layer.call = functools.partial(ROUTES[route].run, layer, traced, layer.call)
    try:
        yield traced
    finally:
        for layer in layers:
            del layer.call


def _loop(layer, traced, call, sequences, initial_state=None, mask=None, reason="", **arguments):
    """As Keras runs it: a WHILE operator, unless the layer has unroll=True."""
    traced.steps += sequences.shape[1] or 0
    traced.became[layer.name] = Outcome("unrolled") if layer.unroll else Outcome("loop", reason)
    return call(sequences, initial_state=initial_state, mask=mask, **arguments)


def _unrolled(layer, traced, call, sequences, **arguments):
    """Every step's operators one after the other: no loop to pay for, and a file that grows with the steps."""
    if sequences.shape[1] is None:
        return _loop(layer, traced, call, sequences, reason="its number of steps is free", **arguments)
    unroll, layer.unroll = layer.unroll, True
    try:
        return _loop(layer, traced, call, sequences, **arguments)
    finally:
        layer.unroll = unroll


def _fused(layer, traced, call, sequences, initial_state=None, mask=None, **arguments):
    """One UNIDIRECTIONAL_SEQUENCE_LSTM, where TFLite has this layer's arithmetic; else a loop."""
    reason = _why_not_fused(layer, sequences, initial_state, mask)
    if reason:
        return _loop(layer, traced, call, sequences, initial_state, mask, reason, **arguments)
    traced.became[layer.name] = Outcome("fused")
    return _fused_lstm(layer, sequences)


_CLEARING = "The fused LSTM keeps the states of the run before; what clears them needs the range of floating point"
# The loop comes first, for it can take every layer and counts the steps.
ROUTES = {
    route.name: route
    for route in (
        Route("loop", "loop", _loop),
        Route("fused", "fused", _fused, limit=_CLEARING),
        Route("unroll", "unrolled", _unrolled, grows=True),
    )
}


def _why_not_fused(layer, sequences, initial_state, mask):
    if type(layer) is not keras.layers.LSTM:
        return f"TFLite has no fused {type(layer).__name__}"
    reasons = {
        "its activations are not tanh and sigmoid": (layer.activation, layer.recurrent_activation)
        != (keras.activations.tanh, keras.activations.sigmoid),
        "its batch is free": sequences.shape[0] is None,
        "the fused operator knows no mask": mask is not None,
        "the fused operator starts from zeros": initial_state is not None,
        "the fused operator keeps its states to itself": layer.return_state,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _fused_lstm(layer, sequences):
    kernel, recurrent_kernel, bias = _weights(layer.cell)
    kernel, signal = _with_reset(kernel, recurrent_kernel, bias)
    batch, _, features = sequences.shape
    if layer.go_backwards:
        sequences = tf.reverse(sequences, [1])
    first = np.zeros((batch, 1, features + 1), "float32")
    first[..., -1] = signal
    sequences = tf.concat([first, tf.pad(sequences, [[0, 0], [0, 0], [0, 1]])], axis=1)
    # The operator writes its states into these constants, and the converter shares equal ones: zeros would reach the
    # loop of another layer that starts from zeros.
    zeros = tf.fill((batch, layer.units), -0.0)
    outputs = _composite(sequences, zeros, zeros, *map(tf.constant, (kernel, recurrent_kernel, bias)))
    return outputs[:, 1:] if layer.return_sequences else outputs[:, -1]


def _weights(cell):
    with tf.init_scope():  # eagerly, though a graph is being traced
        weights = [keras.ops.convert_to_numpy(weight).astype("float32") for weight in cell.weights]
    kernel, recurrent_kernel, *bias = weights
    return kernel, recurrent_kernel, bias[0] if bias else np.zeros(kernel.shape[1], "float32")


def _with_reset(kernel, recurrent_kernel, bias):
    """Adds an input that clears the states: the operator keeps those of the run before, which Keras does not.

    A step in front has this input only, so large that the gates i, f and o are sigmoid(-100) or less: 0 to all digits
    of the other steps. Behind it c = f c' + i g = 0 and h = o tanh(c) = 0. The new row is as large as the largest
    weight of each gate's kernel, which the operator quantizes by itself: it survives, and takes no precision of the
    others. It is at least so large that the step's value has a place in float16.

    Args:
        kernel: Shape (features, 4 units), the gates in the order i, f, g, o.
        recurrent_kernel: Shape (units, 4 units).
        bias: Shape (4 units,).

    Returns:
        The pair (kernel of one more feature, value of that feature in the step in front).
    """
    units = len(recurrent_kernel)
    needed = 100 + (np.abs(recurrent_kernel).sum(axis=0) + np.abs(bias)).max()  # |h| < 1
    weights = np.abs(kernel).reshape(-1, 4, units).max(axis=(0, 2)).clip(needed / LARGEST_VALUE)
    signal = needed / weights[[0, 1, 3]].min()
    weights[2] = 0
    return np.concatenate([kernel, -np.repeat(weights, units)[None]]), signal


def _composite(*arguments):
    """Calls what the converter takes for a Keras 2 LSTM: a function of this attribute, these arguments and results.

    It replaces the function's body, which only has the right shapes, by the operator; the check of the file sees to
    it. The operator gives the whole sequence; neither the last output nor the states may be read.
    """

    def lstm(sequences, hidden, cell, kernel, recurrent_kernel, bias):
        outputs = tf.repeat(sequences[..., :1], hidden.shape[1], axis=-1)
        return outputs[:, -1], outputs, hidden, cell, tf.zeros(())

    attributes = {"api_implements": "lstm_terngrad", "time_major": False, "go_backwards": False}
    function = tf.function(lstm, autograph=False, experimental_attributes=attributes)
    return function.get_concrete_function(*arguments)(*arguments)[1]
