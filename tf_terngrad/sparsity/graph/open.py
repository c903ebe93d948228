"""A model with its composites opened: a graph of stock layers and operations as far as can be seen.

A composite is a layer of the user's, a subclassed model or a Lambda, of which no rule knows anything. Its call is
traced (`trace.py`) and becomes a graph of its own in the place of the layer, under its name, as a nested model is.
The layers inside are the user's own objects, and so are their variables.
"""

import contextlib

import keras
from keras import tree

from tf_terngrad.keras_internals import (
    all_layers,
    calls_forgotten,
    graph_of,
    input_like,
    is_graph,
    like,
    mask_of,
    nodes,
    note_trainable,
    operation,
    set_mask,
    structures_of,
    takes_mask,
)
from tf_terngrad.sparsity.graph.alike import compared
from tf_terngrad.sparsity.graph.any_size import AnySize
from tf_terngrad.sparsity.graph.bare import BareWeights
from tf_terngrad.sparsity.graph.composites import (
    check_composite,
    check_masks,
    is_composite,
    regards_masks_inside,
    regularized,
)
from tf_terngrad.sparsity.graph.copies import GraphCopy, TraceCopy
from tf_terngrad.sparsity.graph.entering import computed_from
from tf_terngrad.sparsity.graph.masks import UNSEEN, Copies, travelling, with_masks
from tf_terngrad.sparsity.graph.noise import is_noise
from tf_terngrad.sparsity.graph.replay import check_model, example_of, replay
from tf_terngrad.sparsity.graph.sizes import INFERENCE, has_open_sizes, let_stand_for, shape_in
from tf_terngrad.sparsity.graph.sources import Sources
from tf_terngrad.sparsity.graph.stand_in import StandIn, entering
from tf_terngrad.sparsity.graph.symbolic import tensors_of
from tf_terngrad.sparsity.graph.trace import Closed, TensorsOnly, traces
from tf_terngrad.sparsity.rules.base import Unknown
from tf_terngrad.sparsity.rules.compositions import TimeDistributed
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
        self._wrappers = {}

    def graph(self, model, given=(), masked=False):
        """A graph of layers with its composites opened, for the sizes of the tensors that it is given.

        `masked`: it is given masks too, apart from those that come with the tensors.
        """
        closed = id(model) in self.closed
        masks = [masked or closed or mask_of(tensor) is not None for tensor in given]
        given = () if closed else given
        sizes = _sizes(model, given)
        signature = sizes, masks, _sizes_together(given)
        if any(self._stand_ins.get(id(model), ())[1:]):
            raise _CalledAnotherWay(model)
        if id(model) not in self._graphs:
            self._graphs[id(model)] = model, signature, self._opened(model, sizes, given, masks)
        if self._graphs[id(model)][1] != signature:
            raise _CalledAnotherWay(model)
        return self._graphs[id(model)][2]

    def stand_in(self, layer, args, kwargs, masks=()):
        """The graph of a composite's call; the same for all its calls. `masks`: those that come with its tensors.

        A layer without variables has a graph for each way in which it is called.
        """
        signature = tree.map_structure(_signature, (args, kwargs)), _sizes_together(tensors_of((args, kwargs)))
        if id(layer) in self.closed:
            raise Closed("is made in several ways, with other shapes or settings")
        if id(layer) in self._graphs:
            raise _CalledAnotherWay(layer)
        _, known = self._stand_ins.setdefault(id(layer), (layer, []))
        for same, graph in known:
            if same == signature:
                return graph
        if known and layer.variables:
            raise _CalledAnotherWay(layer)
        name = f"{layer.name}_way_{len(known) + 1}" if known else layer.name
        known.append((signature, self._traced(layer, args, kwargs, masks, name)))
        return known[-1][1]

    def of(self, operation, args, kwargs):
        """A call in the copy: of what stands for an operation where it can be opened, otherwise as it is."""
        masked = travelling(args, kwargs) or tensors_of(kwargs.get("mask"))
        if is_graph(operation) and masked and regards_masks_inside(operation):
            with contextlib.suppress(Closed):
                return self._composite(operation, args, kwargs)
        if is_graph(operation):
            masked = any(mask is not None for mask in tree.flatten(kwargs.get("mask")))
            given = entering(operation, args, kwargs, keras.KerasTensor)
            return self.graph(operation, given, masked), args, kwargs
        if isinstance(rule_for(operation), TimeDistributed):
            return self._over_steps(operation, args, kwargs), args, kwargs
        if not is_composite(operation):
            return operation, args, kwargs
        try:
            return self._composite(operation, args, kwargs)
        except Closed as reason:
            if isinstance(operation, TensorsOnly):
                raise
            if is_noise(operation, args, kwargs):
                show_rule(operation, Passing())
                return operation, args, kwargs
            Unknown.why_closed[operation] = f"its call {reason}"
            return operation, args, kwargs

    def _over_steps(self, wrapper, args, kwargs):
        """A layer at each step, with what stands for the layer inside of it."""
        if id(wrapper) not in self._wrappers:
            self._wrappers[id(wrapper)] = wrapper, self._wrapped(wrapper, args, kwargs)
        return self._wrappers[id(wrapper)][1]

    def _wrapped(self, wrapper, args, kwargs):
        sequence, *masks = tensors_of((args, kwargs))
        step = set_mask(like(sequence, (sequence.shape[0], *sequence.shape[2:])), None)
        inner, *_ = self.of(wrapper.layer, (step,), {})
        if inner is wrapper.layer:
            return wrapper
        masked = masks or mask_of(sequence) is not None
        if masked and any(map(takes_mask, [wrapper.layer, *all_layers(inner)])):  # Keras gives a model a step's mask
            Unknown.why_closed[wrapper.layer] = f"{wrapper.name} is given a mask, which it reads"
            return wrapper
        opened = keras.layers.TimeDistributed(inner, name=wrapper.name, dtype=wrapper.dtype_policy)
        opened.built = True
        note_trainable(opened, wrapper.trainable)
        return opened

    def _composite(self, layer, args, kwargs):
        kwargs = with_masks(layer, args, kwargs)
        masks = travelling(args, kwargs)
        graph = self.stand_in(layer, args, kwargs, masks)
        return graph, (*args, *(masks[position] for position in graph.masks)), kwargs

    def _opened(self, model, sizes, given, masks):
        functional = graph_of(model)
        known = [tuple(tensor.shape) for tensor in functional.inputs] != sizes
        copy = GraphCopy(self, known)
        inputs = [input_like(tensor, like(tensor, size)) for tensor, size in zip(functional.inputs, sizes, strict=True)]
        for tensor, outside in zip(inputs, given, strict=False):
            let_stand_for(tensor, outside)
        for tensor, masked in zip(inputs, masks, strict=False):
            set_mask(tensor, UNSEEN if masked else None)
        copies = Copies(copy.call, zip(functional.inputs, inputs, strict=True))
        outputs = replay(functional, inputs, copies.call)
        if not copy.opens and not copies.knows_more:
            return model
        shapes = structures_of(functional)
        return StandIn(model, tree.pack_sequence_as(shapes[0], inputs), tree.pack_sequence_as(shapes[1], outputs))

    def _traced(self, layer, args, kwargs, masks, name):
        check_composite(layer, args, kwargs)
        (inference, *others), takes_all = traces(layer, args, kwargs, masks)
        generals, constants = compared(inference, *others)
        before, after = map(tensors_of, (args, kwargs))
        inputs = _inputs(inference.entering, [*before, *masks, *after])
        first, last = len(before), len(before) + len(masks)
        sources = Sources(inputs[:first] + inputs[last:])
        sizes, weights = AnySize(generals, takes_all, sources), BareWeights(layer, inference, sources)
        copied = {id(tensor): new for tensor, new in zip(inference.entering, inputs, strict=True)}
        graph = inference.graph
        values = [copied[id(tensor)] for tensor in graph.inputs if id(tensor) in copied]
        values += [*weights.values, *constants]
        pairs = [*zip(inference.entering, inputs, strict=True), *zip(graph.inputs, values, strict=True)]
        outputs = replay(graph, values, Copies(TraceCopy(self, weights, sizes).call, pairs).call)
        outputs = weights.tensors(outputs[: len(tree.flatten(inference.outputs))])
        check_masks(layer, inputs, outputs)
        outputs = regularized(layer, outputs)
        needed = {id(tensor) for tensor in computed_from(outputs)}
        read = [position for position, mask in enumerate(inputs[first:last]) if id(mask) in needed]
        inputs[first:last] = [inputs[first + position] for position in read]
        given = _as_given(args, kwargs, inputs)
        return StandIn(layer, given, tree.pack_sequence_as(inference.outputs, outputs), True, read, name)


def _inputs(entering, given):
    """New inputs for what enters a trace, with the same masks among them; of the shapes of what the call is given."""
    inputs = [input_like(*pair) for pair in zip(entering, given, strict=True)]
    copied = {id(tensor): new for tensor, new in zip(entering, inputs, strict=True)}
    for tensor, new, outside in zip(entering, inputs, given, strict=True):
        let_stand_for(new, outside)
        set_mask(new, UNSEEN if mask_of(outside) is UNSEEN else copied.get(id(mask_of(tensor))))
    return inputs


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
    if not isinstance(value, keras.KerasTensor):
        return repr(value)
    mask = mask_of(value)
    return tuple(value.shape), value.dtype, mask is None, mask is UNSEEN


def _sizes_together(tensors):
    """Numbers for the open sizes of several tensors: a call may go by which of them is larger, and how much."""
    opens = [tensor for tensor in tensors if has_open_sizes(tensor)]
    return [shape_in(tensor, INFERENCE) for tensor in opens] if len(opens) > 1 else []


def _as_given(args, kwargs, inputs):
    """The inputs of a graph, in the structure that a call takes in one argument, or in a list."""
    one = len(args) == 1 and len(tree.flatten(args)) == len(inputs)
    return tree.pack_sequence_as(args, inputs)[0] if one else inputs
