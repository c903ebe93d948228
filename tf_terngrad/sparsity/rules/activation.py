"""Activations: the layer, and the argument `activation=` of other layers."""

import keras
import numpy as np

from tf_terngrad.sparsity.rules.base import Frozen, Rule
from tf_terngrad.sparsity.rules.functions import verdict
from tf_terngrad.sparsity.rules.registry import register_rule, rule_for

_ARGUMENTS = ("activation", "recurrent_activation")


class Activation(Rule):
    """The Activation layer: any function, by name or as an object."""

    def follow(self, call):
        call.output.axes = list(call.inputs[0].axes)
        activate(call, call.layer.activation)


def activate(call, activation):
    """Apply a layer's activation argument to the channels of its output."""
    if activation is None or activation is keras.activations.linear:
        return
    reason = why_not_elementwise(activation)
    if reason:
        call.freeze(call.outputs, reason)
    call.output.axes = [
        channels
        and (channels.unknown() if reason else channels.with_values(apply_activation(activation, channels.values)))
        for channels in call.output.axes
    ]


def why_not_elementwise(activation):
    """Why an activation argument may tie channels to one another; None: it acts on each element by itself."""
    reason = None if activation is None else verdict(activation).reason
    return reason and f"activation {_name(activation)!r} {reason}"


def apply_activation(activation, values):
    """What an elementwise activation makes of known values; NaN stays NaN."""
    result = np.full(values.shape, np.nan)
    known = ~np.isnan(values)
    if known.any():
        given = keras.ops.convert_to_tensor(values[known][None], "float32")  # as a batch of one: it may want a batch
        result[known] = keras.ops.convert_to_numpy(activation(given))[0]
    return result


def shown_by_numbers(places):
    """A sentence for each activation of which numbers, and not its operations, show that it acts element by element.

    Args:
        places: pairs of a path and the layer there.
    """
    layers = [
        (path, getattr(layer, "cell", layer)) for path, layer in places if not isinstance(rule_for(layer), Frozen)
    ]
    given = [(path, getattr(layer, name, None)) for path, layer in layers for name in _ARGUMENTS]
    shown = [(path, function) for path, function in given if callable(function) and _is_shown(verdict(function))]
    names = {}
    for path, function in shown:
        names.setdefault(_name(function), {})[path] = None
    return [f"{', '.join(paths)}: numbers show that {name!r} acts on each element" for name, paths in names.items()]


def _is_shown(found):
    return found.by_numbers and not found.reason


def _name(activation):
    return getattr(activation, "__name__", type(activation).__name__)


register_rule(keras.layers.Activation, Activation())
