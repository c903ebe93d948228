"""Masks that travel with tensors, and what layers make of them."""

import functools
import inspect

import keras

from tf_terngrad.keras_internals.graphs import is_graph
from tf_terngrad.keras_internals.layer_facts import parameters_of


def mask_of(tensor):
    """The mask that travels with a tensor; None: none does."""
    return getattr(tensor, "_keras_mask", None)


def set_mask(tensor, mask):
    """A symbolic tensor, with a mask that travels with it from now on; None: none does."""
    if mask is not None or mask_of(tensor) is not None:
        tensor._keras_mask = mask
    return tensor


def computes_mask(layer) -> bool:
    """Whether a layer's class computes the mask of its results itself; Keras's gives them that of the first input."""
    return type(layer).compute_mask is not keras.Layer.compute_mask


def takes_mask(layer) -> bool:
    """Whether a layer's call takes a mask; that of a graph's is for the layers inside."""
    return not is_graph(layer) and any(name.endswith("mask") for name in parameters_of(layer))


def regards_masks(layer) -> bool:
    """Whether a layer makes something of a mask: its call takes one, or the layer hands one on."""
    return layer.supports_masking or takes_mask(layer)


def takes_masks_off(layer) -> bool:
    """Whether a layer takes the masks off the tensors that it is given: attention does, in most releases of Keras."""
    return isinstance(layer, _ATTENTION) and _takes_off(next(kind for kind in _ATTENTION if isinstance(layer, kind)))


_ATTENTION = keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention


@functools.cache
def _takes_off(kind):
    # Read, not tried: where a call is traced, no layer can be made.
    return any(line in inspect.getsource(kind.call) for line in ("_mask(query, None)", "query._keras_mask = None"))
