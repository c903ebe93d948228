"""Carry over what does not change: copies of layers with their functions and ties, and with variables of their own.

A configuration says less than a layer is: an activation only by its name, a function only with what it can be written
down with, a layer that was given to another one not at all. Here nothing is written down.
"""

import contextlib
import copy
import functools
import types

import keras
from keras import tree

from tf_terngrad.keras_internals import (
    Functional,
    add_call,
    all_layers,
    blank_layer,
    finish_layer,
    graph_of,
    input_like,
    like,
    structures_of,
    variable_like,
    without_calls,
)
from tf_terngrad.sparsity.graph.replay import replay
from tf_terngrad.sparsity.learn.hooks import users_own
from tf_terngrad.sparsity.rules import subclasses

_PENALTIES = (keras.regularizers.Regularizer, keras.constraints.Constraint)


class Carrier:
    """Copies layers and what they hold, everything once: what was one before is one again.

    Attributes:
        variables: (old, new) for each variable that was copied.
    """

    def __init__(self):
        self.variables = []
        self._made = {}

    def note(self, old, new):
        """Say what stands for an object already."""
        self._made[id(old)] = old, new

    def made(self, old):
        """What stands for an object already, or None."""
        return self._made.get(id(old), (old, None))[1]

    def copy(self, value):
        """A copy of what holds variables or layers; of anything else, the value itself."""
        if id(value) in self._made:
            return self.made(value)
        for kinds, method in _COPIES:
            if isinstance(value, kinds):
                return method(self, value)
        return self._object(value) if _is_users(value) else value

    def layer(self, old):
        """A copy of a layer, with copies of the layers inside of it; of a wrapper of this package, its layer's."""
        if isinstance(old, keras.layers.Wrapper) and _is_ours(old):
            return self.copy(old.layer)
        if isinstance(graph_of(old), Functional):
            return self._graph(old)
        new = blank_layer(old)
        self.note(old, new)
        finish_layer(old, new, self.copy)
        return new

    def _graph(self, old):
        """A copy of a graph of layers; methods that were put on it go with it."""

        def call(node, args, kwargs):
            outputs = [like(tensor) for tensor in tree.flatten(node.output_tensors)]
            return add_call(self._operation(node.operation), args, kwargs, outputs)

        functional = graph_of(old)
        inputs = [input_like(tensor) for tensor in functional.inputs]
        outputs = replay(functional, inputs, call)
        if isinstance(old, keras.Sequential):
            new = keras.Sequential([*inputs, *map(self.copy, old.layers)], name=old.name)
        else:
            shapes = structures_of(functional)
            pairs = zip(shapes, (inputs, outputs), strict=True)
            new = Functional(*(tree.pack_sequence_as(*pair) for pair in pairs), name=old.name)
        self.note(old, new)
        for name in subclasses.put_on(old):
            setattr(new, name, self.copy(vars(old)[name]))
        return new

    def _operation(self, old):
        if isinstance(old, keras.layers.Layer):
            return self.copy(old)
        if self.made(old) is None:
            self.note(old, without_calls(copy.copy(old)))
        return self.made(old)

    def variable(self, old):
        """A variable with the same value, without what this package put on it."""
        new = variable_like(old)
        self.note(old, new)
        self.variables.append((old, new))
        new.regularizer, new.constraint = (users_own(each) for each in (old.regularizer, old.constraint))
        return new

    def _state(self, old):
        """A seed generator or a metric: it holds variables as its attributes."""
        new = copy.copy(old)
        self.note(old, new)
        vars(new).update({name: self.copy(value) for name, value in vars(old).items() if name != "_tracker"})
        return new

    def _function(self, function):
        """A function that reads what is copied from the copy; those of libraries hold no part of a model."""
        if not _is_users(function):
            return function
        cells = [cell.cell_contents for cell in function.__closure__ or ()]
        for name in _globals_of(function):
            value = function.__globals__.get(name)
            if isinstance(value, (keras.layers.Layer, keras.Variable)):
                raise ValueError(
                    f"The function {function.__qualname__} reads the global {name!r}, which is a part of a model: in a "
                    "smaller model it would still read the old one. Give it as an argument, or write a layer."
                )
        self.note(function, function)  # it may be in its own closure
        copies = [self.copy(value) for value in cells]
        if all(new is old for new, old in zip(copies, cells, strict=True)):
            return function
        closure = tuple(map(types.CellType, copies))
        new = types.FunctionType(
            function.__code__, function.__globals__, function.__name__, function.__defaults__, closure
        )
        new.__kwdefaults__, new.__dict__ = function.__kwdefaults__, dict(vars(function))
        for cell, old in zip(closure, cells, strict=True):
            if old is function:
                cell.cell_contents = new
        self.note(function, new)
        return new

    def _method(self, method):
        return types.MethodType(method.__func__, self.copy(method.__self__))

    def _partial(self, partial):
        return functools.partial(self.copy(partial.func), *map(self.copy, partial.args), **self._dict(partial.keywords))

    def _penalty(self, penalty):
        own = users_own(penalty)
        return own if own is None or own is not penalty else self._object(own)

    def _object(self, old):
        """An object of the user's; only one that holds what is copied is copied itself."""
        state = getattr(old, "__dict__", {})
        self.note(old, old)
        copies = {name: self.copy(value) for name, value in state.items()}
        if all(_same(copies[name], value) for name, value in state.items()):
            return old
        new = copy.copy(old)
        self.note(old, new)
        vars(new).update(copies)
        return new

    def _tuple(self, values):
        copies = [self.copy(value) for value in values]
        return tuple(copies) if type(values) is tuple else type(values)(*copies)  # a named one

    def _list(self, values):
        return [self.copy(value) for value in values]

    def _set(self, values):
        return {self.copy(value) for value in values}

    def _dict(self, values):
        return {name: self.copy(value) for name, value in values.items()}


_COPIES = [
    ((keras.Variable,), Carrier.variable),
    ((keras.layers.Layer,), Carrier.layer),
    ((keras.random.SeedGenerator, keras.Metric), Carrier._state),
    (_PENALTIES, Carrier._penalty),
    ((types.FunctionType,), Carrier._function),
    ((types.MethodType,), Carrier._method),
    ((functools.partial,), Carrier._partial),
    ((tuple,), Carrier._tuple),
    ((list,), Carrier._list),
    ((set,), Carrier._set),
    ((dict,), Carrier._dict),
]


def _is_ours(value):
    return type(value).__module__.startswith("tf_terngrad.")


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
        vars(inside[number])[name] = _keras_own(value)
    try:
        yield
    finally:
        for (number, name, _), value in zip(settings, before, strict=True):
            vars(inside[number])[name] = value


def give_settings(layer, settings):
    """Give the settings of another layer's, made of the same configuration but for them, as they are."""
    inside = _inside(layer)
    for number, name, value in settings:
        vars(inside[number])[name] = value


def _inside(layer):
    return all_layers(layer) if isinstance(layer, keras.layers.Layer) else []


def is_plain(layer):
    """Whether a layer, with all that is inside of it, is Keras's own, and its configuration says all of it."""
    stock = all(type(each).__module__.startswith("keras.") for each in _inside(layer))
    return stock and not (isinstance(layer, keras.layers.Lambda) or own_settings(layer) or subclasses.put_on(layer))


def _keras_own(value):
    if isinstance(value, keras.initializers.Initializer):
        return keras.initializers.Zeros()
    return None if isinstance(value, _PENALTIES) else keras.activations.linear


def _is_setting(value):
    given = isinstance(value, (types.FunctionType, functools.partial, *_PENALTIES, keras.initializers.Initializer))
    return given and users_own(value) is not None and _is_users(value)


def _is_function(name, value):
    """Whether something is an activation that a configuration may not say: TensorFlow's, a method, an object."""
    if not callable(value) or isinstance(value, keras.Operation) or name not in ("activation", "recurrent_activation"):
        return False
    module = getattr(value, "__module__", None) or type(value).__module__
    return module.partition(".")[0] != "keras"


def _is_users(value):
    """Whether something is neither Keras's nor TensorFlow's nor Python's own."""
    function = value.func if isinstance(value, functools.partial) else value
    named = function if isinstance(function, types.FunctionType) else type(function)
    package = (getattr(named, "__module__", None) or "").partition(".")[0]
    return package not in ("keras", "tensorflow", "numpy", "builtins", "tf_terngrad") or isinstance(
        value, functools.partial
    )


def _same(new, old):
    if isinstance(old, (tuple, list)) and isinstance(new, (tuple, list)):
        return all(_same(*pair) for pair in zip(new, old, strict=True))
    if isinstance(old, dict) and isinstance(new, dict):
        return all(_same(new[name], value) for name, value in old.items())
    return new is old or (isinstance(old, set) and new == old)


def _globals_of(function):
    codes, names = [function.__code__], set()
    while codes:
        code = codes.pop()
        names.update(code.co_names)
        codes += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return names
