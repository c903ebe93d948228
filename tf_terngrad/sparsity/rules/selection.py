"""Layers and operations that put side by side or pick: concatenate, slice, take, split."""

import keras
import numpy as np
from keras import tree

from tf_terngrad.keras_internals import named, operation, operations
from tf_terngrad.sparsity.graph.channels import Channels, Edge
from tf_terngrad.sparsity.rules.base import Rule, config_of
from tf_terngrad.sparsity.rules.registry import register_rule


class Concatenation(Rule):
    """Side by side along one axis; an input of which nothing stays leaves with its layers.

    Use it when a layer of your own puts tensors side by side.

    Args:
        axis: the axis; what `layer.axis` says, if it is not given.
    """

    def __init__(self, axis=None):
        self._axis = axis

    def follow(self, call):
        rank = len(call.output.shape)
        if rank > len(call.inputs[0].shape) or not are_all_tensors(call):
            call.freeze(call.inputs, "put beside a constant array, or along a new axis")
            return
        axis = self.axis_of(call.layer) % rank
        for other in range(rank):
            parts = [edge.axes[other] for edge in call.inputs]
            if other == axis and any(parts):
                call.output.axes[other] = Channels.concatenate([self._part(call, edge, axis) for edge in call.inputs])
            elif other != axis:
                call.output.axes[other] = agree(call, parts)

    def _part(self, call, edge, axis):
        """The channels of one input; frozen stand-ins where they are not followed."""
        reason = f"{call.path}: {edge.name or 'an input'} cannot shrink"
        return edge.axes[axis] or call.graph.frozen_channels(edge.shape[axis], reason)

    def axis_of(self, layer):
        """The axis along which a layer puts tensors."""
        return layer.axis if self._axis is None else self._axis

    def skippable(self, call, kept):
        axis = self.axis_of(call.layer)
        if any(len(edge.shape) < len(call.output.shape) for edge in call.inputs):
            return set()
        parts = [edge.axes[axis] for edge in call.inputs]
        gone = {i for i, part in enumerate(parts) if part is not None and kept.width(part) == 0}
        return gone if len(gone) < len(parts) else gone - {0}

    def rebuild(self, builder, call, args, kwargs):
        given = tree.flatten((args, kwargs))
        tensors = [tensor for tensor in given if tensor is not None]
        if len(tensors) == len(given):
            return super().rebuild(builder, call, args, kwargs)
        return tensors[0] if len(tensors) == 1 else builder.layer(call)(tensors)


class Slicing(Rule):
    """x[key] with integers, slices, new axes and an ellipsis."""

    def follow(self, call):
        steps = self._steps(call)
        if steps is None:
            call.freeze(call.inputs, "it is indexed by a tensor or an array")
            return
        edge, axes = call.inputs[0], []
        for axis, chosen in steps:
            channels = None if axis is None else edge.axes[axis]
            call.drop(channels, chosen)
            if not isinstance(chosen, int):
                axes.append(channels if channels is None else channels[chosen])
            elif channels is not None:
                call.freeze_axis(channels[[chosen]], "picked by its number")
        call.output.axes = axes

    def _steps(self, call):
        """For each axis in turn (the input's axis, or None for a new one; an integer, a slice, or None)."""
        key = call.argument(1, "key")
        key = list(key) if isinstance(key, (tuple, list)) else [key]
        if not all(_is_constant(part) for part in key):
            return None
        if Ellipsis not in key:
            key.append(Ellipsis)
        at = key.index(Ellipsis)
        used = sum(part is not None for part in key) - 1
        key[at : at + 1] = [slice(None)] * (len(call.inputs[0].shape) - used)
        axis, steps = 0, []
        for part in key:
            steps.append((None if part is None else axis, part))
            axis += part is not None
        return steps

    def rebuild(self, builder, call, args, kwargs):
        steps, edge = self._steps(call), call.inputs[0]
        if steps is None or not edge.followed:
            return builder.layer(call)(*args, **kwargs)
        key, gathers = [], []
        for axis, chosen in steps:
            channels = None if axis is None else edge.axes[axis]
            if channels is None:
                key.append(chosen)
                continue
            positions = builder.kept.positions(channels, np.atleast_1d(np.arange(len(channels))[chosen]))
            if isinstance(chosen, int):
                key.append(int(positions[0]))
                continue
            key.append(_as_slice(positions) or slice(None))
            if not _as_slice(positions):
                gathers.append((sum(not isinstance(part, int) for part in key) - 1, positions))
        tensor = self._operation(builder, call)(tree.flatten((args, kwargs))[0], tuple(key))
        for number, (axis, positions) in enumerate(gathers):
            tensor = take(tensor, positions.tolist(), axis, f"{call.layer.name}_channels{number or ''}")
        return tensor

    def _operation(self, builder, call):
        return builder.layer(call)


class SlicingBySizes(Slicing):
    """`ops.slice`: so many from a place on, along each axis."""

    def _steps(self, call):
        starts, sizes = tree.flatten(call.argument(1, "start_indices")), call.layer.shape
        if not all(isinstance(start, (int, np.integer)) for start in starts):
            return None
        ends = [None if size == -1 else start + size for start, size in zip(starts, sizes, strict=True)]
        return [(axis, slice(*bounds)) for axis, bounds in enumerate(zip(starts, ends, strict=True))]

    def _operation(self, builder, call):
        return named(operation("GetItem")(), call.layer.name)


class Gathering(Rule):
    """`take` along one axis: with constant indices, or with any, which the axis has to stay whole for."""

    def follow(self, call):
        axis, chosen = constant_indices(call)
        if chosen is None:
            self._look_up(call)
            return
        call.output.axes = list(call.inputs[0].axes)
        channels = call.inputs[0].axes[axis]
        if channels is not None:
            call.output.axes[axis] = channels[chosen]
            call.drop(channels, chosen)

    def _look_up(self, call):
        """Follow the other axes, such as the heads of a table of relative positions."""
        table, axis = call.argument(0, "x"), call.layer.axis
        reason = "it is indexed by a tensor or an array"
        if axis is None or not isinstance(table, Edge):
            call.freeze(call.inputs, reason)
            return
        axis %= len(table.shape)
        call.freeze([edge for edge in call.inputs if edge is not table], reason)
        call.freeze_axis(table.axes[axis], reason)
        places = len(call.output.shape) - len(table.shape) + 1
        call.output.axes = [*table.axes[:axis], *[None] * places, *table.axes[axis + 1 :]]

    def rebuild(self, builder, call, args, kwargs):
        axis, chosen = constant_indices(call)
        edge = call.inputs[0]
        channels = None if axis is None else edge.axes[axis]
        if channels is None:
            return builder.layer(call)(*args, **kwargs)
        stay = chosen[builder.kept.mask(channels)[chosen]]
        if not builder.is_gathered(edge):
            stay = builder.kept.positions(channels, chosen)
        return builder.layer(call)(tree.flatten((args, kwargs))[0], stay.tolist())


class Split(Rule):
    """Sections of one axis, each an output of its own. `axis`: which one; what `layer.axis` says, if not given."""

    def __init__(self, axis=None):
        self._axis = axis

    def follow(self, call):
        edge = call.inputs[0]
        axis = self._axis_of(call.layer) % len(edge.shape)
        stops = np.cumsum([output.shape[axis] for output in call.outputs])
        for output, stop in zip(call.outputs, stops, strict=True):
            output.axes = list(edge.axes)
            output.axes[axis] = edge.axes[axis] and edge.axes[axis][stop - output.shape[axis] : stop]

    def _axis_of(self, layer):
        return layer.axis if self._axis is None else self._axis

    def config(self, call, kept):
        config, axis = config_of(call.layer), self._axis_of(call.layer)
        if call.inputs[0].axes[axis] is None:
            return config
        stops = np.cumsum([kept.width(output.axes[axis]) for output in call.outputs])
        return {**config, "indices_or_sections": tuple(int(stop) for stop in stops[:-1])}


class EvenSplit(Split):
    """Sections whose widths the operation works out from their number: the axis that it splits keeps its width."""

    def follow(self, call):
        super().follow(call)
        call.freeze_axis(call.inputs[0].axes[call.layer.axis], "it makes sections of even widths")

    def config(self, call, kept):
        return config_of(call.layer)


def take(tensor, positions, axis, name):
    """Pick positions of an axis, by an operation with a chosen name: a made-up one could be taken already."""
    return named(operation("Take")(axis=axis), name)(tensor, positions)


def gathers(call):
    """Whether a call picks features of a flat tensor by constant indices."""
    return isinstance(call.layer, operation("Take")) and constant_indices(call)[0] == 1


def constant_indices(call):
    """The axis and the indices of a `take`; None, None where they are not constants along one axis."""
    indices = call.argument(1, "indices")
    if call.layer.axis is None or any(isinstance(v, (Edge, keras.Variable)) for v in tree.flatten(indices)):
        return None, None
    indices = np.asarray(indices)
    return (call.layer.axis % len(call.inputs[0].shape), indices) if indices.ndim == 1 else (None, None)


def _as_slice(positions):
    """The slice that picks these positions; None: they are no even steps forward."""
    steps = {1} if len(positions) == 1 else {*np.diff(positions).tolist()}
    step = steps.pop() if len(steps) == 1 else 0
    return slice(int(positions[0]), int(positions[-1]) + 1, step) if step > 0 else None


def _is_constant(part):
    if isinstance(part, slice):
        return all(
            bound is None or isinstance(bound, (int, np.integer)) for bound in (part.start, part.stop, part.step)
        )
    return part is None or part is Ellipsis or (isinstance(part, int) and not isinstance(part, bool))


def are_all_tensors(call):
    """Whether a call that takes a list of tensors takes tensors of the model only."""
    return sum(value is not None for value in tree.flatten((call.args, call.kwargs))) == len(call.inputs)


def agree(call, parts):
    """The channels of an axis that several tensors share without being added; None: it is followed in none."""
    present = [part for part in parts if part is not None]
    if not present:
        return None
    for part in present[1:]:
        call.graph.units.tie(present[0].units, part.units)
    if len(present) < len(parts):
        call.freeze_axis(present[0], "another input cannot shrink")
    values = np.stack([part.values for part in present])
    same = (values == values[0]).all(0) & (len(present) == len(parts))
    return present[0].with_values(np.where(same, values[0], np.nan))


register_rule(keras.layers.Concatenate, Concatenation())
register_rule(operation("Concatenate"), Concatenation())
register_rule(operation("GetItem"), Slicing())
register_rule(operation("Slice"), SlicingBySizes())
register_rule(operation("Take"), Gathering())
register_rule(operation("Split"), Split())
for _type in operations("ArraySplit"):
    register_rule(_type, EvenSplit())
for _axis, _letter in enumerate("VHD"):
    for _type in operations(f"{_letter}stack"):
        register_rule(_type, Concatenation(_axis))
    for _type in operations(f"{_letter}split"):
        register_rule(_type, Split(_axis))
