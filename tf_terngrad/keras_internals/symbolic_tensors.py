"""Symbolic tensors that are made anew, or told their sizes."""

import keras

from tf_terngrad.keras_internals.graphs import history
from tf_terngrad.keras_internals.masks import mask_of


def like(tensor, shape=None):
    """A symbolic tensor that no operation has made yet, of the same kind and shape, or another one, and mask."""
    options = {name: getattr(tensor, name) for name in ("sparse", "ragged") if hasattr(tensor, name)}
    same = keras.KerasTensor(tensor.shape if shape is None else shape, tensor.dtype, name=tensor.name, **options)
    if mask_of(tensor) is not None:
        same._keras_mask = mask_of(tensor)
    return same


def set_shape(tensor, shape) -> None:
    """Tell a symbolic tensor sizes that Keras did not work out."""
    tensor._shape = tuple(shape)


def input_like(tensor, given=None):
    """A new input with the name of an input's; of the shape and dtype of another tensor, if there is one."""
    layer, given = history(tensor).operation, tensor if given is None else given
    options = {"sparse": tensor.sparse, "optional": layer.optional}
    return keras.Input(batch_shape=given.shape, dtype=given.dtype, name=layer.name, **options)
