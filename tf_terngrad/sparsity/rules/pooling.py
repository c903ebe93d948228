"""Layers that move along space and leave the channels alone: pooling, padding, cropping, resizing."""

import keras
import numpy as np

from tf_terngrad.keras_internals import layers, operation, operations
from tf_terngrad.sparsity.rules.base import Rule
from tf_terngrad.sparsity.rules.registry import register_rule


class Spatial(Rule):
    """The channel axis passes; followed channels along a spatial axis freeze.

    Use it when a layer of your own works within each channel, as pooling and padding do.

    Args:
        border: function of the layer that gives the number that is put around an image; None: nothing is.
    """

    def __init__(self, border=None):
        self.border = border

    def follow(self, call):
        edge = call.inputs[0]
        axis = channel_axis(call.layer, len(edge.shape))
        for other, channels in enumerate(edge.axes):
            if channels is not None and other != axis:
                call.freeze_axis(channels, "it moves along this axis")
        channels = edge.axes[axis]
        number = self.border and self.border(call.layer)
        if channels is not None and number is not None:
            channels = channels.with_values(np.where(channels.values == number, number, np.nan))
        call.output.axes[axis] = channels


class GlobalPooling(Rule):
    """One number a channel."""

    def follow(self, call):
        edge = call.inputs[0]
        axis = channel_axis(call.layer, len(edge.shape))
        for other, channels in enumerate(edge.axes):
            if channels is not None and other != axis:
                call.freeze_axis(channels, "it pools along this axis")
        call.output.axes[axis if call.layer.keepdims else 1] = edge.axes[axis]


def channel_axis(layer, rank):
    """The axis of the channels of what a layer takes."""
    return 1 if getattr(layer, "data_format", None) == "channels_first" else rank - 1


_MOVING = ("MaxPooling", "AveragePooling", "AdaptiveMaxPooling", "AdaptiveAveragePooling", "UpSampling", "Cropping")
_RANKS = ("1D", "2D", "3D")
for _type in layers(*(name + rank for rank in _RANKS for name in _MOVING)):
    register_rule(_type, Spatial())
for _type in layers(*("ZeroPadding" + rank for rank in _RANKS)):
    register_rule(_type, Spatial(border=lambda layer: 0.0))
for _type in layers(*(name + rank for rank in _RANKS for name in ("GlobalMaxPooling", "GlobalAveragePooling"))):
    register_rule(_type, GlobalPooling())
for _type in operations("MaxPool", "AveragePool", "AdaptiveMaxPool", "AdaptiveAveragePool"):
    register_rule(_type, Spatial())
for _type in (keras.layers.Resizing, operation("Resize")):
    register_rule(_type, Spatial(border=lambda layer: layer.fill_value if layer.pad_to_aspect_ratio else None))
for _type in (keras.layers.CenterCrop, operation("CropImages")):
    register_rule(_type, Spatial())
for _type in operations("PadImages", "GaussianBlur"):
    register_rule(_type, Spatial(border=lambda layer: 0.0))
