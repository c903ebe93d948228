"""Layers of the user's that do nothing at inference, and change elements at random in training (stochastic depth).

Such a call is no graph, for it draws other numbers each time. It is enough to see that it draws them for any width, and
that no element reaches another one: then channels leave through it as through Dropout, and the layer stays.
"""

import keras
import numpy as np
from keras import tree

from tf_terngrad.keras_internals import computes_mask, nodes
from tf_terngrad.sparsity.graph.own_weights import is_seed
from tf_terngrad.sparsity.graph.sizes import INFERENCE
from tf_terngrad.sparsity.graph.symbolic import is_array, tensors_of
from tf_terngrad.sparsity.graph.trace import Closed, Tracing, traced
from tf_terngrad.sparsity.rules.elementwise import Passing
from tf_terngrad.sparsity.rules.registry import rule_for

_DRAWS = 5
"""How often a call is traced: that few random bits are the same each time is chance, and not likely."""


def is_noise(layer, args, kwargs) -> bool:
    """Whether a call of a layer passes its tensor on at inference, and in training changes its elements at random.

    It is traced as it is called, and on a tensor that is longer by one along every axis.
    """
    if computes_mask(layer):  # it may read every channel
        return False
    if len(tensors_of((args, kwargs))) != 1 or layer.trainable_variables or not all(map(is_seed, layer.variables)):
        return False
    try:
        return all(_passes(layer, *_wider(more, args, kwargs)) for more in (0, 1))
    except Closed:
        return False


def _wider(more, args, kwargs):
    def widened(value):
        if not isinstance(value, keras.KerasTensor):
            return value
        batch, *shape = value.shape
        return keras.KerasTensor((batch, *(size and size + more for size in shape)), value.dtype)

    return tree.map_structure(widened, (args, kwargs))


def _passes(layer, args, kwargs):
    at_inference = traced(layer, args, kwargs, INFERENCE, Tracing(training=False)).graph
    if len(at_inference.outputs) > 1 or not all(_passes_on(node.operation) for node in nodes(at_inference)):
        return False
    draws = [traced(layer, args, kwargs, INFERENCE, _Drawing(training=True)) for _ in range(_DRAWS)]
    shapes = {tuple(tensor.shape) for each in draws for tensor in (each.graph.inputs[0], *each.graph.outputs)}
    operations = [node.operation for each in draws for node in nodes(each.graph)]
    arrays = list(map(_arrays, draws))
    if len(shapes) > 1 or len(set(map(len, arrays))) > 1:
        return False
    return all(rule_for(each).elementwise for each in operations) and all(map(_are_drawn, zip(*arrays, strict=True)))


def _passes_on(operation):
    return isinstance(rule_for(operation), Passing)


def _arrays(trace):
    """All arrays that a trace computes with."""
    given = tree.flatten([(node.arguments.args, node.arguments.kwargs) for node in nodes(trace.graph)])
    return [constant.array for constant in trace.constants] + [
        keras.ops.convert_to_numpy(value) for value in given if is_array(value)
    ]


def _are_drawn(arrays):
    """Whether an array is another one each time, or the same number everywhere."""
    return any(not np.array_equal(arrays[0], other) for other in arrays) or arrays[0].max() == arrays[0].min()


class _Drawing(Tracing):
    """A trace in which random numbers may be drawn; the states of their generators stay."""

    _RANDOM = np.random.default_rng(0)

    def get_current_value(self, variable):
        if not is_seed(variable):
            return super().get_current_value(variable)
        return keras.ops.convert_to_tensor(self._RANDOM.integers(0, 2**31, variable.shape), variable.dtype)

    def add_update(self, update):
        if not is_seed(update[0]):
            super().add_update(update)
