"""What layers and functions read: weights of their own, and those that Keras does not know that they read."""

import dis
import functools
import types

import keras
import tensorflow as tf

from tf_terngrad.sparsity.rules.subclasses import SET_BY_KERAS

_LIBRARIES = ("keras", "tensorflow", "numpy", "builtins", "tf_terngrad")


def is_users(value):
    """Whether an object or a function is neither Keras's nor TensorFlow's nor Python's own; no class or module is."""
    if isinstance(value, (type, types.ModuleType)):
        return False
    function = value.func if isinstance(value, functools.partial) else value
    named = function if isinstance(function, types.FunctionType) else type(function)
    return (getattr(named, "__module__", None) or "").partition(".")[0] not in _LIBRARIES


def globals_of(function) -> dict:
    """The globals that a function reads, in functions inside of it too, by name.

    >>> sorted(globals_of(lambda x: [is_users(x.dis) for _ in range(3)]))
    ['is_users']
    """
    codes, names = [function.__code__], set()
    while codes:
        code = codes.pop()
        names |= {step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
        codes += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return {name: function.__globals__[name] for name in names if name in function.__globals__}


def captured(function) -> list:
    """What a function's closure holds; a cell may be empty yet."""
    return [cell.cell_contents for cell in function.__closure__ or () if cell != types.CellType()]


def variables_read(*values) -> dict:
    """The Keras variables that can be reached from values, by id: through layers, functions, and what they hold."""
    seen, left, found = {}, list(values), {}
    while left:
        value = left.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value  # kept, for its id must not be another's meanwhile
        if isinstance(value, keras.Variable):
            found[id(value)] = value
        else:
            left += _parts(value)
    return found


def functions_of(layer) -> list:
    """The user's functions that a layer holds, such as its activation or a method that was put on it."""
    kinds = (types.FunctionType, types.MethodType, functools.partial)
    held = [value for name, value in vars(layer).items() if isinstance(value, kinds) and name not in SET_BY_KERAS]
    return [value for value in held if is_users(value)]


def _parts(value):
    for kinds, parts in _PARTS:
        if isinstance(value, kinds):
            return parts(value)
    return vars(value).values() if is_users(value) and hasattr(value, "__dict__") else ()


_PARTS = [
    (keras.KerasTensor, lambda value: ()),
    (keras.Operation, lambda layer: (type(layer).call, *vars(layer).values())),
    ((keras.Metric, keras.random.SeedGenerator), lambda state: vars(state).values()),
    (types.FunctionType, lambda value: [*captured(value), *globals_of(value).values()] if is_users(value) else ()),
    (types.MethodType, lambda method: (method.__self__, method.__func__)),
    (functools.partial, lambda partial: (partial.func, partial.args, partial.keywords)),
    (tf.types.experimental.PolymorphicFunction, lambda function: (function.python_function,)),
    (dict, lambda value: value.values()),  # of a proxy for a dict, too
    ((list, tuple, set), list),
]
