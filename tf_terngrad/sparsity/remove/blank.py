"""Layers whose weights begin as zeros, for they are overwritten as soon as the smaller model stands."""

import functools

import keras

from tf_terngrad.keras_internals import all_layers
from tf_terngrad.sparsity.graph.reads import is_users


def blank_weights(layer) -> list:
    """Let stock layers begin with zeros for weights that will be overwritten; gives back these layers.

    Random initial values would take longer than all the rest. A user's own layer may do more with an initializer.
    """
    inside = all_layers(layer) if isinstance(layer, keras.layers.Layer) else ()
    stock = [each for each in inside if type(each).__module__.partition(".")[0] == "keras"]
    for each in stock:
        vars(each)["add_weight"] = functools.partial(_add_blank_weight, each)
    return stock


def fill_again(layer) -> None:
    """Let a layer begin with its own initial values again."""
    vars(layer).pop("add_weight", None)


def _add_blank_weight(layer, shape=None, initializer=None, *args, **kwargs):
    for name, value in list(vars(layer).items()):  # a file makes the weight with it, before it has the values
        if value is initializer and is_users(value) and not _fits(value, shape):
            vars(layer)[name] = keras.initializers.Zeros()
    return type(layer).add_weight(layer, shape, "zeros", *args, **kwargs)


def _fits(initializer, shape) -> bool:
    """Whether an initializer of the user's gives values of a shape; a table that was made elsewhere may not."""
    try:
        return tuple(initializer(shape, dtype="float32").shape) == tuple(shape)
    except Exception:  # a stranger's code may raise anything
        return False
