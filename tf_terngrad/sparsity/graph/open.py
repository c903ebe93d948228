"""A model with its composites opened: a graph of stock layers and operations as far as can be seen.

A composite is a layer of the user's, a subclassed model or a Lambda, of which no rule knows anything. Its call is
traced (`trace.py`) and becomes a graph of its own in the place of the layer, under its name, as a nested model is.
The layers inside are the user's own objects, and so are their variables.
"""

import inspect

import keras
from keras import tree

from tf_terngrad.keras_internals import (
    add_call,
    calls_forgotten,
    graph_of,
    history,
    is_graph,
    like,
    mask_of,
    nodes,
    structures_of,
)
from tf_terngrad.sparsity.graph.bare import BareWeights
from tf_terngrad.sparsity.graph.replay import check_model, example_of, replay
from tf_terngrad.sparsity.graph.stand_in import StandIn
from tf_terngrad.sparsity.graph.trace import Closed, trace
from tf_terngrad.sparsity.rules.base import Unknown
from tf_terngrad.sparsity.rules.registry import rule_for


def opened(model):
    """The model as a graph whose composites are graphs too; itself where there is nothing to open.

    Use it when you need to see inside of a user's model: variables and layers in it are the model's own.

    Raises:
        TypeError, ValueError: for what is no built model, or a subclass whose `call` cannot be followed.
    """
    if isinstance(model, StandIn):
        return model
    check_model(model)
    with calls_forgotten(model):
        if not is_graph(model):
            return _opened_subclass(model)
        return _with_closed(lambda opening: opening.graph(model))


def _with_closed(open_all):
    """What `open_all(opening)` gives, once every layer that is called in several ways is left closed."""
    opening = _Opening()
    while True:
        try:
            return open_all(opening)
        except _CalledAnotherWay as found:
            opening = _Opening({**opening.closed, id(found.layer): found.layer})


class _CalledAnotherWay(Exception):
    """A layer that was opened is called once more, with other shapes or settings."""

    def __init__(self, layer):
        super().__init__(layer.name)
        self.layer = layer


def _opened_subclass(model):
    try:
        for dtype in (model.input_dtype, "int32"):  # Keras notes for which shapes a model was built, and no dtypes
            example = example_of(model, dtype)
            graph = _with_closed(lambda opening, example=example: opening.stand_in(model, (example,), {}))
            if not all(_reads_ids(graph, tensor) for tensor in graph.inputs):
                break
        return graph
    except Closed as reason:
        raise ValueError(
            f"Model {model.name!r} is a subclass ({type(model).__name__}) whose call cannot be followed: it {reason}. "
            "Call Keras layers and keras.ops only, or build the model with keras.Model(inputs, outputs)."
        ) from reason


def _reads_ids(graph, tensor):
    """Whether an input of a graph is only looked up in tables."""
    readers = [node for node in nodes(graph) if any(tensor is given for given in node.arguments.keras_tensors)]
    return bool(readers) and all(_looks_up(node, tensor) for node in readers)


def _looks_up(node, tensor):
    if is_graph(node.operation):
        given = zip(node.arguments.keras_tensors, graph_of(node.operation).inputs, strict=True)
        return all(_reads_ids(graph_of(node.operation), inner) for outer, inner in given if outer is tensor)
    return isinstance(node.operation, keras.layers.Embedding)


class _Opening:
    """Opens one model; what is called several times is opened once.

    Attributes:
        closed: layers by their ids that stay closed, for one graph cannot stand for all their calls.
    """

    def __init__(self, closed=()):
        self.closed = dict(closed)
        self._graphs = {}
        self._stand_ins = {}

    def graph(self, model):
        """A graph of layers with its composites opened."""
        if id(model) not in self._graphs:
            self._graphs[id(model)] = model, self._opened(model)
        return self._graphs[id(model)][1]

    def stand_in(self, layer, args, kwargs):
        """The graph of a composite's call; the same for all its calls."""
        signature = tree.map_structure(_signature, (args, kwargs))
        if id(layer) in self.closed:
            raise Closed("is made in several ways, with other shapes or settings")
        if id(layer) not in self._stand_ins:
            self._stand_ins[id(layer)] = layer, signature, self._traced(layer, args, kwargs)
        if self._stand_ins[id(layer)][1] != signature:
            raise _CalledAnotherWay(layer)
        return self._stand_ins[id(layer)][2]

    def of(self, node):
        """What stands for the operation of a call: a graph where it can be opened, otherwise itself."""
        operation = node.operation
        if is_graph(operation):
            return self.graph(operation)
        if not is_composite(operation):
            return operation
        try:
            return self.stand_in(operation, node.arguments.args, node.arguments.kwargs)
        except Closed as reason:
            Unknown.why_closed[operation] = f"its call {reason}"
            return operation

    def _opened(self, model):
        functional, copy = graph_of(model), _Copy(self)
        inputs = [_input_like(tensor) for tensor in functional.inputs]
        outputs = replay(functional, inputs, copy.call)
        if not copy.opens:
            return model
        shapes = structures_of(functional)
        return StandIn(model, tree.pack_sequence_as(shapes[0], inputs), tree.pack_sequence_as(shapes[1], outputs))

    def _traced(self, layer, args, kwargs):
        _check_composite(layer, args, kwargs)
        seen = trace(layer, args, kwargs)
        inputs = tree.map_structure(_input_like, seen.inputs)
        weights = BareWeights(layer, seen, tree.flatten(inputs))
        copy = _Copy(self, weights)
        outputs = weights.tensors(replay(seen.graph, [*tree.flatten(inputs), *weights.values], copy.call))
        return StandIn(layer, inputs, tree.pack_sequence_as(structures_of(seen.graph)[1], outputs))


class _Copy:
    """Copies the calls of a graph: of the same operations, or of what stands for them."""

    def __init__(self, opening, weights=None):
        self._opening = opening
        self._weights = weights
        self.opens = False

    def call(self, node, args, kwargs):
        """Note the call of a node in the copy; gives its outputs."""
        if self._weights:
            kwargs.pop("training", None)  # the graph's own reaches every part
            outputs = self._weights.call(node, args, kwargs)
            if outputs:
                return outputs
            args, kwargs = self._weights.tensors((args, kwargs))
        operation = self._opening.of(node)
        if operation is not node.operation:
            self.opens = True
        return add_call(operation, args, kwargs, [like(tensor) for tensor in tree.flatten(node.output_tensors)])


def is_composite(operation):
    """Whether an operation is a layer that may be opened: a user's own, of which no rule knows anything."""
    own = isinstance(operation, keras.layers.Layer) and not type(operation).__module__.startswith("keras.")
    return isinstance(operation, keras.layers.Lambda) or (own and type(rule_for(operation)) is Unknown)


def _check_composite(layer, args, kwargs):
    if type(layer).__call__ is not keras.Layer.__call__:
        raise Closed("is wrapped in a `__call__` of its own")
    if layer.activity_regularizer is not None:
        raise Closed("has an activity regularizer on its result")
    tensors = [value for value in tree.flatten((args, kwargs)) if isinstance(value, keras.KerasTensor)]
    if any(mask_of(tensor) is not None for tensor in tensors) and (layer.supports_masking or _takes_mask(layer)):
        raise Closed("is given a mask, and makes something of it")


def _takes_mask(layer):
    return any(name.endswith("mask") for name in inspect.signature(layer.call).parameters)


def _signature(value):
    return (tuple(value.shape), value.dtype) if isinstance(value, keras.KerasTensor) else repr(value)


def _input_like(tensor):
    layer = history(tensor).operation
    return keras.Input(
        batch_shape=tensor.shape, dtype=tensor.dtype, name=layer.name, sparse=tensor.sparse, optional=layer.optional
    )
