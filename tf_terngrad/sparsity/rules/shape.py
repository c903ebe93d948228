"""Layers and operations that rearrange: flatten, reshape, transpose, concatenate, slice, split, repeat, contract."""

import keras
import numpy as np
from keras import tree
from keras.src.ops import numpy as numpy_operations

from tf_terngrad.sparsity.channels import Channels, Edge
from tf_terngrad.sparsity.rules.base import Rule, register_rule


class Transposition(Rule):
    """The axes in another order. `order(layer, rank)` gives the input axis of each output axis."""

    def __init__(self, order):
        self.order = order

    def follow(self, call):
        edge = call.inputs[0]
        call.output.axes = [edge.axes[axis] for axis in self.order(call.layer, len(edge.shape))]


class Reshape(Rule):
    """The elements in another shape: an axis may be split, merged with others, or both."""

    def follow(self, call):
        call.output.axes = reshape(call, call.inputs[0].shape, call.inputs[0].axes, call.output.shape)

    def config(self, call, kept):
        config = call.layer.get_config()
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
    """All axes but the batch become one, in channels_last order."""

    def follow(self, call):
        edge = call.inputs[0]
        order = list(range(len(edge.shape)))
        if call.layer.data_format == "channels_first" and len(order) > 1:
            order.append(order.pop(1))
        shape = tuple(edge.shape[axis] for axis in order)
        call.output.axes = reshape(call, shape, [edge.axes[axis] for axis in order], call.output.shape)


class Insertion(Rule):
    """New axes of size one, or one axis repeated in front. `position(layer, rank)` names the new axes."""

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
                call.graph.freeze(edge.axes[axis].units, f"{call.path}: it removes this axis")
        call.output.axes = [channels for axis, channels in enumerate(edge.axes) if axis not in gone]


class Concatenation(Rule):
    """Side by side along one axis; an input of which nothing stays leaves with its layers."""

    def follow(self, call):
        rank = len(call.output.shape)
        axis = call.layer.axis % rank
        for other in range(rank):
            parts = [edge.axes[other] for edge in call.inputs]
            if all(part is None for part in parts):
                continue
            if other == axis:
                call.output.axes[other] = Channels.concatenate([self._part(call, edge, axis) for edge in call.inputs])
            else:
                call.output.axes[other] = _agree(call, parts)

    def _part(self, call, edge, axis):
        """The channels of one input; frozen stand-ins where they are not followed."""
        reason = f"{call.path}: {edge.name or 'an input'} cannot shrink"
        return edge.axes[axis] or call.graph.frozen_channels(edge.shape[axis], reason)

    def skippable(self, call, kept):
        axis = call.layer.axis
        parts = [edge.axes[axis] for edge in call.inputs]
        gone = {i for i, part in enumerate(parts) if part is not None and kept.width(part) == 0}
        return gone if len(gone) < len(parts) else gone - {0}

    def rebuild(self, builder, call, args, kwargs):
        tensors = [tensor for tensor in args[0] if tensor is not None]
        return tensors[0] if len(tensors) == 1 < len(args[0]) else builder.layer(call)(tensors, *args[1:], **kwargs)


class Selection(Rule):
    """x[key] with integers, slices, new axes and an ellipsis; `take` with constant indices."""

    def follow(self, call):
        steps = self._steps(call)
        if steps is None:
            call.freeze(call.inputs, "it is indexed by a tensor or an array")
            return
        edge, axes = call.inputs[0], []
        for axis, chosen in steps:
            channels = None if axis is None else edge.axes[axis]
            if isinstance(chosen, int):
                if channels is not None:
                    call.graph.freeze(channels.units, f"{call.path}: one channel is picked by its number")
                continue
            axes.append(channels if channels is None or chosen is None else channels[chosen])
        call.output.axes = axes

    def _steps(self, call):
        """For each axis in turn (input axis or None for a new one, what is chosen: int, slice, array, None for all)."""
        rank = len(call.inputs[0].shape)
        if isinstance(call.layer, numpy_operations.Take):
            return _take_steps(call, rank)
        key = call.args[1] if len(call.args) > 1 else call.kwargs["key"]
        key = list(key) if isinstance(key, tuple) else [key]
        if not all(part is None or part is Ellipsis or isinstance(part, (int, slice)) for part in key):
            return None
        if any(isinstance(part, slice) and not _is_constant(part) for part in key):
            return None
        used = sum(part is not None and part is not Ellipsis for part in key)
        if Ellipsis not in key:
            key.append(Ellipsis)
        at = key.index(Ellipsis)
        key[at : at + 1] = [slice(None)] * (rank - used)
        axis, steps = 0, []
        for part in key:
            steps.append((None, None) if part is None else (axis, part))
            axis += part is not None
        return steps

    def rebuild(self, builder, call, args, kwargs):
        steps, edge = self._steps(call), call.inputs[0]
        if steps is None or not edge.followed or isinstance(call.layer, numpy_operations.Take):
            return self._rebuild_take(builder, call, args, kwargs, steps)
        key, gather = [], []
        for axis, chosen in steps:
            channels = None if axis is None else edge.axes[axis]
            if channels is None or isinstance(chosen, int):
                key.append(chosen)
                continue
            positions = builder.kept.positions(channels, np.arange(len(channels))[chosen])
            straight = (np.diff(positions) == 1).all()
            key.append(slice(int(positions[0]), int(positions[-1]) + 1) if straight else slice(None))
            if not straight:
                gather.append((sum(not isinstance(part, int) for part in key) - 1, positions))
        tensor = builder.layer(call)(args[0], tuple(key))
        for axis, positions in gather:
            tensor = keras.ops.take(tensor, positions.tolist(), axis=axis)
        return tensor

    def _rebuild_take(self, builder, call, args, kwargs, steps):
        axis, chosen = next(((a, c) for a, c in steps or () if isinstance(c, np.ndarray)), (None, None))
        channels = None if axis is None else call.inputs[0].axes[axis]
        if channels is None:
            return builder.layer(call)(*args, **kwargs)
        stay = chosen[builder.kept.mask(channels)[chosen]]
        if not any(call.inputs[0] is edge for edge in call.graph.inputs):
            stay = builder.kept.positions(channels, chosen)
        return builder.layer(call)(args[0], stay.tolist())


class Split(Rule):
    """Sections of one axis, each an output of its own."""

    def follow(self, call):
        edge = call.inputs[0]
        axis = call.layer.axis % len(edge.shape)
        for output, (start, stop) in zip(call.outputs, self._bounds(call), strict=True):
            output.axes = list(edge.axes)
            output.axes[axis] = edge.axes[axis] and edge.axes[axis][start:stop]

    def _bounds(self, call):
        widths = [output.shape[call.layer.axis] for output in call.outputs]
        stops = np.cumsum(widths)
        return list(zip(stops - widths, stops, strict=True))

    def config(self, call, kept):
        config, axis = call.layer.get_config(), call.layer.axis
        if call.inputs[0].axes[axis] is None:
            return config
        stops = np.cumsum([kept.width(output.axes[axis]) for output in call.outputs])
        return {**config, "indices_or_sections": tuple(int(stop) for stop in stops[:-1])}


class Contraction(Rule):
    """A sum over products of two tensors. `axes(layer, ranks)`: the summed axis of each; the last axes are paired."""

    def follow(self, call):
        first, second = call.inputs
        one, two = (axis % len(edge.shape) for axis, edge in zip(self._axes(call), call.inputs, strict=True))
        a, b = first.axes[one], second.axes[two]
        if a is not None and b is not None:
            call.graph.units.tie(a.units, b.units)
            call.contract(a.with_values(np.where((a.values == 0) | (b.values == 0), 0.0, np.nan)))
        elif a is not None or b is not None:
            call.graph.freeze((a or b).units, f"{call.path}: contracted with a tensor that cannot shrink")
        self._pass(call, one, two)

    def _axes(self, call):
        if isinstance(call.layer, keras.layers.Dot):
            axes = call.layer.axes
            return (axes, axes) if isinstance(axes, int) else tuple(axes)
        return -1, -2

    def _pass(self, call, one, two):
        first, second = call.inputs
        if isinstance(call.layer, keras.layers.Dot):
            rest = [c for axis, c in enumerate(first.axes) if axis not in (0, one)]
            rest += [c for axis, c in enumerate(second.axes) if axis not in (0, two)]
            axes = [None, *rest]
        else:
            axes = [None] * len(call.output.shape)
            axes[-2:] = [first.axes[-2], second.axes[-1]]
            for edge in call.inputs:
                for channels in edge.axes[:-2]:
                    if channels is not None:
                        call.graph.freeze(channels.units, f"{call.path}: a matrix product for each of them")
        for position, channels in enumerate(axes[: len(call.output.axes)]):
            call.output.axes[position] = channels and channels.unknown()


def reshape(call, old_shape, old_axes, new_shape):
    """The channels of each axis of the new shape."""
    axes = [None] * len(new_shape)
    for old, new in _matching(old_shape, new_shape):
        followed = [axis for axis in old if old_axes[axis] is not None]
        if len(old) == len(new) == 1:
            axes[new[0]] = old_axes[old[0]]
        elif followed and _is_known(old_shape, old) and _is_known(new_shape, new):
            for axis in followed[:-1]:
                call.graph.freeze(old_axes[axis].units, f"{call.path}: merged with another axis that can shrink")
            axis, channels = _regroup(call, old_shape, old, old_axes, followed[-1], new_shape, new)
            axes[axis] = channels
        else:
            for axis in followed:
                call.graph.freeze(old_axes[axis].units, f"{call.path}: reshaped with an axis of unknown size")
    return axes


def _regroup(call, old_shape, old, old_axes, followed, new_shape, new):
    """The axis of the new group that carries the followed channels, and its channels."""
    units, channels = call.graph.units, old_axes[followed]
    positions = np.arange(len(channels)).reshape([-1 if axis == followed else 1 for axis in old])
    positions = np.broadcast_to(positions, [old_shape[axis] for axis in old]).reshape([new_shape[axis] for axis in new])
    labels = units.find(channels.units)[positions]
    varying = [i for i in range(len(new)) if (labels != labels.take([0], axis=i)).any()]
    chosen = varying[-1] if varying else len(new) - 1
    rows = np.moveaxis(positions, chosen, 0).reshape(positions.shape[chosen], -1)
    for column in rows.T[1:] if len(varying) > 1 else ():
        units.tie(channels.units[rows[:, 0]], channels.units[column])
    values = channels.values[rows]
    agreed = np.where((values == values[:, :1]).all(1), values[:, 0], np.nan)
    return new[chosen], channels[rows[:, 0]].with_values(agreed)


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


def _agree(call, parts):
    """The channels of an axis that several tensors share without being added."""
    present = [part for part in parts if part is not None]
    for part in present[1:]:
        call.graph.units.tie(present[0].units, part.units)
    if len(present) < len(parts):
        call.graph.freeze(present[0].units, f"{call.path}: another input cannot shrink")
    values = np.stack([part.values for part in present])
    same = (values == values[0]).all(0) & (len(present) == len(parts))
    return present[0].with_values(np.where(same, values[0], np.nan))


def _take_steps(call, rank):
    indices = call.args[1] if len(call.args) > 1 else call.kwargs["indices"]
    if call.layer.axis is None or any(isinstance(v, (Edge, keras.Variable)) for v in tree.flatten(indices)):
        return None
    indices = np.asarray(indices)
    if indices.ndim != 1:
        return None
    chosen = call.layer.axis % rank
    return [(axis, indices if axis == chosen else slice(None)) for axis in range(rank)]


def _is_constant(part):
    return all(bound is None or isinstance(bound, (int, np.integer)) for bound in (part.start, part.stop, part.step))


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
register_rule(keras.layers.RepeatVector, Insertion(lambda layer, rank: [1]))
register_rule(keras.layers.Concatenate, Concatenation())
register_rule(keras.layers.Dot, Contraction())
register_rule(numpy_operations.Reshape, Reshape())
register_rule(numpy_operations.Transpose, Transposition(_transpose_order))
register_rule(numpy_operations.Swapaxes, Transposition(_swap_order))
register_rule(numpy_operations.Moveaxis, Transposition(_move_order))
register_rule(numpy_operations.ExpandDims, Insertion(lambda layer, rank: np.atleast_1d(layer.axis)))
register_rule(numpy_operations.Squeeze, Squeeze())
register_rule(numpy_operations.Concatenate, Concatenation())
register_rule(numpy_operations.GetItem, Selection())
register_rule(numpy_operations.Take, Selection())
register_rule(numpy_operations.Split, Split())
register_rule(numpy_operations.Matmul, Contraction())
