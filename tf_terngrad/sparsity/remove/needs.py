"""What the file of a compact model asks for where it is loaded: layers and functions that nobody registered."""

import functools

import keras
import numpy as np

from tf_terngrad.keras_internals import SafeModeScope, all_layers
from tf_terngrad.sparsity.graph.reads import is_users
from tf_terngrad.sparsity.remove.settings import own_settings


def needs(model) -> str:
    """One sentence on what a file of a model will ask for, or get wrong; none where it loads anywhere as it is."""
    parts = [f"{layer.name} ({what})" for layer in all_layers(model)[1:] for what in _asked_for(layer)]
    if not parts:
        return ""
    return (
        f"A file of {model.name} asks for what it cannot say: {', '.join(parts)}. Register these with "
        "keras.saving.register_keras_serializable() and give them a get_config(), or pass them as custom_objects."
    )


def is_registered(kind) -> bool:
    """Whether the owner of a class or a function has registered it with Keras."""
    name = getattr(kind, "__name__", None)
    return name is not None and keras.saving.get_registered_object(keras.saving.get_registered_name(kind)) is kind


def _asked_for(layer):
    """What is not registered of a layer: its class, and its settings."""
    if is_users(layer) and not _is_made_again(layer):
        yield f"{type(layer).__name__}, which its configuration does not make"
    elif is_users(layer) and not is_registered(type(layer)):
        yield type(layer).__name__
    for number, name, value in own_settings(layer):
        known = is_registered(value if hasattr(value, "__name__") else type(value)) or _is_kerass(value)
        if number == 0 and not known:
            yield f"{name} {_named(value)}"


def _is_made_again(layer):
    try:
        with SafeModeScope(safe_mode=False):
            return type(layer).from_config(layer.get_config()) is not None
    except Exception:  # a stranger's code may raise anything
        return False


def _named(value):
    """How people know a setting; a file takes a function that is called like one of Keras's own for that one."""
    if isinstance(value, functools.partial):
        return "functools.partial"
    name = getattr(value, "__name__", type(value).__name__)
    return f"{name}, for which it takes Keras's own" if hasattr(keras.activations, name) else name


def _is_kerass(function):
    """Whether a function computes what Keras's activation of the same name does, as TensorFlow's do."""
    own, x = (
        getattr(keras.activations, getattr(function, "__name__", ""), None),
        np.linspace(-4, 4, 33, dtype="float32"),
    )
    try:
        return own is not None and np.allclose(function(x), own(x), atol=1e-6)
    except Exception:  # a stranger's code may raise anything
        return False
