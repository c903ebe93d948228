"""Layers of the user's that do nothing at inference, and change elements at random in training (stochastic depth).

Such a call is no graph, for it draws other numbers each time. It is enough to see that it draws them for any width, and
that no element reaches another one: then channels leave through it as through Dropout, and the layer stays.
"""

import keras
import numpy as np
from keras import tree

from tf_terngrad.keras_internals import nodes
from tf_terngrad.sparsity.graph.trace import BATCHES, Closed, Tracing, traced
from tf_terngrad.sparsity.rules.registry import rule_for


def is_noise(layer, args, kwargs) -> bool:
    """Whether a call of a layer passes its tensor on at inference, and in training changes its elements at random.

    It is traced as it is called, and with one channel more.
    """
    tensors = [value for value in tree.flatten((args, kwargs)) if isinstance(value, keras.KerasTensor)]
    wide = len(tensors) == 1 and len(tensors[0].shape) > 1 and tensors[0].shape[-1]
    if not wide or layer.trainable_variables or not all(map(_is_seed, layer.variables)):
        return False
    try:
        return all(_passes(layer, *_wider(more, args, kwargs)) for more in (0, 1))
    except Closed:
        return False


def _wider(more, args, kwargs):
    def widened(value):
        if not isinstance(value, keras.KerasTensor):
            return value
        *shape, width = value.shape
        return keras.KerasTensor((*shape, width + more), value.dtype)

    return tree.map_structure(widened, (args, kwargs))


def _passes(layer, args, kwargs):
    at_inference = traced(layer, args, kwargs, BATCHES[0], Tracing(training=False)).graph
    if nodes(at_inference) or at_inference.outputs[0] is not at_inference.inputs[0]:
        return False
    pair = [traced(layer, args, kwargs, BATCHES[0], _Drawing(training=True)) for _ in range(2)]
    shapes = {tuple(tensor.shape) for each in pair for tensor in (each.graph.inputs[0], *each.graph.outputs)}
    calls = [nodes(each.graph) for each in pair]
    return (
        len(shapes) == 1
        and all(rule_for(node.operation).elementwise for each in calls for node in each)
        and all(_are_drawn(*arrays) for arrays in zip(*map(_arrays, pair), strict=True))
    )


def _arrays(trace):
    """All arrays that a trace computes with."""
    given = tree.flatten([(node.arguments.args, node.arguments.kwargs) for node in nodes(trace.graph)])
    given = [value for value in given if isinstance(value, np.ndarray) or keras.ops.is_tensor(value)]
    return [*(constant.array for constant in trace.constants), *map(keras.ops.convert_to_numpy, given)]


def _are_drawn(one, another):
    """Whether an array is a single number, or another one each time."""
    return one.size == 1 or not np.array_equal(one, another)


def _is_seed(variable):
    return variable.name.startswith("seed_generator_state")


class _Drawing(Tracing):
    """A trace in which random numbers may be drawn; the states of their generators stay."""

    _RANDOM = np.random.default_rng(0)

    def get_current_value(self, variable):
        if not _is_seed(variable):
            return super().get_current_value(variable)
        return keras.ops.convert_to_tensor(self._RANDOM.integers(0, 2**31, variable.shape), variable.dtype)

    def add_update(self, update):
        if not _is_seed(update[0]):
            super().add_update(update)
