"""Normalizations: by stored statistics (channels stay apart), by groups, and across channels."""

import keras
import numpy as np

from tf_terngrad.keras_internals import operation, statistics_axes
from tf_terngrad.sparsity.rules.along import own_axes
from tf_terngrad.sparsity.rules.axes import EACH, Axes
from tf_terngrad.sparsity.rules.base import Rule
from tf_terngrad.sparsity.rules.registry import register_rule


class Normalizing(Rule):
    """What all normalizations share: a number for each channel in every weight, and no product of matrices."""

    weights = ("gamma", "beta")

    def axes(self, layer):
        return dict.fromkeys(self.weights, EACH)

    def multiply_adds(self, layer, output, *args, **kwargs):
        return 0  # it folds into the layer before it


class BatchNormalization(Normalizing):
    """y = gamma * (x - mean) / sqrt(variance + epsilon) + beta, for each index of one axis.

    Use it when a layer of your own normalizes by stored statistics, with weights of the same names.
    """

    weights = ("gamma", "beta", "moving_mean", "moving_variance")

    def follow(self, call):
        layer, edge = call.layer, call.inputs[0]
        call.output.axes = [channels and channels.unknown() for channels in edge.axes]
        channels = edge.axes[layer.axis]
        if channels is None:
            return
        for variable, role in _named_weights(layer):
            call.label(variable, 0, channels.units, role)
        if call.graph.tolerance is not None:
            call.output.axes[layer.axis] = channels.with_values(self._values(call.graph, layer, channels.values))

    def _values(self, graph, layer, values):
        mean, variance = graph.value(layer.moving_mean), graph.value(layer.moving_variance)
        gamma = np.ones_like(mean) if layer.gamma is None else graph.value(layer.gamma)
        beta = np.zeros_like(mean) if layer.beta is None else graph.value(layer.beta)
        normalized = (values - mean) / np.sqrt(variance.astype(np.float64) + layer.epsilon)
        return np.where(np.abs(gamma) <= graph.tolerance, beta, gamma * normalized + beta)


class GroupNormalization(Normalizing):
    """Statistics run over a whole group, so a group leaves as one and the groups that stay keep their size."""

    def follow(self, call):
        layer, edge, graph = call.layer, call.inputs[0], call.graph
        axis = layer.axis % len(edge.shape)
        for other, channels in enumerate(edge.axes):
            if channels is not None and other != axis:
                call.freeze_axis(channels, "its statistics run along this axis")
        channels = edge.axes[axis]
        call.output.axes = [c and c.unknown() for c in edge.axes]
        if channels is None:
            return
        if layer.groups == 1:
            call.freeze_axis(channels, "its statistics run across channels")
        grouped = channels.units.reshape(layer.groups, -1)
        for column in grouped.T[1:]:
            graph.units.tie(grouped[:, 0], column)
        for variable, role in ((layer.gamma, "scale"), (layer.beta, "shift")):
            call.label(variable, 0, channels.units, role)
        if graph.tolerance is not None:
            call.output.axes[axis] = channels.with_values(self._values(graph, layer, channels.values))

    def _values(self, graph, layer, values):
        gamma = np.ones_like(values) if layer.gamma is None else graph.value(layer.gamma)
        beta = np.zeros_like(values) if layer.beta is None else graph.value(layer.beta)
        groups = values.reshape(layer.groups, -1)
        mean, variance = groups.mean(1, keepdims=True), groups.var(1, keepdims=True)
        normalized = ((groups - mean) / np.sqrt(variance + layer.epsilon)).reshape(-1)
        return np.where(np.abs(gamma) <= graph.tolerance, beta, gamma * normalized + beta)

    def config(self, call, kept):
        layer = call.layer
        channels = call.inputs[0].axes[layer.axis]
        if channels is None:
            return layer.get_config()
        return {**layer.get_config(), "groups": kept.width(channels) * layer.groups // len(channels)}


class AcrossChannels(Normalizing):
    """Layer and root-mean-square normalization: statistics run along the layer's axes."""

    weights = ("gamma", "beta", "scale")

    def follow(self, call):
        edge = call.inputs[0]
        axes = call.layer.axis if isinstance(call.layer.axis, (list, tuple)) else [call.layer.axis]
        for axis in axes:
            if edge.axes[axis] is not None:
                call.freeze_axis(edge.axes[axis], "its statistics run across channels")
        call.output.axes = [channels and channels.unknown() for channels in edge.axes]


class UnitNorm(Normalizing):
    """Division by a norm along the layer's axes, to which a channel that is zero adds nothing."""

    weights = ()

    def follow(self, call):
        edge = call.inputs[0]
        axes = own_axes(call.layer, len(edge.shape))
        for axis, channels in enumerate(edge.axes):
            if channels is not None and axis in axes:
                call.contract(channels)
            if channels is not None:
                call.output.axes[axis] = channels.with_values(np.where(channels.values == 0, 0.0, np.nan))


class Normalization(Normalizing):
    """(x - mean) / sqrt(variance), learnt by adapt() or given: a feature can leave with its statistics."""

    def axes(self, layer):
        return {"mean": EACH, "variance": EACH, "count": Axes()}

    def follow(self, call):
        layer, edge = call.layer, call.inputs[0]
        call.output.axes = [channels and channels.unknown() for channels in edge.axes]
        for position, axis in enumerate(statistics_axes(layer)):
            if edge.axes[axis] is None:
                continue
            if layer.input_mean is None:
                call.label(layer.adapt_mean, position, edge.axes[axis].units, "statistic")
                call.label(layer.adapt_variance, position, edge.axes[axis].units, "statistic")
            elif len(statistics_axes(layer)) > 1 and np.size(layer.input_mean) > 1:
                call.freeze_axis(edge.axes[axis], "it normalizes over several axes")

    def config(self, call, kept):
        config, axes = call.layer.get_config(), statistics_axes(call.layer)
        channels = call.inputs[0].axes[axes[0]] if len(axes) == 1 else None
        for name in ("mean", "variance"):
            if config[name] is not None and channels is not None and np.size(config[name]) > 1:
                config[name] = np.ravel(config[name])[kept.mask(channels)].tolist()
        return config


def _named_weights(layer):
    return (
        (layer.gamma, "scale"),
        (layer.beta, "shift"),
        (layer.moving_mean, "statistic"),
        (layer.moving_variance, "statistic"),
    )


register_rule(keras.layers.BatchNormalization, BatchNormalization())
register_rule(keras.layers.GroupNormalization, GroupNormalization())
register_rule(keras.layers.Normalization, Normalization())
for _type in (keras.layers.LayerNormalization, keras.layers.RMSNormalization):
    register_rule(_type, AcrossChannels())
for _type in (keras.layers.UnitNormalization, operation("Normalize")):
    register_rule(_type, UnitNorm())
