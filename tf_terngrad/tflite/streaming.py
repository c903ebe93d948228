"""A recurrent model that takes a few steps at a time: its layers' states come in and go out beside the data."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from tf_terngrad.tflite.check import compare_outputs, keras_outputs
from tf_terngrad.tflite.litert import Runner
from tf_terngrad.tflite.ports import identifier, integer_limit, ports, random_arrays
from tf_terngrad.tflite.recurrent import recurrent_layers

TOLERANCE = 1e-4  # of the scale, between the whole sequence and its pieces, in Keras
STATE_NAMES = {keras.layers.LSTM: ("hidden", "cell")}


@dataclasses.dataclass(frozen=True)
class Stream:
    """A model of a few steps.

    Attributes:
        model: A Functional model with dicts of inputs and outputs by name: those of the whole model, and the states,
            which have the same name on both sides.
        data: Names of the whole model's inputs, in order.
        results: Names of the whole model's outputs, in order.
        steps: How many steps it takes at a time.
        states: Dict of state name to size.
        joined: Names of the outputs that have a time axis.
    """

    model: keras.Model
    data: tuple
    results: tuple
    steps: int
    states: dict
    joined: tuple

    @property
    def inputs(self):
        """The model's list of `Port`."""
        return ports(self.model.input)

    @property
    def outputs(self):
        """The model's list of `Port`."""
        return ports(self.model.output)

    @property
    def note(self):
        """What a report says about the check."""
        return f", {self.steps} {'step' if self.steps == 1 else 'steps'} at a time"

    def cut(self, arrays):
        """Returns the part of whole sequences that a number of runs covers."""
        return [array[:, : array.shape[1] // self.steps * self.steps] for array in arrays]

    def pieces(self, run, arrays):
        """Runs whole sequences, a few steps at a time, from states of zeros.

        Args:
            run: A function from a dict of inputs to a dict of outputs, both by name.
            arrays: A list of the whole model's inputs.

        Yields:
            The pair (inputs, outputs) of each piece.
        """
        states = {name: np.zeros((len(arrays[0]), size), "float32") for name, size in self.states.items()}
        for start in range(0, arrays[0].shape[1], self.steps):
            parts = [array[:, start : start + self.steps] for array in arrays]
            given = {**dict(zip(self.data, parts, strict=True)), **states}
            results = {name: np.asarray(result) for name, result in run(given).items()}
            states = {name: results[name] for name in states}
            yield given, results

    def sequence_outputs(self, run, arrays):
        """Returns a list of the outputs for whole sequences: the pieces joined, or what the last one gave."""
        pieces = [results for _, results in self.pieces(run, arrays)]
        return [
            np.concatenate([piece[name] for piece in pieces], axis=1) if name in self.joined else pieces[-1][name]
            for name in self.results
        ]

    def keras_run(self, given):
        """Runs one piece in Keras."""
        return self.model({name: tf.convert_to_tensor(array) for name, array in given.items()}, training=False)

    def file_outputs(self, path, arrays):
        """Runs a file made of the model on whole sequences."""
        runner = Runner(path)

        def run(given):
            results = runner.run([given[port.name] for port in runner.inputs])
            return {port.name: result for port, result in zip(runner.outputs, results, strict=True)}

        return self.sequence_outputs(run, arrays)

    def calibration(self, arrays):
        """Returns what the model's inputs, states among them, hold while whole sequences pass through."""
        given = [given for given, _ in self.pieces(self.keras_run, arrays)]
        return [np.concatenate([piece[port.name] for piece in given]) for port in self.inputs]


def stream_of(model, inputs, outputs, steps, batch_size):
    """Builds the model of `steps` steps from the same layers; only the recurrent ones are new, to hand out states.

    Args:
        model: A built Sequential or Functional model.
        inputs: Its list of `Port`, all with time behind the batch.
        outputs: Its list of `Port`.
        steps: How many steps at a time.
        batch_size: Of the inputs.

    Returns:
        A `Stream`.

    Raises:
        ValueError: The model cannot work on a few steps at a time, or answers otherwise if it does.
    """
    _check_steps(model, inputs, steps)
    states = _States(batch_size)
    data = {
        port.name: keras.Input(batch_shape=(batch_size, steps, *port.shape[2:]), dtype=port.dtype, name=port.name)
        for port in inputs
    }
    try:
        results = _graph(model)._run_through_graph(list(data.values()), operation_fn=states.follow)
    except ValueError as error:
        raise ValueError(f"Model '{model.name}' cannot take {steps} steps at a time: {error}") from error
    states.check_all_found(model)
    results = {port.name: result for port, result in zip(outputs, keras.tree.flatten(results), strict=True)}
    joined = tuple(port.name for port in outputs if port.shape[1:2] != tuple(results[port.name].shape[1:2]))
    sizes = {name: tensor.shape[-1] for name, tensor in states.inputs.items()}
    small = keras.Model({**data, **states.inputs}, {**results, **states.outputs}, name=model.name)
    stream = Stream(small, tuple(data), tuple(port.name for port in outputs), steps, sizes, joined)
    _check_law(model, stream, inputs, outputs)
    return stream


class _States:
    """Follows a model's graph and gives every recurrent layer inputs and outputs for its states."""

    def __init__(self, batch_size):
        self.batch_size = batch_size
        self.inputs, self.outputs, self.found = {}, {}, []

    def follow(self, operation):
        """What takes the place of an operation: of a recurrent layer, a copy that hands out its states."""
        if isinstance(operation, keras.layers.RNN):
            return lambda *args, **kwargs: self._call(operation, *args, **kwargs)
        if isinstance(_graph(operation), keras.Function):
            inner = _graph(operation)
            return lambda *args, **kwargs: inner._run_through_graph(args[0], operation_fn=self.follow)
        return operation

    def _call(self, layer, sequences, initial_state=None, mask=None, **_):
        sizes = layer.state_size if isinstance(layer.state_size, (list, tuple)) else [layer.state_size]
        refused = {
            f"has states that are no vectors, of sizes {sizes}": not all(isinstance(s, int) and s > 0 for s in sizes),
            "goes backwards: it needs the whole sequence": layer.go_backwards,
            "is called twice: it would need states for each call": layer in self.found,
            "starts from a state that another layer gives": initial_state is not None,
        }
        for reason in (reason for reason, holds in refused.items() if holds):
            raise ValueError(f"layer '{layer.name}' {reason}.")
        self.found.append(layer)
        copy = type(layer).from_config({**layer.get_config(), "return_state": True, "stateful": False})
        given = self._inputs(layer, sizes)
        output, *states = copy(sequences, initial_state=list(given.values()), mask=mask)
        copy.set_weights(layer.get_weights())
        self.inputs.update(given)
        self.outputs.update(zip(given, states, strict=True))
        return (output, *states) if layer.return_state else output

    def _inputs(self, layer, sizes):
        names = STATE_NAMES.get(type(layer)) or ["state", *(f"state_{number}" for number in range(1, len(sizes)))]
        names = [f"{identifier(layer.name)}_{name}" for name in names]
        return {
            name: keras.Input(batch_shape=(self.batch_size, size), name=name)
            for name, size in zip(names, sizes, strict=True)
        }

    def check_all_found(self, model):
        """Raises ValueError for recurrent layers that wrappers hide, or for a model without any."""
        layers = recurrent_layers(model)
        hidden = [layer.name for layer in layers if layer not in self.found]
        if hidden:
            raise ValueError(
                f"Model '{model.name}' cannot be streamed: {', '.join(hidden)} run inside of a wrapper. The backward"
                " half of a Bidirectional needs the whole sequence; of any other wrapper, take the layer out."
            )
        if not layers:
            raise ValueError(f"Model '{model.name}' has no recurrent layer: there is nothing to stream.")


def _graph(model):
    return model._functional if isinstance(model, keras.Sequential) else model


def _check_steps(model, inputs, steps):
    for port in inputs:
        if len(port.shape) < 2 or (port.shape[1] or steps) % steps:
            raise ValueError(
                f"Model '{model.name}': streaming={steps} needs inputs of shape (batch, time, ...) whose time is a"
                f" multiple of it. Received: input '{port.name}' of shape {port.shape}."
            )


def _check_law(model, stream, inputs, outputs):
    """Piece by piece, Keras gives what it gives for the whole sequence; else some layer mixes the steps."""
    arrays = stream.cut(random_arrays(inputs, examples=2, limit=integer_limit(model)))
    received = stream.sequence_outputs(stream.keras_run, arrays)
    for port, whole, pieces in zip(outputs, keras_outputs(model, arrays), received, strict=True):
        if whole.shape != pieces.shape or compare_outputs(port, whole, pieces).relative_difference > TOLERANCE:
            raise ValueError(
                f"Model '{model.name}' cannot be streamed: output '{port.name}' of {stream.steps} steps at a time"
                " is not that of the whole sequence. Besides the recurrent layers, every layer has to treat each step"
                " by itself, as Dense and Embedding do, and Conv1D or pooling over time do not."
            )
