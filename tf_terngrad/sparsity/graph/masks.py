"""Masks of steps that travel with tensors: which enter a composite, and which leave it.

Keras hangs a mask on a tensor; no call of a graph has to name it. Where the model is built, the symbolic tensor shows
the mask that the tensor will have, but not where it goes through a model or a user's own layer whose inside says
nothing of masks. There stands `UNSEEN`, and what would make something of such a mask stays closed.
"""

import inspect

import keras
from keras import tree

from tf_terngrad.keras_internals import add_call, all_layers, history, is_graph, mask_of, node_of, operation, set_mask
from tf_terngrad.sparsity.graph.stand_in import is_traced
from tf_terngrad.sparsity.graph.symbolic import tensors_of
from tf_terngrad.sparsity.rules.masks import HandOn

UNSEEN = object()
"""Stands for a mask that a tensor may have, and that its graph does not show."""


class Copies:
    """Calls copied from one graph to another, with the masks of their tensors, which no call may read.

    Args:
        call: function (node, args, kwargs) that notes the call of a node in the copy and gives its outputs.
        inputs: pairs of a tensor of the graph and what stands for it in the copy.
    """

    def __init__(self, call, inputs):
        self._call = call
        self._of = {id(tensor): copied for tensor, copied in inputs}

    def call(self, node, args, kwargs):
        """The outputs of a call in the copy, noted there once."""
        outputs = tree.flatten(node.output_tensors)
        if id(outputs[0]) not in self._of:
            copied = self._call(node, args, kwargs)
            for tensor, new in zip(outputs, copied, strict=True):
                self._of[id(tensor)] = self._masked(node, tensor, new, (args, kwargs))
        return [self._of[id(tensor)] for tensor in outputs]

    def _masked(self, node, tensor, new, given):
        """A tensor of the copy, with the mask that it will have."""
        if not isinstance(new, keras.KerasTensor):
            return new
        mask, made = self._mask(tensor), history(new).operation
        if is_traced(made):
            return _handed_on(new, mask, _left_with(new))
        return set_mask(new, UNSEEN if mask is None and _hides(node.operation, given) else mask)

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
    layer = HandOn(name=f"{history(tensor).operation.name}_mask")
    return set_mask(add_call(layer, (tensor, mask), {}, [keras.KerasTensor(tensor.shape, tensor.dtype)])[0], mask)


def _hides(layer, given):
    """Whether a layer may give its outputs a mask that Keras does not show; an operation gives none."""
    if not isinstance(layer, keras.layers.Layer):
        return False
    masks = list(map(mask_of, tensors_of(given)))
    if type(layer).__module__.startswith("keras.") and not is_graph(layer):
        return any(mask is UNSEEN for mask in masks)
    inside = [each for each in all_layers(layer) if each is not layer]  # of its own mask Keras has said that it is none
    return any(mask is not None for mask in masks) or any(map(_makes_mask, inside))


def _makes_mask(layer):
    """Whether a layer gives masks to tensors that have none."""
    own = not type(layer).compute_mask.__module__.startswith("keras.")
    return own or isinstance(layer, keras.layers.Masking) or getattr(layer, "mask_zero", False)


def regards_masks(layer) -> bool:
    """Whether a layer makes something of a mask: its call takes one, or the layer hands one on."""
    return layer.supports_masking or takes_mask(layer)


def takes_mask(layer) -> bool:
    """Whether a layer's call takes a mask; that of a graph's is for the layers inside."""
    return not is_graph(layer) and any(name.endswith("mask") for name in _parameters(layer))


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
    missing = {name for name in wanted if name in _parameters(layer) and given.get(name) is None}
    masks = {name: tree.map_structure(mask_of, wanted[name]) for name in missing}
    return {**kwargs, **{name: mask for name, mask in masks.items() if tensors_of(mask)}}


def _parameters(layer):
    return inspect.signature(layer.call).parameters
