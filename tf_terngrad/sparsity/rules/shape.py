"""Layers and operations that rearrange all elements: flatten, reshape, transpose, flip, squeeze."""

import keras
import numpy as np

from tf_terngrad.keras_internals import operation, operations
from tf_terngrad.sparsity.graph.channels import Channels
from tf_terngrad.sparsity.rules.along import own_axes
from tf_terngrad.sparsity.rules.base import Rule, config_of
from tf_terngrad.sparsity.rules.registry import register_rule


class Transposition(Rule):
    """The axes in another order. `order(layer, rank)` gives the input axis of each output axis."""

    def __init__(self, order):
        self.order = order

    def follow(self, call):
        edge = call.inputs[0]
        call.output.axes = [edge.axes[axis] for axis in self.order(call.layer, len(edge.shape))]


class Reshape(Rule):
    """The elements in another shape: an axis may be split, merged with others, or both.

    Use it when a layer of your own gives its elements another shape, in the same order.
    """

    def follow(self, call):
        call.output.axes = reshape(call, call.inputs[0].shape, call.inputs[0].axes, call.output.shape)
        call.output.number = call.inputs[0].number

    def config(self, call, kept):
        config = config_of(call.layer)
        name = "target_shape" if "target_shape" in config else "newshape"
        given = list(config[name])
        sizes = call.output.shape[-len(given) :]
        axes = call.output.axes[-len(given) :]
        target = [
            kept.width(channels) if channels is not None else (old if size is None else size)
            for old, size, channels in zip(given, sizes, axes, strict=True)
        ]
        return {**config, name: tuple(target)}


class Flatten(Rule):
    """All axes but the batch become one, in channels_last order; behind it, pixels of a model's input can leave."""

    def follow(self, call):
        edge = call.inputs[0]
        order = list(range(len(edge.shape)))
        if call.layer.data_format == "channels_first" and len(order) > 1:
            order.append(order.pop(1))
        shape = tuple(edge.shape[axis] for axis in order)
        call.output.axes = reshape(call, shape, [edge.axes[axis] for axis in order], call.output.shape)
        if not edge.followed and any(edge is given for given in call.graph.inputs):
            call.graph.flat_features(call.output)

    def rebuild(self, builder, call, args, kwargs):
        return builder.gather(super().rebuild(builder, call, args, kwargs), call.output)


class Flip(Rule):
    """Some axes from the back. `axes(layer, rank)` names them."""

    def __init__(self, axes=own_axes):
        self._axes = axes

    def follow(self, call):
        edge = call.inputs[0]
        flipped = self._axes(call.layer, len(edge.shape))
        call.output.axes = [
            channels[::-1] if channels is not None and axis in flipped else channels
            for axis, channels in enumerate(edge.axes)
        ]


class Insertion(Rule):
    """New axes of size one. `position(layer, rank)` names them."""

    def __init__(self, position):
        self.position = position

    def follow(self, call):
        remaining = iter(call.inputs[0].axes)
        new = {axis % len(call.output.shape) for axis in self.position(call.layer, len(call.output.shape))}
        call.output.axes = [None if axis in new else next(remaining) for axis in range(len(call.output.shape))]


class Squeeze(Rule):
    """Axes of size one leave; a followed axis of size one stays frozen."""

    def follow(self, call):
        edge = call.inputs[0]
        given = call.layer.axis
        gone = (
            {axis for axis, size in enumerate(edge.shape) if size == 1}
            if given is None
            else {axis % len(edge.shape) for axis in np.atleast_1d(given)}
        )
        for axis in gone:
            if edge.axes[axis] is not None:
                call.freeze_axis(edge.axes[axis], "it removes this axis")
        call.output.axes = [channels for axis, channels in enumerate(edge.axes) if axis not in gone]


def reshape(call, old_shape, old_axes, new_shape):
    """The channels of each axis of the new shape."""
    axes = [None] * len(new_shape)
    for old, new in _matching(old_shape, new_shape):
        followed = [axis for axis in old if old_axes[axis] is not None]
        if len(old) == len(new) == 1:
            axes[new[0]] = old_axes[old[0]]
        elif followed and new and _is_known(old_shape, old) and _is_known(new_shape, new):
            sizes = [old_shape[axis] for axis in old], [new_shape[axis] for axis in new]
            for place, axis in zip(new, _regroup(call, *sizes, [old_axes[axis] for axis in old]), strict=True):
                axes[place] = axis
        else:
            for axis in followed:
                call.freeze_axis(
                    old_axes[axis], "reshaped with an axis of unknown size" if new else "it removes this axis"
                )
    return axes


def _regroup(call, old_sizes, new_sizes, old_axes):
    """The channels of each new axis of a group, or None: those of one old axis or more, or a part of one."""
    met, rank = [[] for _ in new_sizes], len(old_sizes)
    for axis, channels in enumerate(old_axes):
        if channels is not None:
            call.drop(channels)  # grids lead on from it
            positions = np.arange(len(channels)).reshape([-1 if other == axis else 1 for other in range(rank)])
            positions = np.broadcast_to(positions, old_sizes).reshape(new_sizes)
            for place, part in _spread(call.graph, channels, positions):
                met[place].append(part)
    return [_merged(call.graph, parts) for parts in met]


def _spread(graph, channels, positions):
    """The new axes along which channels vary, if they lie at these positions, and what each of these has of them."""
    labels = graph.units.find(channels.units)[positions]
    varying = [axis for axis, size in enumerate(labels.shape) if (labels != labels.take([0], axis)).any()]
    varying = varying or [labels.ndim - 1]
    first = positions[tuple(slice(None) if axis in varying else 0 for axis in range(labels.ndim))]
    along = graph.grids.split(channels.units[first].ravel(), first.shape)
    for axis, units in zip(varying, along, strict=True):
        values = np.moveaxis(channels.values[positions], axis, 0).reshape(len(units), -1)
        yield axis, Channels(units, np.where((values == values[:, :1]).all(1), values[:, 0], np.nan))


def _merged(graph, parts):
    """The channels of an axis that is made of several ones."""
    whole, *others = parts or [None]
    for part in others:
        values = np.where(np.isnan(whole.values), part.values, whole.values)
        whole = Channels(graph.grids.merged(whole.units, part.units), values)
    return whole


def _matching(old_shape, new_shape):
    """Groups of axes, from the right, that hold the same elements before and after."""
    groups, i, j = [], len(old_shape), len(new_shape)
    while i > 0 and j > 0:
        old, new = [i - 1], [j - 1]
        i, j = i - 1, j - 1
        sizes = [old_shape[i], new_shape[j]]
        while sizes[0] != sizes[1] and None not in sizes and i + j > 0:
            if (sizes[0] < sizes[1] and i > 0) or j == 0:
                i -= 1
                old.insert(0, i)
                sizes[0] = None if old_shape[i] is None else sizes[0] * old_shape[i]
            else:
                j -= 1
                new.insert(0, j)
                sizes[1] = None if new_shape[j] is None else sizes[1] * new_shape[j]
        if sizes[0] != sizes[1]:
            return [*groups, (list(range(i)) + old, list(range(j)) + new)]
        groups.append((old, new))
    if i or j:
        groups.append((list(range(i)), list(range(j))))
    return groups


def _is_known(shape, axes):
    return all(shape[axis] is not None for axis in axes)


def _transpose_order(layer, rank):
    return layer.axes if layer.axes is not None else range(rank)[::-1]


def _swap_order(layer, rank):
    order = list(range(rank))
    one, two = layer.axis1, layer.axis2
    order[one], order[two] = order[two], order[one]
    return order


def _move_order(layer, rank):
    source = [a % rank for a in np.atleast_1d(layer.source)]
    target = [a % rank for a in np.atleast_1d(layer.destination)]
    order = [axis for axis in range(rank) if axis not in source]
    for destination, axis in sorted(zip(target, source, strict=True)):
        order.insert(destination, axis)
    return order


register_rule(keras.layers.Flatten, Flatten())
register_rule(keras.layers.Reshape, Reshape())
register_rule(keras.layers.Permute, Transposition(lambda layer, rank: (0, *layer.dims)))
register_rule(operation("Reshape"), Reshape())
register_rule(operation("Flip"), Flip())
for _type in operations("Fliplr"):
    register_rule(_type, Flip(lambda layer, rank: [1]))
for _type in operations("Flipud"):
    register_rule(_type, Flip(lambda layer, rank: [0]))
register_rule(operation("Transpose"), Transposition(_transpose_order))
register_rule(operation("Swapaxes"), Transposition(_swap_order))
register_rule(operation("Moveaxis"), Transposition(_move_order))
register_rule(operation("ExpandDims"), Insertion(lambda layer, rank: np.atleast_1d(layer.axis)))
register_rule(operation("Squeeze"), Squeeze())
