"""Two traces of one call, compared: what is the same in both, what follows sizes that are open, and nothing else."""

import dataclasses

import keras
import numpy as np
from keras import tree

from tf_terngrad.keras_internals import nodes
from tf_terngrad.sparsity.graph.sizes import INFERENCE, SIZES, TRAINING
from tf_terngrad.sparsity.graph.symbolic import is_array
from tf_terngrad.sparsity.graph.trace import Closed, Constant, settings

_ELSE = "computes something else in training, for other sizes, or each time"


@dataclasses.dataclass(frozen=True)
class Open:
    """A number that follows sizes that are open: what it is at inference, and what it is in training."""

    inference: int
    training: int


BATCH = Open(SIZES[INFERENCE][0], SIZES[TRAINING][0])
"""The size of the batch."""


@dataclasses.dataclass
class General:
    """A call for any size where one is open; such a number is an `Open`.

    Attributes:
        given: the flat arguments, with a `Constant` where an array has a row for each example.
        settings: what the operation was made with.
        entering: the shapes of its tensors.
        shapes: the shapes of its outputs.
    """

    given: list
    settings: dict
    entering: list
    shapes: list


def compared(inference, *others):
    """What holds in all traces of a call.

    Returns:
        By id of each call of the first trace the `General` one, from each of the others; and the constants.

    Raises:
        Closed: where they differ in more than numbers that follow open sizes.
    """
    (general, constants), *again = [_compared(inference, other) for other in others]
    for odd, odd_constants in again:
        same = all(_opens(odd[key]) == _opens(each) for key, each in general.items())
        if not same or [each.batched for each in odd_constants] != [each.batched for each in constants]:
            raise Closed(_ELSE)
    return [general, *(odd for odd, _ in again)], constants


def _opens(general):
    """Which of the numbers of a call follow an open size."""
    return [isinstance(value, Open) for value in tree.flatten((general.given, general.settings, general.shapes))]


def _compared(inference, training):
    """By id of each call of the first trace the `General` one, and the constants."""
    ours, theirs = (nodes(trace.graph) for trace in (inference, training))
    if len(ours) != len(theirs) or len(inference.constants) != len(training.constants):
        raise Closed(_ELSE)
    numbers = _Numbers(inference.graph, training.graph)
    general = {}
    for node, other in zip(ours, theirs, strict=True):
        _check_training(node.operation, inference.told.get(id(node)), training.told.get(id(other)))
        general[id(node)] = _general(node, other, numbers)
        numbers.add(node, other)
    if not numbers.agree(inference.graph.outputs, training.graph.outputs):
        raise Closed(_ELSE)
    pairs = zip(inference.constants, training.constants, strict=True)
    return general, [_constant(one.array, other.array) for one, other in pairs]


class _Numbers:
    """Which tensors of one graph are which of the other."""

    def __init__(self, ours, theirs):
        self._partners = {}
        self._pair(ours.inputs, theirs.inputs)

    def add(self, node, other):
        self._pair(tree.flatten(node.output_tensors), tree.flatten(other.output_tensors))

    def agree(self, ours, theirs):
        return len(ours) == len(theirs) and all(self._partners[id(a)] is b for a, b in zip(ours, theirs, strict=True))

    def _pair(self, ours, theirs):
        if len(ours) != len(theirs):
            raise Closed(_ELSE)
        self._partners.update((id(one), other) for one, other in zip(ours, theirs, strict=True))


def _check_training(operation, inference, training):
    if (inference, training) not in ((None, None), (False, True)):  # a graph of Keras overrides what is fixed in it
        raise Closed(f"fixes `training` for {operation.name}")


def _general(node, other, numbers):
    if not _same_operation(node.operation, other.operation):
        raise Closed(_ELSE)
    flat = [tree.flatten((each.arguments.args, without_training(each))) for each in (node, other)]
    sizes = [settings(each.operation) for each in (node, other)]
    if len(flat[0]) != len(flat[1]) or sizes[0].keys() != sizes[1].keys():
        raise Closed(_ELSE)
    given = [_argument(*pair, numbers) for pair in zip(*flat, strict=True)]
    entering = _shapes(*(each.arguments.keras_tensors for each in (node, other)))
    shapes = _shapes(*(tree.flatten(each.output_tensors) for each in (node, other)))
    return General(given, {name: _setting(sizes[0][name], sizes[1][name]) for name in sizes[0]}, entering, shapes)


def _same_operation(one, other):
    """Whether two calls are of the same layer, of twins without state that the call made anew, or of one operation."""
    if one is other or type(one) is not type(other):
        return one is other
    return not isinstance(one, keras.layers.Layer) or are_twins(one, other)


def are_twins(one, other):
    """Whether two layers are the same without state, as a call makes them anew each time."""
    stateless = type(one) is type(other) and not one.variables and not other.variables
    return stateless and configuration(one) == configuration(other)


def configuration(layer):
    """What a layer is made with, but for its name; the layer itself, where it does not tell."""
    try:
        return repr(layer.get_config() | {"name": None})
    except NotImplementedError:  # of a user's own layer
        return layer


def without_training(node):
    """The named arguments of a call, but for what the graph is called with and overrides in it."""
    return {name: value for name, value in node.arguments.kwargs.items() if name != "training"}


def _argument(ours, theirs, numbers):
    if isinstance(ours, keras.KerasTensor):
        if not isinstance(theirs, keras.KerasTensor) or not numbers.agree([ours], [theirs]):
            raise Closed(_ELSE)
        return ours
    if is_array(ours) and is_array(theirs):
        constant = _constant(*map(keras.ops.convert_to_numpy, (ours, theirs)))
        return constant if constant.batched else ours
    return _setting(ours, theirs)


def _constant(ours, theirs):
    """An array that is the same in both, or one row as often as there are examples."""
    if ours.shape == theirs.shape and ours.dtype == theirs.dtype:
        if ours.tobytes() != theirs.tobytes():
            raise Closed(_ELSE)
        return Constant(ours)
    follows = ours.ndim and Open(len(ours), len(theirs)) == BATCH and ours.shape[1:] == theirs.shape[1:]
    if not follows or not (ours == ours[:1]).all() or not (theirs == ours[:1]).all():
        raise Closed("makes an array of a size that is open (give keras.Input a number for it)")
    return Constant(ours[:1], batched=True)


def _setting(ours, theirs):
    if isinstance(ours, (tuple, list)) and isinstance(theirs, (tuple, list)) and len(ours) == len(theirs):
        return tuple(_setting(*pair) for pair in zip(ours, theirs, strict=True))
    if repr(ours) == repr(theirs):
        return ours
    if isinstance(ours, slice) and isinstance(theirs, slice):
        return _setting(*((each.start, each.stop, each.step) for each in (ours, theirs)))
    if all(isinstance(number, (int, np.integer)) and not isinstance(number, bool) for number in (ours, theirs)):
        return Open(int(ours), int(theirs))
    raise Closed(_ELSE)


def _shapes(ours, theirs):
    return [_setting(tuple(one.shape), tuple(other.shape)) for one, other in zip(ours, theirs, strict=True)]
