"""Layers and operations that run along some axes: channels on these stay together, channels on the others pass."""

import keras
import numpy as np

from tf_terngrad.keras_internals import operations
from tf_terngrad.sparsity.rules.base import Rule
from tf_terngrad.sparsity.rules.registry import register_rule


def own_axes(layer, rank):
    """The axes that a layer names; all of them if it names none."""
    return range(rank) if layer.axis is None else [axis % rank for axis in np.atleast_1d(layer.axis)]


class Along(Rule):
    """A function of whole rows along some axes, which freeze; the result has an axis for every axis that enters.

    Use it when a layer of your own is a softmax, a running sum or the like: it runs along its `axis`.

    Args:
        axes: function (layer, rank) that gives these axes; what `layer.axis` says, if it is not given.
    """

    def __init__(self, axes=own_axes):
        self._axes = axes

    def follow(self, call):
        edge = call.inputs[0]
        rank = len(edge.shape)
        for axis in self._axes(call.layer, rank):
            call.freeze_axis(edge.axes[axis], f"{type(call.layer).__name__} runs across channels")
        for output in call.outputs:
            if len(output.shape) == rank:
                output.axes = [self._passed(*pair) for pair in zip(edge.axes, output.shape, strict=True)]

    def _passed(self, channels, size):
        return channels.unknown() if channels is not None and len(channels) == size else None


register_rule(keras.layers.Softmax, Along())
for _type in operations("Softmax", "LogSoftmax", "Sparsemax", "Glu"):
    register_rule(_type, Along())
for _type in operations(*("Cumsum", "Cumprod", "Nancumsum", "Nancumprod", "Sort", "Argsort", "Argpartition", "Diff")):
    register_rule(_type, Along())
for _type in operations("Tril", "Triu"):
    register_rule(_type, Along(lambda layer, rank: (rank - 2, rank - 1)))
for _type in operations("TopK"):
    register_rule(_type, Along(lambda layer, rank: (rank - 1,)))
for _type in operations("Rot90"):
    register_rule(_type, Along(lambda layer, rank: [axis % rank for axis in layer.axes]))
