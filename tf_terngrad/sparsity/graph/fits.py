"""Regularizers and constraints of the user's that only fit the width that a layer has: that width stays."""

import keras

from tf_terngrad.sparsity.learn.hooks import users_own


def freeze_what_knows_its_width(graph):
    """Freeze the axes along which something of the user's cannot take one position less."""
    for weight in graph.weights.values():
        for axis, units in weight.axes.items():
            for what in misfits(weight.variable, axis):
                graph.freeze(units, f"{weight.path}: its {what} is made for this width")
    for call in graph.calls:
        function = _users(getattr(call.layer, "activity_regularizer", None))
        for axis, channels in enumerate(call.output.axes) if function else ():
            if channels is not None and not _fits(function, [size or 2 for size in call.output.shape], axis):
                call.freeze_axis(channels, "its activity regularizer is made for this width")


def misfits(variable, axis):
    """Which of the user's regularizer and constraint of a weight do not take one position less along an axis."""
    functions = ((what, _users(getattr(variable, what))) for what in ("regularizer", "constraint"))
    return [what for what, function in functions if function and not _fits(function, variable.shape, axis)]


def _users(function):
    function = users_own(function)
    return None if type(function).__module__.startswith("keras.") else function


def _fits(function, shape, axis):
    """Whether a function takes a tensor that has one position less along an axis."""
    try:
        function(keras.ops.ones([size - (place == axis) for place, size in enumerate(shape)]))
    except Exception:  # a stranger's code may raise anything
        return False
    return True
