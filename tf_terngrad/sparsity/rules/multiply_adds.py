"""The multiply-adds of one call of a layer: one rule a layer type."""

import math

import keras

from tf_terngrad.keras_internals import LayerScale, attention_axes, attention_parts, operation

layers = keras.layers

_RULES = {}


def register_cost(*layer_types):
    """Teach the counter what a layer type costs.

    The rule is a function (layer, output, *the call's arguments) -> multiply-adds; output and arguments are symbolic
    tensors whose shapes begin with a batch of one.

    Args:
        *layer_types: `keras.layers.Layer` or `keras.Operation` classes. A subclass follows the rule too, unless it
            computes in a `call` of its own.

    Raises:
        TypeError: for anything else.

    Example:

    ```python
    @tt.register_cost(Gate)
    def gate(layer, output, inputs):
        return math.prod(output.shape) * inputs.shape[-1]
    ```
    """
    for layer_type in layer_types:
        if not (isinstance(layer_type, type) and issubclass(layer_type, keras.Operation)):
            raise TypeError(f"Expected classes of Keras layers or operations. Received: {layer_type!r}")

    def register(rule):
        _RULES.update(dict.fromkeys(layer_types, rule))
        return rule

    return register


def cost_rule(layer):
    """The rule for a layer or operation."""
    for base in type(layer).__mro__:
        if base in _RULES:
            return _RULES[base]
        if "call" in vars(base) and not base.__module__.startswith("keras."):
            return unknown
    return unknown if getattr(layer, "weights", ()) else nothing


def einsum_size(equation, *tensors):
    """The product of the sizes of all letters of an einsum: its multiply-adds.

    >>> import numpy as np
    >>> einsum_size("ab,bc->ac", np.ones((2, 3)), np.ones((3, 5)))
    30
    """
    sizes = {}
    for term, tensor in zip(equation.replace(" ", "").split("->")[0].split(","), tensors, strict=True):
        before, dots, after = term.partition("...")
        shape = tensor.shape
        end = len(shape) - len(after)
        sizes.update(zip(before, shape, strict=False))
        sizes.update(zip(after, shape[end:], strict=True))
        if dots:
            sizes["..."] = max(sizes.get("...", 1), math.prod(shape[len(before) : end]))
    return math.prod(sizes.values())


@register_cost(
    layers.BatchNormalization,
    layers.LayerNormalization,
    layers.RMSNormalization,
    layers.GroupNormalization,
    layers.Normalization,
    layers.PReLU,
    layers.Embedding,
    LayerScale,
)
def nothing(layer, output, *args, **kwargs):
    """Layers that multiply no matrices."""
    return 0


@register_cost(layers.ReversibleEmbedding)
def reversible_embedding(layer, output, inputs, reverse=False):
    """In reverse, each output reads each input."""
    return _size(output) * inputs.shape[-1] if reverse else 0


@register_cost(layers.Lambda)
def unknown(layer, output, *args, **kwargs):
    """Layers that may do anything."""
    return None


@register_cost(layers.Dense)
def dense(layer, output, inputs):
    """Each output reads each input."""
    return _size(output) * inputs.shape[-1]


@register_cost(layers.EinsumDense)
def einsum_dense(layer, output, inputs):
    """All letters of the equation."""
    return einsum_size(layer.equation, inputs, layer.kernel)


@register_cost(layers.Conv1D, layers.Conv2D, layers.Conv3D)
def convolution(layer, output, inputs):
    """Kernel (*taps, inputs / groups, filters)."""
    return _size(output) * math.prod(layer.kernel.shape[:-1])


@register_cost(layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
def transposed_convolution(layer, output, inputs):
    """Kernel (*taps, filters, inputs): each input position spreads over all taps."""
    return _size(inputs) * math.prod(layer.kernel.shape[:-1])


@register_cost(layers.DepthwiseConv1D, layers.DepthwiseConv2D)
def depthwise_convolution(layer, output, inputs):
    """Kernel (*taps, inputs, multiplier): an output reads one channel."""
    return _size(output) * math.prod(layer.kernel.shape[:-2])


@register_cost(layers.SeparableConv1D, layers.SeparableConv2D)
def separable_convolution(layer, output, inputs):
    """A depthwise and then a pointwise convolution, at every output position."""
    kernels = (layer.depthwise_kernel, layer.pointwise_kernel)
    return _size(output) // layer.filters * sum(map(_size, kernels))


@register_cost(layers.RNN)
def recurrent(layer, output, sequences, *args, **kwargs):
    """The cell, at every step."""
    batch, steps, *rest = sequences.shape
    once = _cell_cost(layer.cell, keras.KerasTensor((batch, *rest), sequences.dtype))
    return None if once is None else steps * once


@register_cost(layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell)
def gated_cell(cell, output, inputs, *args, **kwargs):
    """Input and recurrent kernels."""
    return inputs.shape[0] * (_size(cell.kernel) + _size(cell.recurrent_kernel))


@register_cost(layers.StackedRNNCells)
def stacked_cells(cell, output, inputs, *args, **kwargs):
    """One cell after the other."""
    costs = []
    for inner in cell.cells:
        costs.append(_cell_cost(inner, inputs))
        inputs = _cell_output(inner, inputs)
    return None if None in costs else sum(costs)


@register_cost(layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D)
def convolutional_lstm(layer, output, sequence, *args, **kwargs):
    """Input and recurrent kernels, at every step and output position."""
    rank = layer.cell.rank
    positions = output.shape[-rank:] if layer.data_format == "channels_first" else output.shape[-rank - 1 : -1]
    kernels = _size(layer.cell.kernel) + _size(layer.cell.recurrent_kernel)
    return math.prod(sequence.shape[:2]) * math.prod(positions) * kernels


@register_cost(layers.MultiHeadAttention, layers.GroupQueryAttention)
def multi_head_attention(layer, output, query, value, key=None, **kwargs):
    """Projections into and out of the heads, the scores and the weighted sum; masks count nothing."""
    queries, values, parts = math.prod(query.shape[:-1]), math.prod(value.shape[:-1]), attention_parts(layer)
    projections = queries * sum(_size(parts[name].kernel) for name in ("query", "output", "gate") if name in parts)
    projections += values * sum(_size(parts[name].kernel) for name in ("key", "value"))
    attended = math.prod(value.shape[axis] for axis in attention_axes(layer))
    heads, key_size = parts["query"].kernel.shape[-2:]
    value_size = parts["value"].kernel.shape[-1]
    return projections + queries * attended * heads * (key_size + value_size)


@register_cost(layers.Attention, layers.AdditiveAttention)
def attention(layer, output, inputs, *args, **kwargs):
    """The scores and the weighted sum."""
    query, value = inputs[:2]
    return math.prod(query.shape[:-1]) * value.shape[1] * (query.shape[-1] + value.shape[-1])


@register_cost(layers.Dot)
def dot(layer, output, inputs):
    """Each output sums over the contracted axis."""
    axis = layer.axes if isinstance(layer.axes, int) else layer.axes[0]
    return _size(output) * inputs[0].shape[axis]


@register_cost(operation("Matmul"), operation("Dot"), operation("Inner"))
def matmul(layer, output, x1, x2):
    """Each output sums over the last axis of the first factor."""
    return _size(output) * x1.shape[-1]


@register_cost(operation("Tensordot"))
def tensordot(layer, output, x1, x2):
    """Each output sums over the contracted axes."""
    if isinstance(layer.axes, int):
        return _size(output) * math.prod(x1.shape[len(x1.shape) - layer.axes :])
    first = layer.axes[0]
    return _size(output) * math.prod(x1.shape[axis] for axis in ([first] if isinstance(first, int) else first))


@register_cost(operation("Einsum"))
def einsum(layer, output, *tensors):
    """All letters of the subscripts."""
    return einsum_size(layer.subscripts, *tensors)


@register_cost(operation("Conv"))
def convolution_operation(layer, output, inputs, kernel):
    """Kernel (*taps, inputs / groups, filters)."""
    return _size(output) * math.prod(kernel.shape[:-1])


@register_cost(operation("DepthwiseConv"))
def depthwise_operation(layer, output, inputs, kernel):
    """Kernel (*taps, inputs, multiplier)."""
    return _size(output) * math.prod(kernel.shape[:-2])


@register_cost(operation("SeparableConv"))
def separable_operation(layer, output, inputs, depthwise_kernel, pointwise_kernel):
    """Depthwise and pointwise kernels, at every output position."""
    return _size(output) // pointwise_kernel.shape[-1] * (_size(depthwise_kernel) + _size(pointwise_kernel))


@register_cost(operation("ConvTranspose"))
def transposed_operation(layer, output, inputs, kernel):
    """Kernel (*taps, filters, inputs)."""
    return _size(inputs) * math.prod(kernel.shape[:-1])


@register_cost(operation("DotProductAttention"))
def attention_operation(layer, output, query, key, value, *args, **kwargs):
    """The scores and the weighted sum; tensors are (batch, positions, heads, size)."""
    return _size(query) * key.shape[1] + _size(output) * key.shape[1]


def _cell_cost(cell, inputs):
    """What a cell costs in one step."""
    return cost_rule(cell)(cell, _cell_output(cell, inputs), inputs)


def _cell_output(cell, inputs):
    size = getattr(cell, "output_size", None) or keras.tree.flatten(cell.state_size)[0]
    return keras.KerasTensor((inputs.shape[0], size), inputs.dtype)


def _size(tensor):
    return math.prod(tensor.shape)
