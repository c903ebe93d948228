"""Settings of a layer that its configuration cannot say: functions, regularizers, constraints and initializers.

A configuration has the name of a function only, and a class that nobody registered not at all. A smaller layer is made
with Keras's own in their place, and is then given the objects themselves.
"""

import contextlib
import functools
import types

import keras

from tf_terngrad.keras_internals import all_layers
from tf_terngrad.sparsity.graph.reads import is_users
from tf_terngrad.sparsity.learn.hooks import users_own
from tf_terngrad.sparsity.rules import subclasses

PENALTIES = (keras.regularizers.Regularizer, keras.constraints.Constraint)


def own_settings(layer):
    """What a configuration of a layer cannot say: (which of the layers in it, attribute, object of the user's)."""
    return [
        (number, name, users_own(value))
        for number, each in enumerate(_inside(layer))
        for name, value in vars(each).items()
        if name not in subclasses.SET_BY_KERAS and (_is_setting(value) or _is_function(name, value))
    ]


@contextlib.contextmanager
def without_settings(layer, settings):
    """Let a layer have Keras's own settings meanwhile, that its configuration can say."""
    inside = _inside(layer)
    before = [vars(inside[number])[name] for number, name, _ in settings]
    for (number, name, _), value in zip(settings, before, strict=True):
        vars(inside[number])[name] = _keras_own(name, value)
    try:
        yield
    finally:
        for (number, name, _), value in zip(settings, before, strict=True):
            vars(inside[number])[name] = value


def give_settings(layer, settings, copy):
    """Give a layer copies of the settings of another one, of which it has the configuration but for them."""
    inside = _inside(layer)
    for number, name, value in settings:
        vars(inside[number])[name] = copy(value)


def _inside(layer):
    return all_layers(layer) if isinstance(layer, keras.layers.Layer) else []


def is_stock(layer):
    """Whether a layer, with all that is inside of it, is of Keras's own classes, whose configurations make it again."""
    stock = all(type(each).__module__.startswith("keras.") for each in _inside(layer))
    return stock and not (isinstance(layer, keras.layers.Lambda) or subclasses.put_on(layer))


def _keras_own(name, value):
    """What stands in the place of a setting in a configuration; functions serve as any of them."""
    if isinstance(value, keras.initializers.Initializer) or name.endswith("_initializer"):
        return keras.initializers.Zeros()
    penalty = isinstance(value, PENALTIES) or name.endswith(("_regularizer", "_constraint"))
    return None if penalty else keras.activations.linear


def _is_setting(value):
    given = isinstance(value, (types.FunctionType, functools.partial, *PENALTIES, keras.initializers.Initializer))
    return given and users_own(value) is not None and (isinstance(value, functools.partial) or is_users(value))


def _is_function(name, value):
    """Whether something is an activation that a configuration may not say: TensorFlow's, a method, an object."""
    if not callable(value) or isinstance(value, keras.Operation) or name not in ("activation", "recurrent_activation"):
        return False
    module = getattr(value, "__module__", None) or type(value).__module__
    return module.partition(".")[0] != "keras"
