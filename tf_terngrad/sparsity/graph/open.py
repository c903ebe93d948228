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
    input_like,
    is_graph,
    like,
    mask_of,
    nodes,
    operation,
    structures_of,
)
from tf_terngrad.sparsity.graph.alike import compared
from tf_terngrad.sparsity.graph.bare import BareWeights
from tf_terngrad.sparsity.graph.batch import AnyBatch
from tf_terngrad.sparsity.graph.noise import is_noise
from tf_terngrad.sparsity.graph.replay import check_model, example_of, replay
from tf_terngrad.sparsity.graph.sources import Sources
from tf_terngrad.sparsity.graph.stand_in import StandIn, entering
from tf_terngrad.sparsity.graph.trace import Closed, TensorsOnly, traces
from tf_terngrad.sparsity.rules.base import Unknown
from tf_terngrad.sparsity.rules.elementwise import Passing
from tf_terngrad.sparsity.rules.registry import rule_for, show_rule


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
    return isinstance(node.operation, (keras.layers.Embedding, operation("ZerosLike")))  # or only asked for its shape


class _Opening:
    """Opens one model; what is called several times is opened once.

    Attributes:
        closed: layers by their ids that stay closed, for one graph cannot stand for all their calls.
    """

    def __init__(self, closed=()):
        self.closed = dict(closed)
        self._graphs = {}
        self._stand_ins = {}

    def graph(self, model, given=()):
        """A graph of layers with its composites opened, for the sizes of the tensors that it is given."""
        sizes = _sizes(model, () if id(model) in self.closed else given)
        if id(model) not in self._graphs:
            self._graphs[id(model)] = model, sizes, self._opened(model, sizes)
        if self._graphs[id(model)][1] != sizes:
            raise _CalledAnotherWay(model)
        return self._graphs[id(model)][2]

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

    def of(self, operation, args, kwargs):
        """What stands for an operation in a call: a graph where it can be opened, otherwise itself."""
        if is_graph(operation):
            return self.graph(operation, entering(operation, args, kwargs, keras.KerasTensor))
        if not is_composite(operation):
            return operation
        try:
            return self.stand_in(operation, args, kwargs)
        except Closed as reason:
            if isinstance(operation, TensorsOnly):
                raise
            if is_noise(operation, args, kwargs):
                show_rule(operation, Passing())
                return operation
            Unknown.why_closed[operation] = f"its call {reason}"
            return operation

    def _opened(self, model, sizes):
        functional = graph_of(model)
        known = [tuple(tensor.shape) for tensor in functional.inputs] != sizes
        copy = _Copy(self, known)
        inputs = [input_like(tensor, like(tensor, size)) for tensor, size in zip(functional.inputs, sizes, strict=True)]
        outputs = replay(functional, inputs, copy.call)
        if not copy.opens:
            return model
        shapes = structures_of(functional)
        return StandIn(model, tree.pack_sequence_as(shapes[0], inputs), tree.pack_sequence_as(shapes[1], outputs))

    def _traced(self, layer, args, kwargs):
        _check_composite(layer, args, kwargs)
        training, inference = traces(layer, args, kwargs)
        general, constants = compared(training, inference)
        given = [value for value in tree.flatten((args, kwargs)) if isinstance(value, keras.KerasTensor)]
        inputs = [input_like(*pair) for pair in zip(inference.graph.inputs, given, strict=False)]
        sources = Sources(inputs)
        batch, weights = AnyBatch(general, sources), BareWeights(layer, inference, sources)
        copy = _TraceCopy(self, weights, batch)
        values = [*inputs, *weights.values, *constants]
        outputs = weights.tensors(replay(inference.graph, values, copy.call))
        inputs = _as_given(args, kwargs, inputs)
        return StandIn(layer, inputs, tree.pack_sequence_as(structures_of(inference.graph)[1], outputs))


class _Copy:
    """Copies the calls of a graph: of the same operations, or of what stands for them.

    `known`: more sizes are known than when the graph was made.
    """

    def __init__(self, opening, known):
        self._opening = opening
        self._known = known
        self.opens = False

    def call(self, node, args, kwargs):
        """Note the call of a node in the copy; gives its outputs."""
        operation = self._opening.of(node.operation, args, kwargs)
        self.opens |= operation is not node.operation
        outputs = tree.flatten(node.output_tensors)
        shapes = self._shapes(operation, args, kwargs) if self._known else [tensor.shape for tensor in outputs]
        return add_call(operation, args, kwargs, [like(*pair) for pair in zip(outputs, shapes, strict=True)])

    def _shapes(self, operation, args, kwargs):
        if isinstance(operation, StandIn):
            return [tensor.shape for tensor in operation.outputs]
        return [spec.shape for spec in tree.flatten(operation.compute_output_spec(*args, **kwargs))]


class _TraceCopy:
    """Copies the calls of a trace, with the weights in place and for batches of any size."""

    def __init__(self, opening, weights, batch):
        self._opening = opening
        self._weights = weights
        self._batch = batch

    def call(self, node, args, kwargs):
        """Note the call of a node in the copy; gives its outputs."""
        kwargs.pop("training", None)  # what the graph is called with reaches every part
        args, kwargs = self._batch.arguments(node, args, kwargs)
        new = self._batch.outputs(node)
        outputs = self._weights.call(node, args, kwargs, new)
        if outputs:
            return outputs
        args, kwargs = self._weights.tensors((args, kwargs))
        outputs = self._batch.call(node, args, kwargs)
        return outputs or add_call(self._opening.of(node.operation, args, kwargs), args, kwargs, new)


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


def _sizes(model, given):
    """The shapes of a graph's inputs, with what is known of the tensors that it is called on; the batch stays open."""
    inputs = [tuple(tensor.shape) for tensor in graph_of(model).inputs]
    if [len(shape) for shape in inputs] != [len(tensor.shape) for tensor in given]:
        return inputs
    return [
        shape[:1] + tuple(size or known for size, known in zip(shape[1:], tensor.shape[1:], strict=True))
        for shape, tensor in zip(inputs, given, strict=True)
    ]


def _signature(value):
    return (tuple(value.shape), value.dtype) if isinstance(value, keras.KerasTensor) else repr(value)


def _as_given(args, kwargs, inputs):
    """The inputs of a graph, in the structure that a call takes in one argument, or in a list."""
    one = len(args) == 1 and len(tree.flatten(args)) == len(inputs)
    return tree.pack_sequence_as(args, inputs)[0] if one else inputs
