"""Convolutions: plain, grouped, transposed, depthwise and separable, in one, two and three dimensions."""

import math

import keras
import numpy as np

from tf_terngrad.keras_internals import operation
from tf_terngrad.sparsity.graph.channels import Channels
from tf_terngrad.sparsity.rules.activation import activate
from tf_terngrad.sparsity.rules.axes import BIAS, DEPTHWISE, PLAIN, TRANSPOSED, inside
from tf_terngrad.sparsity.rules.base import Frozen, Rule
from tf_terngrad.sparsity.rules.contraction import Contraction
from tf_terngrad.sparsity.rules.registry import register_rule


class Windowed(Rule):
    """What slides a window: taps that are zero leave, and where the window then begins elsewhere, a border makes up."""

    def config(self, call, kept):
        return {**call.layer.get_config(), **kept.window(call.layer)}

    def rebuild(self, builder, call, args, kwargs):
        tensor, *others = args
        return super().rebuild(builder, call, (builder.with_border(call, tensor), *others), kwargs)


class Convolution(Windowed):
    """Kernel (*taps, in / groups, filters). Only without padding does a constant channel stay constant.

    Use it when a layer of your own is a convolution whose kernel is laid out as Keras has it.
    """

    kind = "filter"

    def axes(self, layer):
        return {"kernel": PLAIN, "bias": BIAS}

    def window(self, layer):
        return layer.kernel

    def follow(self, call):
        layer, graph = call.layer, call.graph
        axis = enter(call)
        entering = call.inputs[0].axes[axis]
        groups, width = layer.groups, layer.kernel.shape[-2]
        if groups > 1 and width == 1:
            follow_depthwise(call, axis, layer.kernel, layer.filters // groups)
            return
        if groups > 1 and entering is not None:
            _tie_groups(graph, entering.units.reshape(groups, width))
        units = graph.born(layer.kernel, -1, layer.filters)
        if groups > 1:
            _tie_groups(graph, units.reshape(groups, -1))
        call.label(layer.kernel, -1, units, "kernel", produced=True)
        call.label(layer.bias, 0, units, "bias")
        call.label(layer.kernel, -2, entering and entering.units[:width], "kernel")
        values = call.read(
            layer.kernel, -2, entering, lambda: self.kernel(call), (units,), keeps_constants(layer), layer.bias
        )
        call.output.axes[axis] = Channels(units, values)
        activate(call, layer.activation)

    def kernel(self, call):
        """The kernel as (in, out, taps), zero between groups."""
        array, groups = call.graph.value(call.layer.kernel), call.layer.groups
        array = np.moveaxis(array, (-2, -1), (0, 1)).reshape(*array.shape[-2:], -1)
        if groups == 1:
            return array
        width, filters, taps = array.shape
        full = np.zeros((groups, width, groups, filters // groups, taps), array.dtype)
        for group in range(groups):
            full[group, :, group] = array.reshape(width, groups, -1, taps)[:, group]
        return full.reshape(groups * width, filters, taps)

    def config(self, call, kept):
        layer = call.layer
        config, axis = super().config(call, kept), channel_axis(layer)
        if call.output.axes[axis] is not None:
            config["filters"] = kept.width(call.output.axes[axis])
            if layer.groups > 1 and layer.kernel.shape[-2] == 1:
                config["groups"] = kept.width(call.inputs[0].axes[axis])
        return config

    def multiply_adds(self, layer, output, inputs):
        return plain_cost(output, inputs, layer.kernel)


class TransposedConvolution(Rule):
    """Kernel (*taps, filters, in). The borders see fewer taps, so only zero is a constant that passes."""

    kind = "filter"

    def axes(self, layer):
        return {"kernel": TRANSPOSED, "bias": BIAS}

    def follow(self, call):
        layer, graph = call.layer, call.graph
        axis = enter(call)
        entering = call.inputs[0].axes[axis]
        units = graph.born(layer.kernel, -2, layer.filters)
        call.label(layer.kernel, -2, units, "kernel", produced=True)
        call.label(layer.bias, 0, units, "bias")
        call.label(layer.kernel, -1, entering and entering.units, "kernel")

        def kernel():
            array = graph.value(layer.kernel)
            return np.moveaxis(array, (-1, -2), (0, 1)).reshape(array.shape[-1], array.shape[-2], -1)

        values = call.read(layer.kernel, -1, entering, kernel, (units,), False, layer.bias)
        call.output.axes[axis] = Channels(units, values)
        activate(call, layer.activation)

    def config(self, call, kept):
        return {**call.layer.get_config(), "filters": kept.width(call.output.axes[channel_axis(call.layer)])}

    def multiply_adds(self, layer, output, inputs):
        return transposed_cost(output, inputs, layer.kernel)


class DepthwiseConvolution(Windowed):
    """Kernel (*taps, in, multiplier): every input channel leaves with its own outputs."""

    kind = "filter"

    def axes(self, layer):
        return {"kernel": DEPTHWISE, "bias": BIAS}

    def window(self, layer):
        return layer.kernel

    def follow(self, call):
        follow_depthwise(call, enter(call), call.layer.kernel, call.layer.depth_multiplier)

    def multiply_adds(self, layer, output, inputs):
        return depthwise_cost(output, inputs, layer.kernel)


class SeparableConvolution(Windowed):
    """A depthwise kernel (*taps, in, multiplier), then a pointwise one (*1, in * multiplier, filters)."""

    kind = "filter"

    def axes(self, layer):
        return {"depthwise_kernel": inside(DEPTHWISE), "pointwise_kernel": PLAIN, "bias": BIAS}

    def window(self, layer):
        return layer.depthwise_kernel

    def follow(self, call):
        layer, graph = call.layer, call.graph
        axis = enter(call)
        entering = call.inputs[0].axes[axis]
        units = graph.born(layer.pointwise_kernel, -1, layer.filters)
        call.label(layer.pointwise_kernel, -1, units, "kernel", produced=True)
        call.label(layer.bias, 0, units, "bias")
        if entering is not None:
            entering = depthwise(call, entering, layer.depthwise_kernel, layer.depth_multiplier, None)
            call.label(layer.pointwise_kernel, -2, entering.units, "kernel")

        def kernel():
            return graph.value(layer.pointwise_kernel).reshape(-1, layer.filters)[..., None]

        values = call.read(layer.pointwise_kernel, -2, entering, kernel, (units,), True, layer.bias)
        call.output.axes[axis] = Channels(units, values)
        activate(call, layer.activation)

    def config(self, call, kept):
        return {**super().config(call, kept), "filters": kept.width(call.output.axes[channel_axis(call.layer)])}

    def multiply_adds(self, layer, output, inputs):
        return separable_cost(output, inputs, layer.depthwise_kernel, layer.pointwise_kernel)


def channel_axis(layer):
    """The axis of the channels, from the end or from the front."""
    return -1 if layer.data_format == "channels_last" else 1


def enter(call):
    """The channel axis of a convolution; channels followed along a spatial axis are frozen."""
    axis = channel_axis(call.layer)
    edge = call.inputs[0]
    for other, channels in enumerate(edge.axes):
        if channels is not None and other != axis % len(edge.shape):
            call.freeze_axis(channels, "a convolution slides along this axis")
    return axis


def keeps_constants(layer):
    """Whether a constant input gives a constant output: no padding, or a kernel of one tap."""
    return layer.padding == "valid" or all(size == 1 for size in layer.kernel_size)


def follow_depthwise(call, axis, kernel, multiplier):
    """A convolution that keeps channels apart, with bias and activation."""
    entering = call.inputs[0].axes[axis]
    if entering is None:
        return
    leaving = depthwise(call, entering, kernel, multiplier, call.layer.bias)
    call.output.axes[axis] = leaving
    activate(call, call.layer.activation)


def depthwise(call, entering, kernel, multiplier, bias):
    """The channels behind a depthwise kernel; `kernel` is (*taps, in, multiplier) or grouped (*taps, 1, out)."""
    units = np.repeat(entering.units, multiplier)
    if kernel.shape[-2] == len(entering):
        call.label(kernel, -2, entering.units, "kernel")
    else:
        call.label(kernel, -1, units, "kernel")
    call.label(bias, 0, units, "bias")
    if call.graph.tolerance is None:
        return Channels.of(units)
    taps = call.graph.value(kernel).reshape(-1, len(units))
    bias = 0.0 if bias is None else call.graph.value(bias)
    entered = np.repeat(entering.values, multiplier)
    known = (entered == 0) | (~np.isnan(entered) & keeps_constants(call.layer))
    values = np.where(known, np.where(known, entered, 0) * taps.sum(0, dtype=np.float64), np.nan)
    values[(np.abs(taps) <= call.graph.tolerance).all(0)] = 0.0
    return Channels(units, values + bias)


def _tie_groups(graph, units):
    """Every group must keep as many channels as the others: position by position they leave together."""
    for group in units[1:]:
        graph.units.tie(units[0], group)


def plain_cost(output, inputs, kernel):
    """Kernel (*taps, inputs / groups, filters): each output reads all but its last axis."""
    return math.prod(output.shape) * math.prod(kernel.shape[:-1])


def transposed_cost(output, inputs, kernel):
    """Kernel (*taps, filters, inputs): each input position spreads over all taps."""
    return math.prod(inputs.shape) * math.prod(kernel.shape[:-1])


def depthwise_cost(output, inputs, kernel):
    """Kernel (*taps, inputs, multiplier): an output reads one channel."""
    return math.prod(output.shape) * math.prod(kernel.shape[:-2])


def separable_cost(output, inputs, depthwise_kernel, pointwise_kernel):
    """Both kernels, at every output position."""
    positions = math.prod(output.shape) // max(pointwise_kernel.shape[-1], 1)  # filters; a table asks for none, too
    return positions * (math.prod(depthwise_kernel.shape) + math.prod(pointwise_kernel.shape))


class ConvolutionByTensor(Contraction):
    """A convolution whose kernel is computed, as from standardized weights: a sum over input channels at each tap."""

    def follow(self, call):
        image, kernel = call.inputs[0], call.inputs[-1]
        last = (call.layer.data_format or keras.config.image_data_format()) == "channels_last"
        if not last or (len(call.inputs) == 2 and image.shape[-1] != kernel.shape[-2]):
            call.freeze(call.inputs, "a computed kernel is followed where channels stand last, in one group")
            return
        for channels in (*image.axes[1:-1], *kernel.axes[:-2]):
            call.freeze_axis(channels, "a convolution slides along this axis")
        super().follow(call)

    def remaining(self, call, summed):
        return [(len(call.output.shape) - 1, call.inputs[1].axes[-1])]

    def multiply_adds(self, layer, output, inputs, kernel):
        return plain_cost(output, inputs, kernel)


class ConvolutionOperation(Frozen):
    """A convolution whose kernel is a tensor: not followed. `cost` is a function (output, inputs, *kernels)."""

    def __init__(self, cost):
        super().__init__("its kernel is no weight of a layer")
        self.cost = cost

    def multiply_adds(self, layer, output, inputs, *kernels):
        return self.cost(output, inputs, *kernels)


for _rank in ("1D", "2D", "3D"):
    register_rule(getattr(keras.layers, f"Conv{_rank}"), Convolution())
    register_rule(getattr(keras.layers, f"Conv{_rank}Transpose"), TransposedConvolution())
for _rank in ("1D", "2D"):
    register_rule(getattr(keras.layers, f"DepthwiseConv{_rank}"), DepthwiseConvolution())
    register_rule(getattr(keras.layers, f"SeparableConv{_rank}"), SeparableConvolution())
for _operation, _cost in (
    ("ConvTranspose", transposed_cost),
    ("DepthwiseConv", depthwise_cost),
    ("SeparableConv", separable_cost),
):
    register_rule(operation(_operation), ConvolutionOperation(_cost))
register_rule(operation("Conv"), ConvolutionByTensor())
