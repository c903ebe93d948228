"""Layers that move along space and leave the channels alone: pooling, padding, cropping, up-sampling, reductions."""

import numpy as np

from tf_terngrad.keras_internals import layers, operation, operations
from tf_terngrad.sparsity.rules.base import Rule
from tf_terngrad.sparsity.rules.registry import register_rule


class Spatial(Rule):
    """The channel axis passes; followed channels along a spatial axis freeze. `borders`: zeros are added around.

    Use it when a layer of your own works within each channel, as pooling and padding do.
    """

    def __init__(self, borders=False):
        self.borders = borders

    def follow(self, call):
        edge = call.inputs[0]
        axis = _channel_axis(call.layer, len(edge.shape))
        for other, channels in enumerate(edge.axes):
            if channels is not None and other != axis:
                call.freeze_axis(channels, "it moves along this axis")
        channels = edge.axes[axis]
        if channels is not None and self.borders:
            channels = channels.with_values(np.where(channels.values == 0, 0.0, np.nan))
        call.output.axes[axis] = channels


class GlobalPooling(Rule):
    """One number a channel."""

    def follow(self, call):
        edge = call.inputs[0]
        axis = _channel_axis(call.layer, len(edge.shape))
        for other, channels in enumerate(edge.axes):
            if channels is not None and other != axis:
                call.freeze_axis(channels, "it pools along this axis")
        call.output.axes[axis if call.layer.keepdims else 1] = edge.axes[axis]


class Reduction(Rule):
    """Operations that reduce some axes. `contracts`: a sum, which a zero channel does not change."""

    def __init__(self, contracts=False):
        self.contracts = contracts

    def follow(self, call):
        edge, rank = call.inputs[0], len(call.inputs[0].shape)
        given = call.layer.axis
        axes = range(rank) if given is None else [a % rank for a in np.atleast_1d(given)]
        for axis in axes:
            if self.contracts:
                call.contract(edge.axes[axis])
            else:
                call.freeze_axis(edge.axes[axis], f"{type(call.layer).__name__} runs across channels")
        stay = [axis for axis in range(rank) if call.layer.keepdims or axis not in axes]
        keeps_constants = not self.contracts and getattr(call.layer, "initial", None) is None
        for position, axis in enumerate(stay):
            channels = None if axis in axes else edge.axes[axis]
            if channels is not None and not keeps_constants:
                channels = channels.with_values(np.where((channels.values == 0) & self.contracts, 0.0, np.nan))
            call.output.axes[position] = channels


def _channel_axis(layer, rank):
    return 1 if getattr(layer, "data_format", None) == "channels_first" else rank - 1


_MOVING = ("MaxPooling", "AveragePooling", "AdaptiveMaxPooling", "AdaptiveAveragePooling", "UpSampling", "Cropping")
_RANKS = ("1D", "2D", "3D")
for _type in layers(*(name + rank for rank in _RANKS for name in _MOVING)):
    register_rule(_type, Spatial())
for _type in layers(*("ZeroPadding" + rank for rank in _RANKS)):
    register_rule(_type, Spatial(borders=True))
for _type in layers(*(name + rank for rank in _RANKS for name in ("GlobalMaxPooling", "GlobalAveragePooling"))):
    register_rule(_type, GlobalPooling())
for _type in operations("MaxPool", "AveragePool", "AdaptiveMaxPool", "AdaptiveAveragePool"):
    register_rule(_type, Spatial())
for _type in operations("Mean", "Max", "Min", "Amax", "Amin"):
    register_rule(_type, Reduction())
register_rule(operation("Sum"), Reduction(contracts=True))
