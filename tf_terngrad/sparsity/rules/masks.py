"""Masks that come with tensors where no layer hands them on: how such a tensor is followed and kept."""

import keras

from tf_terngrad.sparsity.rules.base import Rule
from tf_terngrad.sparsity.rules.registry import register_rule


class HandOn(keras.layers.Layer):
    """Gives a tensor with another mask, its second argument; stands in opened graphs only.

    Args:
        only_smaller: whether the tensor has the mask already, as long as nothing of it leaves.
    """

    def __init__(self, only_smaller=False, **options):
        super().__init__(**options)
        self.only_smaller = only_smaller

    def call(self, tensor, handed):
        return tensor


class HandingOn(Rule):
    """The tensor passes; a model that does nothing keeps the layer: Keras hangs the mask on what a model is given."""

    def follow(self, call):
        tensor, mask = call.inputs
        call.freeze([mask], "it is a mask")
        for channels in tensor.axes[: len(mask.shape)]:
            call.freeze_axis(channels, "its positions have a mask")
        call.output.axes[:] = tensor.axes

    def rebuild(self, builder, call, args, kwargs):
        tensor, mask = args
        if call.layer.only_smaller and all(builder.kept.mask(channels).all() for channels in call.inputs[0].followed):
            return tensor
        return builder.layer(call)(tensor, mask=mask)

    def layer(self, builder, call, name=None):
        name = name or call.layer.name
        return passing(builder.input(call.inputs[0], f"{name}_input"), name)


def with_mask(tensor, mask, name):
    """A tensor with another mask, handed on by a model of this name."""
    entry = keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=f"{name}_input")
    return passing(entry, name)(tensor, mask=mask)


def passing(inputs, name):
    """A model that does nothing to its input, on which Keras hangs the mask that the model is called with."""
    same = keras.layers.Identity(name=f"{name}_same", dtype=inputs.dtype)(inputs)
    model = keras.Model(inputs, same, name=name)
    model.supports_masking = True  # it does anyway; a model that does not say so is warned about
    return model


register_rule(HandOn, HandingOn())
