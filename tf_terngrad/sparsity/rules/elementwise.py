"""Layers and operations that act on each element by itself: activations, arithmetic, dropout, noise."""

import keras
import numpy as np
from keras import tree

from tf_terngrad.keras_internals import layers, operation, operations
from tf_terngrad.sparsity.graph.channels import Edge
from tf_terngrad.sparsity.rules.axes import EACH
from tf_terngrad.sparsity.rules.base import Rule
from tf_terngrad.sparsity.rules.registry import register_rule, rule_for

_ACROSS_CHANNELS = ("softmax", "log_softmax", "sparsemax", "glu")
_ACTIVATIONS = {
    getattr(module, name)
    for module in (keras.activations, keras.ops)
    for name in dir(keras.activations)
    if name[0] != "_" and hasattr(module, name) and name not in (*_ACROSS_CHANNELS, "get", "serialize", "deserialize")
}


class Elementwise(Rule):
    """Any function of single elements, of one or of several tensors that broadcast: widths stay together.

    Use it when a layer of your own computes every element alone, as an activation does.
    """

    def follow(self, call):
        if any(np.ndim(value) and np.size(value) > 1 for value in _constants(call)):
            call.freeze(call.inputs, "combined with a constant array, whose width is fixed")
            return
        for axis in range(len(call.output.shape)):
            call.output.axes[axis] = self._meet(call, axis)

    def _meet(self, call, axis):
        """The channels of one output axis, where the aligned axes of all inputs are tied."""
        size = call.output.shape[axis]
        shift = len(call.output.shape) - axis
        met, values, fixed = [], [], False
        for edge in call.inputs:
            present = len(edge.shape) >= shift
            channels = edge.axes[-shift] if present else None
            if channels is not None and len(channels) != size:
                call.freeze_axis(channels, "one channel is broadcast over many")
            elif channels is not None:
                met.append(channels)
            elif present and edge.shape[-shift] == size:
                fixed = True
            values.append(np.array([np.nan]) if channels is None else channels.values)
        if not met:
            return None
        for channels in met[1:]:
            call.graph.units.tie(met[0].units, channels.units)
        if fixed:
            call.freeze_axis(met[0], "combined with a tensor that cannot shrink")
        return met[0].with_values(self.values(call, [np.broadcast_to(v, (size,)) for v in values]))

    def values(self, call, values):
        """What comes out for each channel where everything that goes in is known."""
        known = ~np.isnan(values).any(0)
        result = np.full(known.shape, np.nan)
        if known.any():
            remaining = iter(values)

            def replace(value):
                return keras.ops.convert_to_tensor(next(remaining)[known], "float32") if _is_edge(value) else value

            args, kwargs = tree.map_structure(replace, (call.args, call.kwargs))
            result[known] = keras.ops.convert_to_numpy(call.layer.call(*args, **kwargs))
        return result


class Passing(Elementwise):
    """Layers that do nothing at inference: dropout, noise, identity.

    Use it when a layer of your own does nothing at inference.
    """

    def follow(self, call):
        super().follow(call)
        shape = getattr(call.layer, "noise_shape", None) or ()
        if any(size not in (None, 1) for size in shape[1:]):
            call.freeze(call.inputs, "the noise shape is fixed")

    def values(self, call, values):
        return values[0]


class Filled(Elementwise):
    """A tensor of one number, in the shape of another."""

    def __init__(self, number):
        self.number = number

    def values(self, call, values):
        return np.full(values[0].shape, self.number)


class Product(Elementwise):
    """x * y: zero where either is zero, whatever the other is."""

    def values(self, call, values):
        return np.where((np.stack(values) == 0).any(0), 0.0, super().values(call, values))


class Sum(Elementwise):
    """x + y (or x - y): a term that is zero everywhere can leave, and its layers with it."""

    def __init__(self, first_stays=False):
        self.first_stays = first_stays

    def skippable(self, call, kept):
        if list(_constants(call)) or self._names_two_outputs(call):
            return set()
        zero = {i for i, edge in enumerate(call.inputs) if edge.is_zero and not (self.first_stays and i == 0)}
        if len(zero) == len(call.inputs):
            zero.discard(0)
        stay = [edge for i, edge in enumerate(call.inputs) if i not in zero]
        same = any(edge.shape == call.output.shape and edge.dtype == call.output.dtype for edge in stay)
        return zero if same else set()

    def _names_two_outputs(self, call):
        """Whether the layer's name must serve another call too, so that an output of this one cannot take it over."""
        is_output = any(call.output is edge for edge in call.graph.outputs)
        return is_output and any(other.layer is call.layer and other is not call for other in call.graph.calls)

    def rebuild(self, builder, call, args, kwargs):
        given = tree.flatten((args, kwargs))
        tensors = [tensor for tensor in given if tensor is not None]
        if len(tensors) == len(given):
            return builder.layer(call)(*args, **kwargs)
        return builder.alone(call, tensors[0]) if len(tensors) == 1 else builder.layer(call)(tensors)


class Rescaling(Rule):
    """scale * x + offset, with numbers, or with lists along the last axis, whose entries leave with their channels."""

    def follow(self, call):
        edge, lists = call.inputs[0], self._lists(call.layer)
        scale, offset = np.asarray(call.layer.scale), np.asarray(call.layer.offset)
        last = len(edge.shape) - 1
        for axis, channels in enumerate(edge.axes):
            if channels is not None and (axis == last or not lists):
                call.output.axes[axis] = channels.with_values(channels.values * np.ravel(scale) + np.ravel(offset))
            elif channels is not None:
                call.output.axes[axis] = channels.unknown()
        if lists and (max(scale.ndim, offset.ndim) > 1 or keras.config.image_data_format() == "channels_first"):
            call.freeze(call.inputs, "its numbers do not lie along the last axis")

    def config(self, call, kept):
        config, channels = call.layer.get_config(), call.inputs[0].axes[-1]
        for name in self._lists(call.layer) if channels is not None else ():
            config[name] = np.asarray(getattr(call.layer, name))[..., kept.mask(channels)].tolist()
        return config

    def _lists(self, layer):
        return [name for name in ("scale", "offset") if np.size(getattr(layer, name)) > 1]


class ParametricReLU(Rule):
    """f(x) = x where x > 0, alpha * x elsewhere, with a learnt alpha for each element or channel."""

    def axes(self, layer):
        return {"alpha": EACH}

    def multiply_adds(self, layer, output, inputs):
        return 0

    def follow(self, call):
        alpha = call.layer.alpha
        slopes = call.graph.value(alpha)
        for axis, channels in enumerate(call.inputs[0].axes):
            if channels is None:
                continue
            values = channels.values
            if alpha.shape[axis - 1] == len(channels):
                call.label(alpha, axis - 1, channels.units, "slope")
                slope = np.moveaxis(slopes, axis - 1, 0).reshape(len(channels), -1)
            else:
                slope = slopes.reshape(1, -1)
            same = (slope == slope[:, :1]).all(1)
            below = np.where(same, slope[:, 0] * values, np.nan)
            call.output.axes[axis] = channels.with_values(np.where(values >= 0, values, below))


class Activation(Rule):
    """The Activation layer: any function, by name or as an object."""

    def follow(self, call):
        call.output.axes = list(call.inputs[0].axes)
        activate(call, call.layer.activation)


class AcrossChannels(Rule):
    """Softmax and its kin: harmless along fixed axes, freezing along the axis they run over."""

    def follow(self, call):
        axes = call.layer.axis if isinstance(call.layer.axis, (tuple, list)) else [call.layer.axis]
        edge = call.inputs[0]
        for axis in axes:
            call.freeze_axis(edge.axes[axis], f"{type(call.layer).__name__} runs across channels")
        call.output.axes = [None if c is None else c.unknown() for c in edge.axes]


def activate(call, activation):
    """Apply a layer's activation argument to the channels of its output."""
    if activation is None or activation is keras.activations.linear:
        return
    reason = why_not_elementwise(activation)
    if reason:
        call.freeze(call.outputs, reason)
    call.output.axes = [
        channels
        and (channels.unknown() if reason else channels.with_values(apply_activation(activation, channels.values)))
        for channels in call.output.axes
    ]


def why_not_elementwise(activation):
    """Why an activation argument may tie channels to one another; None: it acts on each element by itself."""
    if activation is None or _is_elementwise(activation):
        return None
    name = getattr(activation, "__name__", type(activation).__name__)
    if name in _ACROSS_CHANNELS:
        return f"activation {name!r} runs across channels"
    return f"activation {name!r} is not known to act on each element by itself"


def apply_activation(activation, values):
    """What an elementwise activation makes of known values; NaN stays NaN."""
    result = np.full(values.shape, np.nan)
    known = ~np.isnan(values)
    if known.any():
        result[known] = keras.ops.convert_to_numpy(activation(keras.ops.convert_to_tensor(values[known], "float32")))
    return result


def _is_elementwise(activation):
    if isinstance(activation, keras.layers.Layer):
        return isinstance(rule_for(activation), Elementwise)
    return any(activation is known for known in _ACTIVATIONS)


def _is_edge(value):
    return isinstance(value, Edge)


def _constants(call):
    """Everything but tensors of the graph that a call combines."""
    return (v for v in tree.flatten((call.args, call.kwargs)) if v is not None and not _is_edge(v))


_BY_NAME = [
    (layers, Elementwise(), [
        "ReLU", "LeakyReLU", "ELU", "Average", "Maximum", "Minimum",
    ]),
    (layers, Passing(), [
        "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout",
        "GaussianDropout", "GaussianNoise", "Identity", "ActivityRegularization",
    ]),
    (operations, Elementwise(), [
        "Absolute", "Abs", "Arctan", "Cbrt", "Ceil", "Clip", "Cos", "Cosh", "Divide", "DivideNoNan",
        "TrueDivide", "Exp", "Exp2", "Expm1", "Floor", "FloorDivide", "Log", "Log10", "Log1p", "Log2",
        "Logaddexp", "Maximum", "Minimum", "Mod", "Negative", "Power", "Reciprocal", "Round", "Sign", "Sin",
        "Sinh", "Square", "Sqrt", "Tan", "Tanh", "Trunc", "Where", "Equal", "NotEqual", "Greater",
        "GreaterEqual", "Less", "LessEqual", "LogicalAnd", "LogicalOr", "LogicalNot", "LogicalXor",
    ]),
    (operations, Elementwise(), [
        "Relu", "ReLU", "Relu6", "Sigmoid", "SparseSigmoid", "Softplus", "Softsign", "SoftShrink", "SparsePlus",
        "Silu", "Squareplus", "LogSigmoid", "LeakyRelu", "HardSigmoid", "HardSilu", "Elu", "Selu", "Gelu",
        "Celu", "TanhShrink", "HardTanh", "HardShrink", "Threshold",
    ]),
    (operations, Elementwise(), [
        "Cast", "StopGradient", "SaturateCast",
    ]),
]  # fmt: skip

for _those, _rule, _names in _BY_NAME:
    for _type in _those(*_names):
        register_rule(_type, _rule)
register_rule(operation("ZerosLike"), Filled(0.0))
register_rule(operation("OnesLike"), Filled(1.0))
for _type in (keras.layers.Multiply, operation("Multiply")):
    register_rule(_type, Product())
for _type in (keras.layers.Add, operation("Add")):
    register_rule(_type, Sum())
for _type in (keras.layers.Subtract, operation("Subtract")):
    register_rule(_type, Sum(first_stays=True))
for _type in (keras.layers.Softmax, operation("Softmax"), operation("LogSoftmax")):
    register_rule(_type, AcrossChannels())
register_rule(keras.layers.Rescaling, Rescaling())
register_rule(keras.layers.PReLU, ParametricReLU())
register_rule(keras.layers.Activation, Activation())
