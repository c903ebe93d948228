"""Which layers are composites, and what stands in the way of opening one, apart from what its call does."""

import keras

from tf_terngrad.keras_internals import add_call, all_layers, computes_mask, is_graph, like, mask_of, regards_masks
from tf_terngrad.sparsity.graph.masks import UNSEEN
from tf_terngrad.sparsity.graph.symbolic import tensors_of
from tf_terngrad.sparsity.graph.trace import Closed, TensorsOnly
from tf_terngrad.sparsity.rules.base import Unknown
from tf_terngrad.sparsity.rules.registry import rule_for

_ACTIVITY = (keras.regularizers.L1, keras.regularizers.L2, keras.regularizers.L1L2)
"""The regularizers that a stock layer adds to the loss."""


def is_composite(operation):
    """Whether an operation is a layer that may be opened: a user's own, of which no rule knows anything."""
    own = isinstance(operation, keras.layers.Layer) and not type(operation).__module__.startswith("keras.")
    return isinstance(operation, keras.layers.Lambda) or (own and type(rule_for(operation)) is Unknown)


def regards_masks_inside(model):
    """Whether a composite inside of a model makes something of a mask."""
    return any(is_composite(layer) and regards_masks(layer) for layer in all_layers(model))


def regularized(layer, outputs):
    """The outputs of a composite, with the activity regularizer of the layer."""
    if layer.activity_regularizer is None:
        return outputs
    strengths = {name: float(value) for name, value in vars(layer.activity_regularizer).items()}
    names = [f"{layer.name}_activity_{number}" for number in range(len(outputs))]
    stock = [keras.layers.ActivityRegularization(name=name, dtype=layer.dtype_policy, **strengths) for name in names]
    return [add_call(each, (output,), {}, [like(output)])[0] for each, output in zip(stock, outputs, strict=True)]


def check_composite(layer, args, kwargs):
    """Refuse what a trace of a composite's `call` does not show."""
    if type(layer).__call__ is not keras.Layer.__call__:
        raise Closed("is wrapped in a `__call__` of its own")
    if layer.activity_regularizer is not None and type(layer.activity_regularizer) not in _ACTIVITY:
        raise Closed("has an activity regularizer on its result that is not L1, L2 or L1L2")
    owner = layer.layer if isinstance(layer, TensorsOnly) else layer
    masks = [mask_of(tensor) for tensor in tensors_of((args, kwargs))]
    if any(mask is UNSEEN for mask in masks) and (regards_masks(owner) or is_graph(owner)):
        raise Closed(
            "may be given a mask, which a model or layer around or before it does not show: call it outside of that one"
        )
    if owner is not layer and any(mask is not None for mask in masks) and regards_masks(owner):
        raise Closed("is given a mask, and gives more than tensors")


def check_masks(layer, inputs, outputs):
    """Refuse outputs of which it is not known whether Keras hangs the mask on them that the class computes."""
    if not layer.supports_masking:
        return
    if any(mask_of(output) is UNSEEN for output in outputs):
        raise Closed("may hand on a mask of one of its parts, or its own")
    changes = computes_mask(layer)
    if changes and any(output is tensor for output in outputs for tensor in inputs):
        raise Closed("gives its input with another mask")
