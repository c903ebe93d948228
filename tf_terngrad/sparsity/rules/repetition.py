"""Layers and operations that give elements more often, or in a circle: tile, repeat, broadcast, roll."""

import keras
import numpy as np

from tf_terngrad.keras_internals import operation
from tf_terngrad.sparsity.graph.channels import Channels
from tf_terngrad.sparsity.rules.base import Rule, config_of
from tf_terngrad.sparsity.rules.registry import register_rule


def copies(call, axis, count):
    """The channels of a new axis of copies, the same in every call of the layer: it gets as wide as what it meets."""
    before = (other.output.axes[axis] for other in call.graph.calls if other.layer is call.layer and other is not call)
    known = next((channels for channels in before if channels is not None and len(channels) == count), None)
    return Channels.of(call.graph.units.new(count) if known is None else known.units)


def repeated_one(call, axis, count):
    """The channels of an axis of size one that gets `count` copies: the one channel stays, the copies can leave."""
    one = call.inputs[0].axes[axis]
    call.freeze_axis(one, "one channel is repeated for many")
    copied = copies(call, axis, count)
    return copied if one is None else copied.with_values(one.values)


class RepeatedVector(Rule):
    """A vector for each of n steps; the steps can leave where they meet channels, as in attention."""

    def follow(self, call):
        call.output.axes = [None, copies(call, 1, call.layer.n), call.inputs[0].axes[1]]

    def config(self, call, kept):
        return {**config_of(call.layer), "n": kept.width(call.output.axes[1])}


class Tile(Rule):
    """All of a tensor again and again along some axes."""

    def follow(self, call):
        edge, rank = call.inputs[0], len(call.inputs[0].shape)
        repeats = _repeats(call.layer, rank)
        if len(repeats) > rank or repeats[0] != 1:
            call.freeze(call.inputs, "it repeats the batch")
            return
        for axis, times in enumerate(repeats):
            channels = edge.axes[axis]
            if edge.shape[axis] == 1 < times:
                call.output.axes[axis] = repeated_one(call, axis, times)
            elif channels is not None:
                call.output.axes[axis] = channels[np.tile(np.arange(len(channels)), times)]

    def config(self, call, kept):
        edge = call.inputs[0]
        repeats = _repeats(call.layer, len(edge.shape))
        for axis, channels in enumerate(call.output.axes[: len(edge.shape)]):
            if channels is not None and edge.shape[axis] == 1:
                repeats[axis] = kept.width(channels)
        return {**config_of(call.layer), "repeats": repeats}


class Repeat(Rule):
    """Each position of one axis several times: as many for all, or a number for each."""

    def follow(self, call):
        edge, axis = call.inputs[0], call.layer.axis
        if axis is None or axis % len(edge.shape) == 0:
            call.freeze(call.inputs, "it repeats the batch")
            return
        call.output.axes = list(edge.axes)
        times, channels = np.ravel(call.layer.repeats), edge.axes[axis]
        if edge.shape[axis] == 1 < times[0]:
            call.output.axes[axis] = repeated_one(call, axis % len(edge.shape), int(times[0]))
        elif channels is not None:
            chosen = np.repeat(np.arange(len(channels)), times)
            call.drop(channels, chosen)
            call.output.axes[axis] = channels[chosen]

    def config(self, call, kept):
        config, axis = config_of(call.layer), call.layer.axis
        if axis is None or call.output.axes[axis] is None:
            return config
        channels, times = call.inputs[0].axes[axis], np.ravel(call.layer.repeats)
        if call.inputs[0].shape[axis] == 1:
            return {**config, "repeats": kept.width(call.output.axes[axis])}
        return {**config, "repeats": times[kept.mask(channels)].tolist() if len(times) > 1 else int(times[0])}


class Broadcast(Rule):
    """Axes of size one, and axes that are not there in front, as often as a shape says."""

    def follow(self, call):
        edge, rank = call.inputs[0], len(call.output.shape)
        front = rank - len(edge.shape)
        for axis in range(max(front, 1), rank):
            channels, size = edge.axes[axis - front], call.output.shape[axis]
            if channels is not None and len(channels) == size:
                call.output.axes[axis] = channels
            elif edge.shape[axis - front] == 1 < (size or 0):
                call.output.axes[axis] = repeated_one(call, axis - front, size)

    def config(self, call, kept):
        pairs = zip(call.layer.shape, call.output.axes, strict=True)
        shape = tuple(size if channels is None else kept.width(channels) for size, channels in pairs)
        return {**config_of(call.layer), "shape": shape}


class Roll(Rule):
    """Positions move along axes, and those that fall off come in at the other end."""

    def follow(self, call):
        edge = call.inputs[0]
        if call.layer.axis is None:
            call.freeze(call.inputs, "it moves elements from one example to another")
            return
        call.output.axes = list(edge.axes)
        for axis, shift in _shifts(call.layer, len(edge.shape)).items():
            channels = edge.axes[axis]
            if channels is not None:
                call.output.axes[axis] = channels[np.roll(np.arange(len(channels)), shift)]

    def config(self, call, kept):
        """Of the positions that come in at the front, those that stay."""
        config, edge = config_of(call.layer), call.inputs[0]
        shifts = {} if call.layer.axis is None else _shifts(call.layer, len(edge.shape))
        if not any(edge.axes[axis] for axis in shifts):
            return config
        for axis, shift in shifts.items():
            channels = call.output.axes[axis]
            if channels is not None:
                shifts[axis] = int(kept.mask(channels[: shift % len(channels)]).sum())
        return {**config, "axis": list(shifts), "shift": list(shifts.values())}


def _repeats(layer, rank):
    """How often a tile repeats each axis."""
    repeats = np.ravel(layer.repeats).tolist()
    return [1] * (rank - len(repeats)) + repeats


def _shifts(layer, rank):
    """By axis, how far a roll moves it."""
    shifts = {}
    for axis, shift in zip(*np.broadcast_arrays(np.ravel(layer.axis), np.ravel(layer.shift)), strict=True):
        shifts[int(axis) % rank] = shifts.get(int(axis) % rank, 0) + int(shift)
    return shifts


register_rule(keras.layers.RepeatVector, RepeatedVector())
register_rule(operation("Tile"), Tile())
register_rule(operation("Repeat"), Repeat())
register_rule(operation("BroadcastTo"), Broadcast())
register_rule(operation("Roll"), Roll())
