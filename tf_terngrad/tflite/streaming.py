"""A recurrent model that takes a few steps at a time: its layers' states come in and go out beside the data."""

import copy
import dataclasses
import itertools

import keras
import numpy as np
import tensorflow as tf

from tf_terngrad.keras_internals import graph_of, mask_of
from tf_terngrad.sparsity.graph.replay import replay
from tf_terngrad.sparsity.learn.intrinsic import IntrinsicSparse
from tf_terngrad.sparsity.learn.wrappers import GroupSparse
from tf_terngrad.tflite.check import compare_outputs, keras_outputs
from tf_terngrad.tflite.draw import draw
from tf_terngrad.tflite.litert import Runner
from tf_terngrad.tflite.ports import FREE_SIZE, identifier, ports, unique
from tf_terngrad.tflite.recurrent import recurrent_layers

TOLERANCE = 1e-4  # of the scale, between the whole sequence and its pieces, in Keras
STATE_NAMES = {keras.layers.LSTM: ("hidden", "cell")}
FIRST_STATE_CELLS = (keras.layers.LSTMCell, keras.layers.GRUCell, keras.layers.SimpleRNNCell)  # it is the output


@dataclasses.dataclass(frozen=True)
class Stream:
    """A model of a few steps.

    Attributes:
        model: A Functional model with dicts of inputs and outputs by name: those of the whole model, and the states,
            which have the same name on both sides.
        sequences: List of `Port`, the whole model's inputs; a time that is free there is a multiple of the steps.
        results: Names of the whole model's outputs, in order.
        steps: How many steps it takes at a time.
        states: Dict of state name to size.
        joined: Names of the outputs that have a time axis.
    """

    model: keras.Model
    sequences: list
    results: tuple
    steps: int
    states: dict
    joined: tuple

    @property
    def data(self):
        """Names of the whole model's inputs, in order."""
        return [port.name for port in self.sequences]

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

    def cut(self, arrays, what):
        """Returns the part of whole sequences that a number of runs covers.

        Args:
            arrays: A list of the whole model's inputs.
            what: What they are for, to begin an error with.

        Raises:
            ValueError: The sequences are shorter than one run, or some inputs' longer than others'.
        """
        lengths = {port.name: array.shape[1] for port, array in zip(self.sequences, arrays, strict=True)}
        for name, length in lengths.items():
            if length < self.steps:
                raise ValueError(
                    f"{what} for input '{name}': streaming={self.steps} needs sequences of at least {self.steps} steps."
                    f" Received: {length}."
                )
        if len(set(lengths.values())) != 1:
            raise ValueError(f"{what}: streaming needs the same number of steps of every input. Received: {lengths}.")
        return [array[:, : self._whole_runs(array)] for array in arrays]

    def _whole_runs(self, array):
        return array.shape[1] // self.steps * self.steps

    def cut_labels(self, labels, arrays):
        """Returns the part of an evaluation's labels that belongs to what `cut` leaves of the sequences.

        Args:
            labels: Dict of labels by output name.
            arrays: A list of the whole model's inputs, before they are cut.

        Raises:
            ValueError: The last step is cut off, and an output is of that step only.
        """
        length, kept = arrays[0].shape[1], self._whole_runs(arrays[0])
        lost = [name for name in labels if name not in self.joined]
        if lost and kept < length:
            raise ValueError(
                f"evaluation: output '{lost[0]}' is that of the last step, which streaming={self.steps} would cut off:"
                f" expected sequences whose number of steps is a multiple of {self.steps}. Received: {length} steps."
            )
        labels = {name: np.asarray(given) for name, given in labels.items()}
        return {name: given[:, :kept] if given.shape[1:2] == (length,) else given for name, given in labels.items()}

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
    sequences = _timed(inputs, steps)
    results = [port.name for port in outputs]
    states = _States(batch_size, [port.name for port in inputs], results)
    data = {
        port.name: keras.Input(batch_shape=(batch_size, steps, *port.shape[2:]), dtype=port.dtype, name=port.name)
        for port in inputs
    }
    try:
        tensors = replay(model, list(data.values()), states.call)
    except ValueError as error:
        raise ValueError(f"Model '{model.name}' cannot take {steps} steps at a time: {error}") from error
    states.check_all_found(model)
    found = dict(zip(results, keras.tree.flatten(tensors), strict=True))
    joined = tuple(port.name for port in outputs if port.shape[1:2] != tuple(found[port.name].shape[1:2]))
    sizes = {name: tensor.shape[-1] for name, tensor in states.inputs.items()}
    small = keras.Model({**data, **states.inputs}, {**found, **states.outputs}, name=model.name)
    stream = Stream(small, sequences, tuple(results), steps, sizes, joined)
    _check_law(model, stream, outputs)
    return stream


def _timed(inputs, steps):
    """Gives a free time a number of steps: a multiple, and twice at least, or no state would be carried on."""
    time = steps * max(2, FREE_SIZE // steps)
    return [dataclasses.replace(port, shape=(port.shape[0], port.shape[1] or time, *port.shape[2:])) for port in inputs]


class _Repeated(keras.layers.Layer):
    """Lets the masked steps that a piece begins with repeat the output before it, as in the whole sequence."""

    supports_masking = True

    def call(self, outputs, before, mask):
        begun = keras.ops.cumsum(keras.ops.cast(mask, "int32"), axis=1) > 0
        return keras.ops.where(begun[..., None], outputs, before[:, None])


class _States:
    """Follows a model's graph and gives every recurrent layer inputs and outputs for its states.

    Args:
        batch_size: Of the states.
        data: Names of the model's inputs.
        results: Names of its outputs.
    """

    def __init__(self, batch_size, data, results):
        self.batch_size, self.results = batch_size, results
        self.operations = dict.fromkeys(data)
        self.inputs, self.outputs, self.found = {}, {}, []

    def call(self, node, args, kwargs):
        """What an operation gives in the new graph."""
        return self.follow(node.operation)(*args, **kwargs)

    def follow(self, operation):
        """What takes the place of an operation: of a recurrent layer, a copy that hands out its states."""
        if isinstance(operation, (IntrinsicSparse, GroupSparse)):
            return self.follow(operation.layer)
        if isinstance(operation, keras.layers.RNN):
            return lambda *args, **kwargs: self._call(operation, *args, **kwargs)
        if isinstance(graph_of(operation), keras.Function):
            return lambda *args, **kwargs: replay(operation, keras.tree.flatten(args[0]), self.call)
        return self._named(operation)

    def _named(self, operation):
        """The operation, or a copy of it if another one has its name: nested models become one graph here."""
        if self.operations.setdefault(operation.name, operation) is operation:
            return operation
        renamed = copy.copy(operation)
        renamed.name = self._new_name(operation.name)
        self.operations[renamed.name] = renamed
        return renamed

    def _new_name(self, name):
        return unique([*self.operations, name])[-1]

    def _call(self, layer, sequences, initial_state=None, mask=None, **_):
        sizes = keras.tree.flatten(layer.state_size)
        mask = mask_of(sequences) if mask is None else mask
        repeats = mask is not None and not layer.zero_output_for_mask
        refused = {
            f"has states that are no vectors, of sizes {sizes}": not all(isinstance(s, int) and s > 0 for s in sizes),
            "goes backwards: it needs the whole sequence": layer.go_backwards,
            "is called twice: it would need states for each call": layer in self.found,
            "starts from a state that another layer gives": initial_state is not None,
            "is masked, and repeats an output where a step is, which only the states of one LSTM, GRU or SimpleRNN"
            " cell hold: give it zero_output_for_mask=True, or take the mask away": repeats
            and type(layer.cell) not in FIRST_STATE_CELLS,
        }
        for reason in (reason for reason, holds in refused.items() if holds):
            raise ValueError(f"layer '{layer.name}' {reason}.")
        self.found.append(layer)
        name = self._new_name(layer.name)
        copied = type(layer).from_config({**layer.get_config(), "return_state": True, "stateful": False, "name": name})
        self.operations[name] = copied
        given = self._inputs(layer, sizes)
        before = list(given.values())
        structure = keras.tree.pack_sequence_as(layer.get_initial_state(batch_size=1), before)
        output, *states = copied(sequences, initial_state=structure, mask=mask)
        copied.set_weights(layer.get_weights())
        states = keras.tree.flatten(states)
        self.inputs.update(given)
        self.outputs.update(zip(given, states, strict=True))
        if repeats:
            repeated = _Repeated(name=self._new_name(f"{name}_repeated"))
            self.operations[repeated.name] = repeated
            output = repeated(output, before[0], mask=mask) if layer.return_sequences else states[0]
        return (output, *states) if layer.return_state else output

    def _inputs(self, layer, sizes):
        names = STATE_NAMES.get(type(layer)) or ["state", *(f"state_{number}" for number in range(1, len(sizes)))]
        names = [f"{identifier(layer.name)}_{name}" for name in names]
        taken = {*self.operations, *self.results}
        numbered = ([f"{name}_{number}" for name in names] for number in itertools.count(1))
        names = next(free for free in itertools.chain([names], numbered) if taken.isdisjoint(free))
        self.operations.update(dict.fromkeys(names))
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
                f"Model '{model.name}' cannot be streamed: a wrapper hides {', '.join(hidden)}. The backward half of a"
                " Bidirectional needs the whole sequence; of any other wrapper, take the layer out."
            )
        if not layers:
            raise ValueError(f"Model '{model.name}' has no recurrent layer: there is nothing to stream.")


def _check_steps(model, inputs, steps):
    for port in inputs:
        if len(port.shape) < 2 or (port.shape[1] or steps) % steps:
            raise ValueError(
                f"Model '{model.name}': streaming={steps} needs inputs of shape (batch, time, ...) whose time is a"
                f" multiple of it. Received: input '{port.name}' of shape {port.shape}."
            )


def _check_law(model, stream, outputs):
    """Piece by piece, Keras gives what it gives for the whole sequence; else some layer mixes the steps."""
    arrays = draw(model, stream.sequences, examples=2)
    received = stream.sequence_outputs(stream.keras_run, arrays)
    for port, whole, pieces in zip(outputs, keras_outputs(model, arrays), received, strict=True):
        if whole.shape != pieces.shape or compare_outputs(port, whole, pieces).relative_difference > TOLERANCE:
            raise ValueError(
                f"Model '{model.name}' cannot be streamed: output '{port.name}' of {stream.steps} steps at a time"
                " is not that of the whole sequence. Besides the recurrent layers, every layer has to treat each step"
                " by itself, as Dense and Embedding do, and Conv1D or pooling over time do not."
            )
