"""The operation `pad`: a border of numbers around space, or more channels at the ends of an axis."""

import numpy as np

from tf_terngrad.keras_internals import operation
from tf_terngrad.sparsity.graph.channels import Channels
from tf_terngrad.sparsity.rules.base import Rule, config_of
from tf_terngrad.sparsity.rules.registry import register_rule
from tf_terngrad.sparsity.rules.repetition import copies


class Padding(Rule):
    """Numbers are put at the ends of axes: the same one (mode "constant"), or what lies near.

    Channels that are added with one number can leave again, as in the shortcuts of residual networks that pad.
    """

    def follow(self, call):
        edge, number = call.inputs[0], _number(call)
        widths = _widths(call.layer, len(edge.shape))
        if np.ndim(number) or any(widths[0]):
            call.freeze(call.inputs, "it pads the batch, or with a tensor")
            return
        constant = call.layer.mode == "constant"
        for axis, (channels, ends) in enumerate(zip(edge.axes, widths, strict=True)):
            others_grow = any(any(pair) for other, pair in enumerate(widths) if other != axis)
            if channels is None:
                continue
            if constant and others_grow:
                channels = channels.with_values(np.where(channels.values == number, number, np.nan))
            if any(ends) and not constant:
                call.freeze_axis(channels, f"padded with its {call.layer.mode} along this axis")
                continue
            call.output.axes[axis] = self._with_ends(call, axis, channels, ends, number) if any(ends) else channels

    def _with_ends(self, call, axis, channels, ends, number):
        new = copies(call, axis, call.output.shape[axis]).with_values(number)
        front, back = ends
        return Channels.concatenate([new[:front], channels, new[len(new) - back :]])

    def config(self, call, kept):
        edge = call.inputs[0]
        widths = _widths(call.layer, len(edge.shape))
        for axis, channels in enumerate(call.output.axes):
            if channels is not None and any(widths[axis]):
                front, back = widths[axis]
                widths[axis] = kept.width(channels[:front]), kept.width(channels[len(channels) - back :])
        return {**config_of(call.layer), "pad_width": widths}


def _widths(layer, rank):
    """How much is put in front of and behind each axis."""
    widths = [tuple(int(width) for width in pair) for pair in layer.pad_width]
    return widths * rank if len(widths) == 1 else widths


def _number(call):
    """What is put there; an array where that is not one number."""
    number = call.args[1] if len(call.args) > 1 else call.kwargs.get("constant_values")
    return 0.0 if number is None else number if np.ndim(number) else float(number)


register_rule(operation("Pad"), Padding())
