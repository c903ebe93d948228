"""What a call combines element by element: tensors of the model, and arrays whose entries leave with the channels."""

import keras
import numpy as np
from keras import tree

from tf_terngrad.sparsity.graph.channels import Edge


def operands(call):
    """The tensors and arrays that a call combines, in order; a list of numbers is one array."""
    return [_as_array(value) for value in _leaves(call) if is_array(value)]


def constants(call):
    """Everything that a call combines and that is no tensor of the graph, numbers among them."""
    return (value for value in _leaves(call) if value is not None and not _is_tensor(value))


def is_array(value):
    """Whether something is a tensor of the graph, or an array with an axis of its own."""
    return _is_tensor(value) or (not isinstance(value, (str, dict)) and np.ndim(value) > 0)


def is_variable(value):
    """Whether something is a weight."""
    return isinstance(value, keras.Variable)


def values_along(operand, back, size):
    """What each position of an axis, `back` from the end, holds wherever one looks (NaN: that is not one number)."""
    if isinstance(operand, Edge):
        channels = operand.axes[-back] if len(operand.shape) >= back else None
        return np.broadcast_to(operand.number if channels is None else channels.values, size)
    rows = operand[None] if operand.ndim < back else np.moveaxis(operand, -back, 0)
    rows = rows.reshape(len(rows), -1).astype(np.float64)
    return np.broadcast_to(np.where((rows == rows[:, :1]).all(1), rows[:, 0], np.nan), size)


def replaced(replace, args, kwargs):
    """The arguments of a call with `replace(value)` for all that it combines."""

    def each(value):
        if isinstance(value, (list, tuple)) and any(map(_is_tensor, tree.flatten(value))):
            return type(value)(map(each, value))
        return value if value is None else replace(value)

    return tuple(map(each, args)), {name: each(value) for name, value in kwargs.items()}


def cut(kept, call, args, kwargs):
    """The arguments of the smaller call: of every array what lies along channels that stay."""
    return replaced(lambda value: _cut(kept, call, value), args, kwargs)


def _cut(kept, call, value):
    if _is_tensor(value) or is_variable(value) or not is_array(value):
        return value
    array = smaller = _as_array(value)
    for back in range(1, array.ndim + 1):
        channels = call.output.axes[-back]
        if channels is not None and array.shape[-back] == len(channels) > 1:
            smaller = smaller.compress(kept.mask(channels), axis=-back)
    return value if smaller.shape == array.shape else _like(value, smaller)


def _like(value, array):
    """An array as the kind of thing that another one is."""
    if isinstance(value, np.ndarray):
        return array
    return array.tolist() if isinstance(value, (list, tuple)) else keras.ops.convert_to_tensor(array)


def _leaves(call):
    leaves = []
    replaced(leaves.append, call.args, call.kwargs)
    return leaves


def _as_array(value):
    return value if isinstance(value, Edge) else np.asarray(value)


def _is_tensor(value):
    return isinstance(value, (Edge, keras.KerasTensor))
