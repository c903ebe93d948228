"""A variance that is written by hand, mean(square(x - mean(x))): one operation, of which it is known what zeros add."""

import numpy as np

from tf_terngrad.keras_internals import named, node_of, operation

_MEAN, _SQUARE, _POWER = map(operation, ("Mean", "Square", "Power"))


def as_variance(node, args):
    """The variance that a mean is, as (operation, its tensor), in the graph of the tensors `args`; None: it is none."""
    if not isinstance(node.operation, _MEAN):
        return None
    difference = _made_by(_squared(args[0]), operation("Subtract"))
    if difference is None or len(difference) < 2:
        return None
    tensor, mean = difference
    mean = next(iter(_made_by(mean, operation("StopGradient")) or [mean]))
    of_same = _made_by(mean, _MEAN)
    if of_same is None or of_same[0] is not tensor:
        return None
    inner = node_of(mean).operation
    if not inner.keepdims or _axes(inner, tensor) != _axes(node.operation, tensor):
        return None
    same = operation("Var")(axis=node.operation.axis, keepdims=node.operation.keepdims)
    return named(same, node.operation.name), tensor


def _squared(tensor):
    """What a tensor is the square of; None: it is no square."""
    power = _made_by(tensor, _POWER)
    if power and np.ndim(power[-1]) == 0 and power[-1] == 2:
        return power[0]
    return next(iter(_made_by(tensor, _SQUARE) or [None]))


def _made_by(tensor, kind):
    """What the operation of this kind that made a tensor was called on; None: another one made it."""
    node = None if tensor is None else node_of(tensor)
    return list(node.arguments.args) if node and isinstance(node.operation, kind) else None


def _axes(operation, tensor):
    rank = len(tensor.shape)
    axes = range(rank) if operation.axis is None else np.ravel(operation.axis)
    return {int(axis) % rank for axis in axes}
