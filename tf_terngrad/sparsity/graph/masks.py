"""Masks of steps that travel with tensors: which enter a composite, and which leave it.

Keras hangs a mask on a tensor; no call of a graph has to name it. Where the model is built, the symbolic tensor shows
the mask that the tensor will have, but not where it goes through a model or a user's own layer whose inside says
nothing of masks. There stands `UNSEEN`, and what would make something of such a mask stays closed.
"""

import inspect

import keras
from keras import tree

from tf_terngrad.keras_internals import (
    add_call,
    all_layers,
    computes_mask,
    graph_of,
    history,
    is_graph,
    mask_of,
    node_of,
    nodes,
    operation,
    parameters_of,
    set_mask,
    takes_mask,
    takes_masks_off,
)
from tf_terngrad.sparsity.graph.stand_in import is_traced
from tf_terngrad.sparsity.graph.symbolic import tensors_of
from tf_terngrad.sparsity.graph.taken_off import taken_off
from tf_terngrad.sparsity.rules.masks import HandOn
from tf_terngrad.sparsity.rules.registry import rule_for

UNSEEN = object()
"""Stands for a mask that a tensor may have, and that its graph does not show."""


class Copies:
    """Calls copied from one graph to another, with the masks of their tensors, which no call may read.

    Args:
        call: function (node, args, kwargs) that notes the call of a node in the copy and gives its outputs.
        inputs: pairs of a tensor of the graph and what stands for it in the copy.

    Attributes:
        knows_more: whether the copy says more than the graph of masks that a smaller layer would lose.
    """

    def __init__(self, call, inputs):
        self._call = call
        self._of = {id(tensor): copied for tensor, copied in inputs}
        self.knows_more = False

    def call(self, node, args, kwargs):
        """The outputs of a call in the copy, noted there once."""
        outputs = tree.flatten(node.output_tensors)
        if id(outputs[0]) not in self._of:
            copied = self._call(node, args, kwargs)
            for tensor, new in zip(outputs, copied, strict=True):
                self._of[id(tensor)] = self._masked(node, tensor, new, (args, kwargs))
            _take_off(copied[0])
        return [self._of[id(tensor)] for tensor in outputs]

    def _masked(self, node, tensor, new, given):
        """A tensor of the copy, with the mask that it will have."""
        if not isinstance(new, keras.KerasTensor):
            return new
        mask, made = self._mask(tensor), history(new).operation
        if mask is not None and self._is_lost(node, given):
            mask = None if _hands_on_its_own(node.operation) else UNSEEN
        if is_traced(made):
            return _handed_on(new, mask, _left_with(new))
        if mask is None:
            mask = _unshown(node, new, given, self._entering(node))
        loses = rule_for(node.operation).loses_masks
        self.knows_more |= loses and (isinstance(mask, keras.KerasTensor) or mask_of(tensor) is not None)
        if not isinstance(mask, keras.KerasTensor) or not loses:
            return set_mask(new, mask)
        return _with_mask(new, mask, only_smaller=True)

    def _entering(self, node):
        """The tensors that enter a call, each with what stands for it in the copy; weights and arrays left out."""
        pairs = [(tensor, self._of.get(id(tensor))) for tensor in node.arguments.keras_tensors]
        return [(tensor, copied) for tensor, copied in pairs if isinstance(copied, keras.KerasTensor)]

    def _is_lost(self, node, given):
        """Whether a tensor has lost the mask that the graph shows before a call; one that is an argument stays."""
        lost = any(mask_of(shown) is not None and mask_of(copied) is None for shown, copied in self._entering(node))
        return lost and not tensors_of(given[1].get("mask"))

    def _mask(self, tensor):
        mask = mask_of(tensor)
        return self._copied(mask) if isinstance(mask, keras.KerasTensor) else mask

    def _copied(self, tensor):
        """What stands for a tensor in the copy; a mask that no call reads gets its calls here."""
        if id(tensor) not in self._of:
            node = node_of(tensor)
            if node.is_input:  # of another graph, from which this one was cut out
                return UNSEEN
            self.call(node, *node.arguments.convert(self._value))
        return self._of[id(tensor)]

    def _value(self, value):
        return self._copied(value) if isinstance(value, keras.KerasTensor) else value


def _take_off(output):
    """Take the masks off that the call takes off which gave a symbolic tensor."""
    entering = node_of(output).arguments.keras_tensors if isinstance(output, keras.KerasTensor) else ()
    if any(mask_of(tensor) is not None for tensor in entering):
        for tensor, surely in taken_off(history(output).operation, entering):
            if mask_of(tensor) is not None:
                set_mask(tensor, None if surely else UNSEEN)


def _hands_on_its_own(layer):
    """Whether a layer hands on the masks that its tensors have, those of all or none."""
    return isinstance(layer, _MERGES) or not computes_mask(layer) or takes_masks_off(layer)


def _left_with(tensor):
    """The mask that a composite's graph leaves on an output; one that entered is that of the graph around it."""
    composite, _, position = history(tensor)
    mask = _plain(mask_of(composite.outputs[position]))
    pairs = zip(composite.inputs, node_of(tensor).arguments.keras_tensors, strict=True)
    return None if mask is None else next((outside for inside, outside in pairs if inside is mask), UNSEEN)


def _plain(mask):
    """A mask, or the one whose sum with itself it is: Keras makes that of the two masks of a residual sum."""
    if not isinstance(mask, keras.KerasTensor) or not isinstance(node_of(mask).operation, operation("LogicalOr")):
        return mask
    one, *others = map(_plain, node_of(mask).arguments.keras_tensors)
    return one if all(other is one for other in others) else mask


def _handed_on(tensor, mask, left):
    """A composite's output with the mask that its class computes, if its parts leave none."""
    if left is not None or mask is None:
        return set_mask(tensor, left)
    if mask is UNSEEN:
        return set_mask(tensor, UNSEEN)
    return _with_mask(tensor, mask)


def _with_mask(tensor, mask, **options):
    layer = HandOn(name=f"{history(tensor).operation.name}_mask", **options)
    return set_mask(add_call(layer, (tensor, mask), {}, [keras.KerasTensor(tensor.shape, tensor.dtype)])[0], mask)


def _unshown(node, tensor, given, entering):
    """The mask that an output of a call may have, though Keras shows none; an operation gives none."""
    layer, (args, kwargs) = node.operation, given
    if not isinstance(layer, keras.layers.Layer):
        return None
    masks = list(map(mask_of, tensors_of(given)))
    if is_graph(layer):
        told = tensors_of(kwargs.get("mask"))
        return _through(layer, told or list(map(mask_of, tensors_of(args))))[history(tensor).tensor_index]
    if type(layer).__module__.startswith("keras."):
        seen = all((mask_of(shown) is None) == (mask_of(copied) is None) for shown, copied in entering)
        return None if seen else _passed(layer, masks)
    inside = [each for each in all_layers(layer) if each is not layer]  # of its own mask Keras has said that it is none
    return UNSEEN if any(mask is not None for mask in masks) or any(map(_makes_mask, inside)) else None


def _through(model, masks):
    """The masks of a model's outputs, given those that enter: of stock layers in a row they are the same."""
    functional = graph_of(model)
    if len(masks) != len(functional.inputs):
        return [UNSEEN] * len(functional.outputs)
    found = dict(zip(map(id, functional.inputs), masks, strict=True))
    for node in nodes(functional):
        entering, outputs = node.arguments.keras_tensors, tree.flatten(node.output_tensors)
        shown = any(mask_of(tensor) is not None for tensor in (*entering, *outputs))  # one that the model makes
        mask = UNSEEN if shown else _passed(node.operation, [found[id(tensor)] for tensor in entering])
        found.update((id(tensor), mask) for tensor in outputs)
    return [found[id(tensor)] for tensor in functional.outputs]


def _passed(layer, masks):
    """The mask that a stock layer hands on, given those of what enters."""
    if not isinstance(layer, keras.layers.Layer):
        return None
    if all(mask is None for mask in masks):
        return UNSEEN if any(map(_makes_mask, all_layers(layer))) else None
    if type(layer) in _MERGES:
        return None if None in masks else masks[0] if all(mask is masks[0] for mask in masks) else UNSEEN
    stock = type(layer).__module__.startswith("keras.") and not is_graph(layer)
    if not stock or takes_mask(layer) or computes_mask(layer) or len(masks) > 1:
        return UNSEEN
    return masks[0] if layer.supports_masking else None


_MERGES = (keras.layers.Add, keras.layers.Subtract, keras.layers.Multiply, keras.layers.Average)
"""Layers that hand on a mask that all their terms have."""


def _makes_mask(layer):
    """Whether a layer gives masks to tensors that have none."""
    own = not type(layer).compute_mask.__module__.startswith("keras.")
    return own or isinstance(layer, keras.layers.Masking) or getattr(layer, "mask_zero", False)


def travelling(args, kwargs) -> list:
    """The masks that come with the tensors of a call, and are no arguments of it themselves."""
    tensors = tensors_of((args, kwargs))
    seen = {id(tensor) for tensor in tensors}
    masks = [mask for mask in map(mask_of, tensors) if isinstance(mask, keras.KerasTensor)]
    return list({id(mask): mask for mask in masks if id(mask) not in seen}.values())


def with_masks(layer, args, kwargs) -> dict:
    """The keyword arguments of a call, with the masks that Keras gives a layer that takes some and is given none."""
    given = inspect.signature(layer.call).bind_partial(*args, **kwargs).arguments
    tensors = {name: value for name, value in given.items() if tensors_of(value)}
    one = len(tensors) == 1
    wanted = {"mask" if one else f"{name}_mask": value for name, value in tensors.items()}
    missing = {name for name in wanted if name in parameters_of(layer) and given.get(name) is None}
    masks = {name: tree.map_structure(mask_of, wanted[name]) for name in missing}
    return {**kwargs, **{name: mask for name, mask in masks.items() if tensors_of(mask)}}
