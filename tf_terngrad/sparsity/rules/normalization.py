"""Normalizations: by stored statistics (channels stay apart), by groups, and across channels."""

import typing

import keras
import numpy as np

from tf_terngrad.keras_internals import operation, statistics_axes
from tf_terngrad.sparsity.rules.along import own_axes
from tf_terngrad.sparsity.rules.axes import EACH, Axes
from tf_terngrad.sparsity.rules.base import Rule
from tf_terngrad.sparsity.rules.reduction import variance_of_all
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
    """Statistics that run across channels: one that is zero adds nothing to them, but they are means over the width.

    Only over the last axis alone a channel can leave, if what enters is zero.
    """

    def follow(self, call):
        edge = call.inputs[0]
        call.output.axes = [channels and channels.unknown() for channels in edge.axes]
        if not self.is_last(call):
            for axis in np.ravel(call.layer.axis):
                call.freeze_axis(edge.axes[axis], "its statistics run along several axes, or not the last one")
        elif edge.axes[-1] is not None:
            call.contract(edge.axes[-1])
            for name, role in self.weights.items():
                call.label(getattr(call.layer, name), 0, edge.axes[-1].units, role)
            call.output.axes[-1] = edge.axes[-1].with_values(self.values(call, edge.axes[-1].values))

    def values(self, call, values):
        """What each channel emits, given what it holds."""
        raise NotImplementedError

    def is_last(self, call):
        """Whether its statistics run along the last axis alone."""
        return np.ravel(call.layer.axis).tolist() in ([-1], [len(call.inputs[0].shape) - 1])

    def shrinking(self, call, kept):
        """The width that its statistics run along over the width that stays."""
        channels = call.inputs[0].axes[-1]
        return len(channels) / kept.width(channels) if self.is_last(call) and channels is not None else 1.0


class RMSNormalization(AcrossChannels):
    """y = scale * x / sqrt(mean(x^2) + epsilon): of d in place of D channels, with scale √(D/d) and epsilon D/d."""

    weights: typing.ClassVar = {"scale": "scale"}

    def follow(self, call):
        if not self.is_last(call):
            call.freeze(call.inputs, "Keras multiplies by its scale along the last axis, whatever its axis is")
        super().follow(call)

    def values(self, call, values):
        return np.where(values == 0, 0.0, np.nan)

    def config(self, call, kept):
        return {**call.layer.get_config(), "epsilon": call.layer.epsilon * self.shrinking(call, kept)}

    def layer(self, builder, call, name=None):
        builder.scale(call.layer.scale, self.shrinking(call, builder.kept) ** 0.5)
        return builder.remake(call, name)


class LayerNormalization(AcrossChannels):
    """y = gamma * (x - mean) / sqrt(variance + epsilon) + beta, where d of D channels stay and the others are zero.

    The mean over D is d/D times that over d, the variance see `variance_of_all`. No layer of Keras's computes so; a
    small model of operations does, with an EinsumDense that holds gamma and beta.
    """

    weights: typing.ClassVar = {"gamma": "scale", "beta": "shift"}
    loses_masks = True

    def follow(self, call):
        layer = call.layer
        if getattr(layer, "rms_scaling", False) or (layer.gamma is None and layer.beta is not None):
            call.freeze(call.inputs, "no stock layers compute it for a part of its width")
        calls = [other for other in call.graph.calls if other.layer is layer]
        if call.inputs[0].masked and not call.hands_on:
            call.freeze(call.inputs, "a mask of the steps may come with its input, which operations would not hand on")
        if len({len(each.inputs[0].shape) for each in calls}) > 1:
            call.freeze(call.inputs, "it is called with tensors of several ranks")
        super().follow(call)

    def values(self, call, values):
        layer, graph, known = call.layer, call.graph, np.full(values.shape, np.nan)
        if layer.gamma is None or graph.tolerance is None:
            return known
        beta = np.zeros_like(known) if layer.beta is None else graph.value(layer.beta)
        return np.where(np.abs(graph.value(layer.gamma)) <= graph.tolerance, beta, known)

    def layer(self, builder, call, name=None):
        shrinking = self.shrinking(call, builder.kept)
        if shrinking == 1:
            return builder.remake(call, name)
        layer, edge = call.layer, call.inputs[0]
        if len({other.inputs[0].shape for other in call.graph.calls if other.layer is layer}) == 1:
            tensor = builder.input(edge, "values")
        else:
            open_shape = (*[None] * (len(edge.shape) - 1), builder.kept.width(edge.axes[-1]))
            tensor = keras.Input(batch_shape=open_shape, dtype=edge.dtype, name="values")
        x, share = keras.ops.cast(tensor, keras.backend.result_type(tensor.dtype, "float32")), 1 / shrinking
        mean, variance = (reduce(x, axis=-1, keepdims=True) for reduce in (keras.ops.mean, keras.ops.var))
        inverse = keras.ops.rsqrt(variance_of_all(share, variance, mean) + layer.epsilon)
        # Not (x - mean) * inverse: TFLite's calibration takes the range of the product for that of the difference.
        x = x * inverse - mean * share * inverse
        if layer.gamma is not None:
            x = self._scaled(builder, layer, tensor.shape)(x)
        if len(tensor.shape) > 3 or None in tensor.shape[1:]:  # zeros of a size that the layer above does not tell
            x = x + keras.ops.zeros_like(mean)
        x = keras.ops.cast(x, layer.compute_dtype)
        model = keras.Model(tensor, x, name=name or layer.name)
        model.supports_masking = edge.masked  # no warning that a mask ends here, for it goes on behind it
        return model

    def _scaled(self, builder, layer, shape):
        """The layer that multiplies by gamma and adds beta."""
        others = "abcefgh"[: len(shape) - 1]  # TensorFlow multiplies "...d,d->...d" 30 times as slowly
        options = {"bias_axes": None if layer.beta is None else "d", "dtype": layer.dtype_policy}
        holder = keras.layers.EinsumDense(f"{others}d,d->{others}d", shape[1:], name="scale", **options)
        holder.build(shape)
        holder.trainable = layer.trainable
        builder.follow(layer, holder)
        return holder


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
                call.output.axes[axis] = channels.zero_or_unknown()


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
register_rule(keras.layers.RMSNormalization, RMSNormalization())
register_rule(keras.layers.LayerNormalization, LayerNormalization())
for _type in (keras.layers.UnitNormalization, operation("Normalize")):
    register_rule(_type, UnitNorm())
