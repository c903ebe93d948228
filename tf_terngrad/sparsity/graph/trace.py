"""A composite's own call, traced into a graph of Keras layers and operations; what stands in the way is said."""

import contextlib
import dataclasses
import inspect
import itertools
import re

import keras
import numpy as np
from keras import tree

from tf_terngrad.keras_internals import (
    Functional,
    as_in_tensorflow,
    calls_through,
    history,
    is_read,
    mask_of,
    named,
    node_of,
    nodes,
    read_once,
    stateless_scope,
    without_calls,
)
from tf_terngrad.sparsity.graph.entering import Entering, masks_inside, names_of
from tf_terngrad.sparsity.graph.latents import one_for_each
from tf_terngrad.sparsity.graph.own_weights import StandIns, is_seed
from tf_terngrad.sparsity.graph.sizes import APART, INFERENCE, ODD, TRAINING, has_open_sizes, is_in_parts, tell_sizes
from tf_terngrad.sparsity.graph.symbolic import is_array, tensors_of
from tf_terngrad.sparsity.graph.taken_off import TakenOff
from tf_terngrad.sparsity.graph.tensorflow_calls import FollowsTensorFlow


class Closed(Exception):
    """Why a layer's call cannot be followed, in a few words that go on from "its call"."""


@dataclasses.dataclass
class Constant:
    """An array that a call computes with; `batched`: one row of it, which is there for each example."""

    array: np.ndarray
    batched: bool = False


@dataclasses.dataclass
class Trace:
    """One call of a layer as a graph.

    Attributes:
        graph: a `Functional` from the call's tensors, and then the layer's own weights, to its outputs and the masks
            of all tensors in it.
        entering: the call's tensors, and the masks that travel with them between those of `args` and of `kwargs`; a
            mask that no call reads is no input of the graph.
        outputs: the structure of the call's outputs.
        weights: the variables that the graph's inputs behind those of the call stand for.
        constants: the arrays that the last inputs stand for, with which layers inside are called.
        told: by id of a call in the graph, the `training` that it was given.
    """

    graph: Functional
    entering: list
    outputs: object
    weights: list
    constants: list
    told: dict


def traces(layer, args, kwargs, masks=()):
    """The traces of a call of a layer on symbolic tensors like those in `args` and `kwargs`: at inference, in training.

    `masks`: those that travel with the tensors.

    The layer's own variables stand in the graphs as inputs. Where sizes are open, the batch's among them, each trace
    has others. What differs between them otherwise is not a graph.

    Returns:
        The traces at inference, in training, and with odd sizes if others than the batch's are open; and whether the
        layer takes all of these.

    Raises:
        Closed: if the call cannot be traced, or its graph would not be all that it computes.
    """
    try:
        return _traces(layer, args, kwargs, masks)
    except Closed:
        if not any(map(is_in_parts, tensors_of((args, kwargs)))):
            raise
        return _traces(layer, args, kwargs, masks, in_parts=True)  # the call may put the parts together again


def _traces(layer, args, kwargs, masks, in_parts=False):
    parts = _Parts()
    training = traced(layer, args, kwargs, TRAINING, Tracing(True, parts), masks, in_parts)
    made = [traced(layer, args, kwargs, INFERENCE, Tracing(False, parts), masks, in_parts), training]
    opens = len([tensor for tensor in tensors_of((args, kwargs)) if has_open_sizes(tensor)])
    more = (ODD, APART)[:opens]
    for number in more:
        with contextlib.suppress(Closed):
            made.append(traced(layer, args, kwargs, number, Tracing(True, parts), masks, in_parts))
    return made, len(made) == 2 + len(more)


def traced(layer, args, kwargs, number, scope, masks=(), in_parts=False):
    """One trace of a call, with the open sizes of the trace of that number; `scope`: a new `Tracing`.

    `in_parts`: the batch is as large as the parts are many in which an outer call gives the examples.

    Raises:
        Closed: as `traces`.
    """
    kwargs = {name: value for name, value in kwargs.items() if name != "training"}
    instead = " with numbers for its open sizes" if any(map(has_open_sizes, tensors_of((args, kwargs)))) else ""
    entering = Entering(names_of(layer, (args, kwargs), masks), number, in_parts)
    args, masks, kwargs = (tree.map_structure(entering.enter, given) for given in (args, list(masks), kwargs))
    entering.hang_masks()
    with scope, calls_through(scope.call), as_in_tensorflow():
        outputs = tree.map_structure(scope.symbolic, _attempted(scope, instead, layer, args, kwargs))
    scope.restore_masks()
    _check_outputs(outputs)
    outputs = tree.map_structure(lambda output: read_once(output, entering.inputs), outputs)
    more = [*scope.weights.values(), *scope.constants]
    hidden = masks_inside(outputs)
    unread = {id(mask) for mask in masks if not is_read(mask)}
    inputs = [tensor for tensor in entering.inputs if id(tensor) not in unread]
    inputs += [tensor for _, tensor in more]
    _check_inputs(inputs)
    graph = _graph(inputs, [*tree.flatten(outputs), *hidden])
    _number_anew(graph)
    for node in nodes(graph):
        _check_node(node)
    weights, constants = ([what for what, _ in pairs] for pairs in (scope.weights.values(), scope.constants))
    return Trace(graph, entering.inputs, outputs, weights, constants, scope.told)


def _as_computed(layer, tensor):
    """A tensor as a layer's `call` gets it from Keras: in the layer's dtype; what is no tensor as it is."""
    if not isinstance(tensor, keras.KerasTensor):
        return tensor
    cast = layer.autocast and keras.backend.is_float_dtype(tensor.dtype) and tensor.dtype != layer.compute_dtype
    if cast and mask_of(tensor) is not None:
        raise Closed(f"is given a mask with numbers in {tensor.dtype}, and computes in {layer.compute_dtype}")
    return keras.ops.cast(tensor, layer.compute_dtype) if cast else tensor


def _attempted(scope, instead, *arguments):
    try:
        return scope.inside(*arguments)
    except Closed:
        raise
    except Exception as error:  # a stranger's code may raise anything where it meets a tensor without values
        if scope.refused:
            raise Closed(f"uses `{scope.refused}`, for which no operation of Keras is known here") from error
        raise Closed(f"cannot be traced{instead}: {_first_sentence(error)}") from error


def _graph(inputs, outputs):
    try:
        return Functional(inputs, outputs)
    except ValueError as error:  # a name that stands twice, or outputs that do not depend on inputs
        raise Closed(f"is no graph: {_first_sentence(error)}") from error


def _number_anew(graph):
    """Number the operations of a graph from its own start, for Keras numbers them on from trace to trace."""
    layers = [each for each in graph.operations if isinstance(each, keras.layers.Layer)]
    taken = {layer.name for layer in layers}
    for each in graph.operations:
        if each not in layers:
            each.name = free_name(re.sub(r"_\d+$", "", each.name), taken)
            taken.add(each.name)


def _first_sentence(error):
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and "Exception encountered" not in line]
    first = (lines or [type(error).__name__])[0].split(". ")[0].rstrip(".:")
    return first if len(first) <= 120 else f"{first[:117]}..."


class TensorsOnly(keras.layers.Layer):
    """A layer that gives something beside tensors, such as None, with its tensors alone: a graph holds nothing else."""

    def __init__(self, layer):
        super().__init__(name=layer.name, dtype=layer.dtype_policy)
        self.layer = layer
        self.built = True
        self._outputs = None

    def call(self, *args, **kwargs):
        return self.tensors(self.layer(*args, **kwargs))

    def called(self, call, args, kwargs):
        """What the layer gives, with symbolic tensors from a call of this one."""
        given = iter(tree.flatten(call(self, *args, **kwargs)))
        return tree.map_structure(lambda value: next(given) if value is Ellipsis else value, self._outputs)

    def tensors(self, outputs):
        """The tensors among a layer's outputs."""
        vars(self)["_outputs"] = tree.map_structure(lambda v: ... if _is_tensor(v) else v, outputs)
        return _tensors(outputs)


def _tensors(values):
    return [value for value in tree.flatten(values) if _is_tensor(value)]


def _is_tensor(value):
    return isinstance(value, keras.KerasTensor) or keras.ops.is_tensor(value)


class _Parts:
    """What stands for the layers inside of a composite in both of its traces, where they cannot stand themselves."""

    def __init__(self):
        self._tensors_only = {}
        self._named = {}

    def tensors_only(self, layer):
        """The `TensorsOnly` for a layer."""
        return self._tensors_only.setdefault(id(layer), TensorsOnly(layer))

    def named(self, layer):
        """A layer, or a copy of it under a name that no other layer has: a graph holds one of each name."""
        if id(layer) not in self._named:
            same = self._free(layer.name)
            self._named[id(layer)] = layer, layer if same == layer.name else named(_same(layer), same)
        return self._named[id(layer)][1]

    def _free(self, name):
        return free_name(name or "layer", {one.name for _, one in self._named.values()})


def free_name(name, taken):
    """A name, with a number if it is taken."""
    names = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(1)))
    return next(each for each in names if each not in taken)


def _same(layer):
    """A layer with all that another one has; `copy.copy` would make it from its configuration."""
    same = object.__new__(type(layer))
    vars(same).update(vars(layer))
    vars(same).pop("build", None)  # Keras hangs one on each object, which builds that object and no copy of it
    return without_calls(same)


class Tracing(FollowsTensorFlow):
    """Where calls are traced: nobody reads or writes a variable, for what is read would be a constant of the graph.

    Args:
        training: the `training` that the layer is called with.
        parts: what stands for layers inside in all traces of one call.

    Attributes:
        weights: (variable, the symbolic tensor that stands for it) by id of the variable.
        constants: (constant, the symbolic tensor that stands for it), for each that a layer was called with.
        told: by id of a call in the graph, the `training` that it was given.
    """

    def __init__(self, training, parts=None):
        super().__init__()
        self.training = training
        self._parts = parts or _Parts()
        self.weights, self.constants, self.told = {}, [], {}
        self._taken_off = TakenOff()

    def inside(self, layer, args, kwargs):
        """What a layer's own call gives for symbolic tensors."""
        args, kwargs = tree.map_structure(lambda value: _as_computed(layer, value), (args, kwargs))
        if isinstance(layer, TensorsOnly):
            return layer.tensors(self.inside(layer.layer, args, kwargs))
        if "training" in inspect.signature(layer.call).parameters and kwargs.get("training") is None:
            kwargs = {**kwargs, "training": self.training}
        with _symbolic_weights(layer, self.weights):
            return layer.call(*args, **kwargs)

    def call(self, call, layer, args, kwargs):
        """Call a layer inside, with symbolic tensors in place of arrays where nothing else is symbolic."""
        if stateless_scope() is not self:  # Keras traces the inside of a layer, with tensors of TensorFlow's
            return call(layer, *args, **kwargs)
        layer = self._parts.named(layer)
        if not tensors_of((args, kwargs)):
            args, kwargs = tree.map_structure(self.symbolic, (args, kwargs))
        args, kwargs = one_for_each(layer, args, kwargs)
        outputs = self._outputs(call, layer, args, kwargs)
        if not self._taken_off.note(layer, tensors_of((args, kwargs)), _tensors(outputs)):
            raise Closed(f"gives {layer.name} a tensor whose mask attention takes off, beside or before it")
        tell_sizes(layer, args, kwargs, outputs)
        if kwargs.get("training") is not None:  # Keras notes a default as if it had been given
            self.told[id(node_of(_tensors(outputs)[0]))] = kwargs["training"]
        return outputs

    def restore_masks(self):
        """Hang the masks again on the tensors that attention has taken them off."""
        self._taken_off.restore()

    def _outputs(self, call, layer, args, kwargs):
        try:
            return call(layer, *args, **kwargs)
        except Exception:  # Keras takes tensors only from a layer, and asks a user's own for shapes
            if type(layer).__module__.startswith("keras.") or isinstance(layer, TensorsOnly):
                raise
        return self._parts.tensors_only(layer).called(call, args, kwargs)

    def symbolic(self, value):
        """A symbolic tensor for an array; what is no array as it is."""
        if not is_array(value):
            return value
        array = keras.ops.convert_to_numpy(value)
        self.constants.append((Constant(array), keras.Input(batch_shape=array.shape, dtype=str(array.dtype))))
        return self.constants[-1][1]

    def get_current_value(self, variable):
        if is_seed(variable):
            raise Closed("draws random numbers")
        raise Closed(f"reads the value of its variable {variable.path!r}")

    def add_update(self, update):
        raise Closed(f"writes its variable {update[0].path!r}")


def _adds_loss(loss):
    raise Closed("adds a loss, which no stock layer does: add it in the model's compute_loss, or in a layer of its own")


@contextlib.contextmanager
def _symbolic_weights(layer, stand_ins):
    """Put a symbolic tensor in place of each of a layer's own variables, and note both by id of the variable.

    Whatever the call leaves on the layer is taken off again. A loss that it adds is refused.
    """
    state = vars(layer)
    before = dict(state)
    state |= {**StandIns(layer, stand_ins).attributes(), "add_loss": _adds_loss}
    try:
        yield
    finally:
        state.clear()
        state.update(before)


def _check_inputs(inputs):
    """Refuse what a function that is run inside gave out as its own: Keras notes that it made the tensor."""
    for operation in (history(tensor).operation for tensor in inputs):
        if not isinstance(operation, keras.layers.InputLayer):
            raise Closed(f"runs a function inside of {type(operation).__name__}")


def _check_outputs(outputs):
    if not all(isinstance(output, keras.KerasTensor) for output in tree.flatten(outputs)):
        raise Closed("gives something that does not depend on its inputs")


def _check_node(node):
    """Refuse what hides a computation in a function: branches, loops, maps."""
    given = [*tree.flatten((node.arguments.args, node.arguments.kwargs)), *settings(node.operation).values()]
    if any(inspect.isroutine(value) for value in given):
        raise Closed(f"runs a function inside of {type(node.operation).__name__}")
    for variable in given:
        if isinstance(variable, keras.Variable):
            raise Closed(f"computes with {variable.path!r}, which is another layer's")


def settings(operation):
    """What an operation was made with; nothing for a layer, which is known by itself."""
    if isinstance(operation, keras.layers.Layer):
        return {}
    return {name: value for name, value in vars(operation).items() if name[0] != "_" and name != "name"}
