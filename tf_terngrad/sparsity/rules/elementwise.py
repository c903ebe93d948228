"""Layers and operations that act on each element by itself: activations, arithmetic, dropout, noise."""

import keras
import numpy as np
from keras import tree

from tf_terngrad.keras_internals import layers, operation, operations
from tf_terngrad.sparsity.rules.axes import EACH
from tf_terngrad.sparsity.rules.base import Rule
from tf_terngrad.sparsity.rules.operands import (
    constants,
    cut,
    is_array,
    is_variable,
    operands,
    replaced,
    values_along,
)
from tf_terngrad.sparsity.rules.registry import register_rule
from tf_terngrad.sparsity.rules.vectors import is_misplaced


class Elementwise(Rule):
    """Any function of single elements, of one or of several tensors that broadcast: widths stay together.

    Use it when a layer of your own computes every element alone, as an activation does.
    """

    elementwise = True

    def follow(self, call):
        if any(map(is_variable, constants(call))):
            call.freeze(call.inputs, "combined with a variable, whose width is fixed")
            return
        for axis in range(len(call.output.shape)):
            call.output.axes[axis] = self._meet(call, len(call.output.shape) - axis, call.output.shape[axis])
        numbers = [getattr(each, "number", np.nan) for each in operands(call)]
        call.output.number = self.values(call, np.reshape(numbers, (-1, 1)))[0]

    def _meet(self, call, back, size):
        """The channels of one output axis, `back` from the end, where the aligned axes of all tensors are tied."""
        met, fixed = [], False
        for edge in call.inputs:
            present = len(edge.shape) >= back
            channels = edge.axes[-back] if present else None
            if channels is not None and len(channels) != size:
                call.freeze_axis(channels, "one channel is broadcast over many")
            elif channels is not None:
                met.append(channels)
            elif present and edge.shape[-back] == size:
                fixed = True
        if not met:
            return None
        for channels in met[1:]:
            call.graph.units.tie(met[0].units, channels.units)
        if fixed:
            call.freeze_axis(met[0], "combined with a tensor that cannot shrink")
        return met[0].with_values(self.values(call, [values_along(each, back, size) for each in operands(call)]))

    def values(self, call, values):
        """What comes out for each channel where everything that goes in is known.

        Args:
            call: the call.
            values: for each tensor or array that it combines, what each channel holds (NaN: it depends).
        """
        known = ~np.isnan(values).any(0)
        result = np.full(known.shape, np.nan)
        if known.any():
            remaining = zip(values, operands(call), strict=True)

            def replace(value):
                return _tensor(*next(remaining), known) if is_array(value) else value

            args, kwargs = replaced(replace, call.args, call.kwargs)
            result[known] = keras.ops.convert_to_numpy(call.layer.call(*args, **kwargs))
        return result

    def rebuild(self, builder, call, args, kwargs):
        args, kwargs = cut(builder.kept, call, args, kwargs)
        return super().rebuild(builder, call, self.ordered(args), kwargs)

    def ordered(self, terms):
        """The positional arguments of the smaller call, in the order in which Keras should have them."""
        return terms


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

    adds = True

    def __init__(self, first_stays=False):
        self.first_stays = first_stays

    def skippable(self, call, kept):
        if any(True for _ in constants(call)) or self._names_two_outputs(call):
            return set()
        zero = {i for i, edge in enumerate(call.inputs) if kept.is_zero(edge) and not (self.first_stays and i == 0)}
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
            return super().rebuild(builder, call, args, kwargs)
        return builder.alone(call, tensors[0]) if len(tensors) == 1 else builder.layer(call)(tensors)


class Addition(Sum):
    """x + y, whose terms change places where Keras would add the second one along another axis than it lies on."""

    def follow(self, call):
        if self._is_misplaced(call.args):
            call.freeze(call.inputs, "Keras adds one of its terms along another axis")
        else:
            super().follow(call)

    def ordered(self, terms):
        return terms[::-1] if self._is_misplaced(terms) else terms

    def _is_misplaced(self, terms):
        there = [np.shape(term) for term in terms if term is not None]
        return len(there) == 2 and is_misplaced(*there)


class Clipping(Elementwise):
    """Numbers between two bounds; bounds that are arrays are part of the operation, and keep their width."""

    def follow(self, call):
        if np.size(call.layer.x_min) > 1 or np.size(call.layer.x_max) > 1:
            call.freeze(call.inputs, "its bounds are arrays, whose width is fixed")
        else:
            super().follow(call)


class Compared(Elementwise):
    """Each element is looked for among numbers that are the same for all of them."""

    def follow(self, call):
        if len(call.inputs) > 1:
            call.freeze(call.inputs, "it looks in a tensor of the model")
        else:
            call.output.axes = [channels and channels.unknown() for channels in call.inputs[0].axes]

    def rebuild(self, builder, call, args, kwargs):
        return Rule.rebuild(self, builder, call, args, kwargs)


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


def _tensor(values, operand, known):
    """The known values as a tensor: integers and Booleans as such, for some operations take nothing else."""
    dtype = keras.backend.standardize_dtype(operand.dtype)
    return keras.ops.convert_to_tensor(values[known], "float32" if keras.backend.is_float_dtype(dtype) else dtype)


_BY_NAME = [
    (layers, Elementwise(), [
        "ReLU", "LeakyReLU", "ELU", "Average", "Maximum", "Minimum",
    ]),
    (layers, Passing(), [
        "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout",
        "GaussianDropout", "GaussianNoise", "Identity", "ActivityRegularization",
    ]),
    (operations, Elementwise(), [
        "Absolute", "Abs", "Angle", "Arccos", "Arccosh", "Arcsin", "Arcsinh", "Arctan", "Arctan2", "Arctanh", "Cbrt",
        "Ceil", "Conj", "Conjugate", "Copy", "Cos", "Cosh", "Deg2rad", "Divide", "DivideNoNan", "TrueDivide", "Exp",
        "Exp2", "Expm1", "Fabs", "Floor", "FloorDivide", "Fmax", "Fmin", "Fmod", "Gcd", "Heaviside", "Hypot", "I0",
        "Imag", "Lcm", "Ldexp", "Log", "Log10", "Log1p", "Log2", "Logaddexp", "Logaddexp2", "Maximum", "Minimum",
        "Mod", "NanToNum", "Negative", "Nextafter", "Power", "Rad2deg", "Real", "Reciprocal", "Round", "Select",
        "Sign", "Signbit", "Sin", "Sinc", "Sinh", "Square", "Sqrt", "Tan", "Tanh", "Trunc", "Where",
    ]),
    (operations, Elementwise(), [
        "Equal", "NotEqual", "Greater", "GreaterEqual", "Less", "LessEqual", "Isclose", "Isfinite", "Isinf", "Isnan",
        "Isneginf", "Isposinf", "Isreal", "LogicalAnd", "LogicalOr", "LogicalNot", "LogicalXor", "BitwiseAnd",
        "BitwiseInvert", "BitwiseLeftShift", "BitwiseNot", "BitwiseOr", "BitwiseRightShift", "BitwiseXor",
        "LeftShift", "RightShift",
    ]),
    (operations, Elementwise(), [
        "Relu", "ReLU", "Relu6", "Sigmoid", "SparseSigmoid", "Softplus", "Softsign", "SoftShrink", "SparsePlus",
        "Silu", "Squareplus", "LogSigmoid", "LeakyRelu", "HardSigmoid", "HardSilu", "Elu", "Selu", "Gelu", "Mish",
        "Celu", "TanhShrink", "HardTanh", "HardShrink", "Threshold", "Erf", "Erfc", "Erfinv", "Rsqrt",
    ]),
    (operations, Elementwise(), [
        "Cast", "ConvertToTensor", "SaturateCast", "StopGradient", "FullLike",
    ]),
    (operations, Clipping(), ["Clip"]),
    (operations, Compared(), ["Digitize", "IsIn"]),
]  # fmt: skip

for _those, _rule, _names in _BY_NAME:
    for _type in _those(*_names):
        register_rule(_type, _rule)
register_rule(operation("ZerosLike"), Filled(0.0))
register_rule(operation("OnesLike"), Filled(1.0))
for _type in (keras.layers.Multiply, operation("Multiply")):
    register_rule(_type, Product())
register_rule(keras.layers.Add, Sum())
register_rule(operation("Add"), Addition())
for _type in (keras.layers.Subtract, operation("Subtract")):
    register_rule(_type, Sum(first_stays=True))
register_rule(keras.layers.Rescaling, Rescaling())
register_rule(keras.layers.PReLU, ParametricReLU())
