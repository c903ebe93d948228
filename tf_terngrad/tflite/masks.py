"""Masks of attention in files of int8: a number for "never" that is not far from the scores beside it.

A mask sets the scores of steps that do not count to a huge negative number, such as -1e9. In int8, one step of such a
tensor is larger than all other scores together, and attention becomes a plain mean. A number a little below all scores
does the same behind a softmax.
"""

import numpy as np
import tensorflow as tf

from tf_terngrad.keras_internals import set_constant

HUGE = 1e3
"""Numbers of a larger magnitude stand for "never"."""

MARGIN = 8.0
"""How far below the least score they are put: e^-8 is less than half a step of a softmax in int8, 1/256."""

_BETWEEN = {
    *("Add", "AddV2", "BroadcastTo", "Cast", "Const", "ExpandDims", "Identity", "Mul", "Neg", "Pack", "Reshape"),
    *("Select", "SelectV2", "Squeeze", "StridedSlice", "Sub", "Tile", "Transpose"),
}
"""Operators that may stand between a mask's number and a softmax."""


def has_masks(graph):
    """Whether a mask reaches a softmax of a graph."""
    return any(constants for _, constants in _masked(graph))


def extremes(graph):
    """The least and the largest of the scores that are not masked, tensors of the graph by name."""
    scores = [each for each, constants in _masked(graph) if constants]
    counted = [tf.where(tf.abs(each) < HUGE, each, 0.0) for each in scores]
    least, most = ([reduce(each) for each in counted] for reduce in (tf.reduce_min, tf.reduce_max))
    return {"least": tf.reduce_min(tf.stack(least)), "most": tf.reduce_max(tf.stack(most))}


def bring_near(graph, least, most):
    """Put all numbers that stand for "never" a little below the scores, while the graph is traced.

    Args:
        graph: a `tf.Graph`.
        least: of the scores. A masked score is the number itself, or a score to which the number is added.
        most: of the scores.
    """
    never = MARGIN + max(most - least, -least)
    for _, constants in _masked(graph):
        for operation in constants:
            array = _array(operation)
            set_constant(operation, np.where(np.abs(array) > HUGE, np.sign(array) * never, array).astype(array.dtype))


def _masked(graph):
    """The scores that enter each softmax, and the constants with huge numbers that reach them."""
    softmaxes = [operation for operation in graph.get_operations() if operation.type == "Softmax"]
    return [(each.inputs[0], list(_constants(each.inputs[0].op))) for each in softmaxes]


def _constants(operation):
    waiting, seen = [operation], set()
    while waiting:
        last = waiting.pop()
        if last.name in seen or last.type not in _BETWEEN:
            continue
        seen.add(last.name)
        waiting += [tensor.op for tensor in last.inputs]
        if last.type == "Const" and last.outputs[0].dtype.is_floating and (np.abs(_array(last)) > HUGE).any():
            yield last


def _array(operation):
    return tf.make_ndarray(operation.get_attr("value"))
