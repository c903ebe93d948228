"""Whether a layer of a user's subclass computes what its parent computes: only then is it known as its parent.

A subclass may override what cannot change the computation, and add what its parent never mentions. Whatever else it
has of its own, such as a `call`, a `convolution_op` or a `kernel` property, makes it another layer.
"""

import functools
import inspect
import types
import weakref

import keras

from tf_terngrad.keras_internals import SafeModeScope

_HARMLESS = {
    *("__init__", "get_config", "from_config", "__repr__", "__str__"),
    *("__module__", "__qualname__", "__doc__", "__annotations__", "__dict__", "__weakref__", "__slots__"),
    *("__firstlineno__", "__static_attributes__", "__orig_bases__", "__parameters__", "__type_params__"),
    *("__annotate__", "__annotate_func__", "__annotations_cache__", "__annotations_func__"),
}
"""What cannot change the computation: how a layer is made and shown, and what Python notes about every class."""

SET_BY_KERAS = {"build", "quantize"}
"""The methods that Keras wraps on every layer."""

_REMADE = weakref.WeakKeyDictionary()
"""By layer, whether its configuration makes it again."""


def differences(layer, parent):
    """Names that a layer or its class has of its own and that `parent`, an ancestor of the class, computes with.

    >>> class Doubled(keras.layers.Dense):
    ...     def call(self, inputs):
    ...         return 2 * super().call(inputs)
    >>> differences(Doubled(3), keras.layers.Dense)
    ['call']
    """
    own = set(put_on(layer, parent))
    for each in _between(type(layer), parent):
        own |= {name for name in vars(each) if name not in _HARMLESS and _matters(name, parent)}
    return sorted(own)


def put_on(layer, kind=None):
    """Names of methods that somebody has put on a layer itself, as in `layer.call = ...`; no configuration has them.

    Args:
        layer: the layer.
        kind: an ancestor of its class, if only that one's methods matter.
    """
    training = _methods(keras.Model) - _methods(keras.Layer)  # `compile` and `fit` keep some of theirs on the model
    return sorted((_methods(kind or type(layer)) - training).intersection(vars(layer)))


def makes_itself_again(layer, parent):
    """Whether the configuration of a layer gives the same layer, and says all that its parent's says."""
    ways = ("__init__", "get_config", "from_config")
    if all(inspect.getattr_static(type(layer), way) is inspect.getattr_static(parent, way) for way in ways):
        return True
    if layer not in _REMADE:
        _REMADE[layer] = _is_made_again(layer, parent)
    return _REMADE[layer]


def _between(kind, parent):
    """The classes that a class has and its parent has not, mixins among them."""
    return () if kind is parent else [each for each in kind.__mro__ if each not in parent.__mro__]


def _is_made_again(layer, parent):
    config = _attempt(layer.get_config)
    said = parent.get_config(layer)
    same = config is not None and said.keys() <= config.keys() and _comes_back(type(layer), config, said)
    numbers = [name for name, value in said.items() if type(value) is int]
    return same and all(_comes_back(type(layer), {**config, name: said[name] + 1}, [name], True) for name in numbers)


def _comes_back(kind, config, names, may_fail=False):
    """Whether a layer that is made from a configuration says the same; `may_fail`: another number may not fit."""
    with SafeModeScope(safe_mode=False):
        again = _attempt(lambda: kind.from_config(dict(config)).get_config())
    return may_fail if again is None else all(repr(config[name]) == repr(again.get(name)) for name in names)


def _attempt(function):
    """What a stranger's code gives, or None whatever it raises: then it does not make the layer."""
    try:
        return function()
    except Exception:
        return None


def _matters(name, parent):
    """Whether an attribute of this name may be looked up where the parent computes."""
    return hasattr(parent, name) or name in _mentioned(parent) or name.startswith("__")


@functools.cache
def _methods(kind):
    """The methods of a class that a layer of it has no own version of, unless somebody has put one there."""
    return frozenset(name for name, _ in inspect.getmembers_static(kind, inspect.isfunction)) - SET_BY_KERAS


@functools.cache
def _mentioned(kind):
    """All names that the code of a Keras class or of its ancestors looks up, its weights among them."""
    classes = [each for each in kind.__mro__ if issubclass(each, keras.Operation)]
    return frozenset(name for each in classes for value in vars(each).values() for name in _names(value))


def _names(value):
    for function in (value.fget, value.fset) if isinstance(value, property) else (getattr(value, "__func__", value),):
        code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
        if code is not None:
            yield from _names_in(code)


def _names_in(code):
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names_in(constant)
        elif isinstance(constant, str) and constant.isidentifier():  # getattr(self, "data_format", None)
            yield constant
