"""Whether a function, given as an activation, acts on each element by itself: by what it calls, or shown by numbers.

A function of Keras operations is called on symbolic tensors, and the rules of its operations say it. What calls
TensorFlow itself cannot be traced so; it is tried on numbers instead.
"""

import dataclasses
import weakref

import keras
import numpy as np
from keras import tree

from tf_terngrad.keras_internals import nodes, own_names
from tf_terngrad.sparsity.rules import trial
from tf_terngrad.sparsity.rules.along import Along
from tf_terngrad.sparsity.rules.base import Frozen
from tf_terngrad.sparsity.rules.registry import function_rule, rule_for

_SHAPES = ((None, 5), (None, 3, 7), (2, 3, 4, 6))
"""What a function is traced on: its operations must be the same, with the same numbers, for every rank and width."""

_VERDICTS = weakref.WeakKeyDictionary()


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether a function acts on each element by itself.

    Attributes:
        reason: why it may not, as what follows its name; None: it does.
        by_numbers: whether it was tried, for its operations could not be seen.
    """

    reason: str | None = None
    by_numbers: bool = False


def verdict(function) -> Verdict:
    """What is known of a function or of a layer that is given as an activation."""
    if isinstance(function, keras.layers.Layer):
        return _of_layer(function)
    rule = function_rule(function)
    if rule is not None:
        return Verdict(f"stays as it is: {rule.reason}" if isinstance(rule, Frozen) else None)
    try:
        known = _VERDICTS.get(function)
    except TypeError:  # what Python cannot hold weakly or hash is examined each time
        return _examined(function)
    return known or _examined_once(function)


def _of_layer(layer):
    """An activation that is a layer: known by its rule; an `Activation` is what it holds."""
    if type(layer) is keras.layers.Activation:
        return verdict(layer.activation)
    return Verdict(None if rule_for(layer).elementwise else "is not known to act on each element by itself")


def _examined_once(function):
    found = _examined(function)
    if not found.reason:  # a rule that somebody registers later may take a reason away
        _VERDICTS[function] = found
    return found


def _examined(function):
    with own_names():
        traces = _traces(function)
        return Verdict(trial.fault(function), by_numbers=True) if traces is None else Verdict(_fault_of(traces))


def _traces(function):
    """The calls of operations on each of the shapes, as (operation, arguments); None where it cannot be traced."""
    return [calls for shape in _SHAPES if (calls := _traced(function, shape)) is not None] or None


def _traced(function, shape):
    tensor = keras.Input(batch_shape=shape, name="x")
    try:
        result = function(tensor)
    except Exception:  # a stranger's code may raise anything where it gets no numbers
        return None
    if result is tensor:
        return []
    if not isinstance(result, keras.KerasTensor) or result.shape != tensor.shape:
        return None
    return [(node.operation, node.arguments) for node in nodes(keras.Function(tensor, result))]


def _fault_of(traces):
    """Why traced calls are not a function of single elements; None: they are."""
    if len(traces) < len(_SHAPES):
        return "takes tensors of some shapes only"
    for operation, arguments in traces[0]:
        if isinstance(rule_for(operation), Along):
            return "runs across channels"
        if not rule_for(operation).elementwise:
            return f"is not known to act on each element by itself: it calls {type(operation).__name__}"
        if any(np.size(number) > 1 for number in _numbers(operation, arguments)):
            return "holds an array, whose width is fixed"
    if any(_signature(trace) != _signature(traces[0]) for trace in traces[1:]):
        return "depends on the shape of its input"
    return None


def _signature(trace):
    return [(type(op), [np.asarray(n).tolist() for n in _numbers(op, arguments)]) for op, arguments in trace]


def _numbers(operation, arguments):
    """All numbers and arrays that a call computes with: of the operation itself, and those that it is called with."""
    made_with = [value for name, value in sorted(vars(operation).items()) if name[0] != "_" and _is_number(value)]
    given = tree.flatten((arguments.args, arguments.kwargs))
    return [*made_with, *(value for value in given if _is_number(value))]


def _is_number(value):
    is_array = isinstance(value, (np.ndarray, np.generic, keras.Variable)) or keras.ops.is_tensor(value)
    return is_array or isinstance(value, (int, float, list, tuple))
