"""Carry over what does not change: copies of layers with their functions and ties, and with variables of their own.

A configuration says less than a layer is: an activation only by its name, a function only with what it can be written
down with, a layer that was given to another one not at all. Here nothing is written down.
"""

import contextlib
import copy
import functools
import types

import keras
import tensorflow as tf
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
    traced_anew,
    variable_like,
    without_calls,
)
from tf_terngrad.sparsity.graph.reads import globals_of, is_users
from tf_terngrad.sparsity.graph.replay import replay
from tf_terngrad.sparsity.graph.stand_in import original
from tf_terngrad.sparsity.graph.values import state_of
from tf_terngrad.sparsity.learn.hooks import users_own
from tf_terngrad.sparsity.remove.settings import PENALTIES
from tf_terngrad.sparsity.rules import subclasses


class Left(Exception):
    """Something is to be copied that holds a layer, or a tensor, that is in the old model only."""


class Carrier:
    """Copies layers and what they hold, everything once: what was one before is one again.

    Args:
        model: the model whose layers they are. It is not copied itself.

    Attributes:
        variables: (old, new) for each variable that was copied.
    """

    def __init__(self, model):
        self.variables = []
        self._model = model
        self._made = {}
        self._remade = {}
        self._left = None

    @functools.cached_property
    def _owners(self):
        """By id of a variable, the innermost layer that holds it."""
        return {id(weight): layer for layer in all_layers(self._model) for weight in state_of(layer)}

    def note(self, old, new):
        """Say what stands for an object already."""
        self._made[id(old)] = old, new

    @contextlib.contextmanager
    def without(self, layers):
        """Refuse, with `Left`, to copy these layers meanwhile, and tensors of the old model."""
        self._left = set(map(id, layers))
        try:
            yield
        finally:
            self._left = None

    def note_remade(self, old, new):
        """Say that a layer was made again, so that its weights are in the places of the old one's."""
        self._remade[id(old)] = old, new

    def made(self, old):
        """What stands for an object already, or None."""
        return self._made.get(id(old), (old, None))[1]

    def copy(self, value):
        """A copy of what holds variables or layers; of anything else, the value itself."""
        if id(value) in self._made:
            return self.made(value)
        if self._left is not None and (id(value) in self._left or isinstance(value, keras.KerasTensor)):
            raise Left
        for kinds, method in _COPIES:
            if isinstance(value, kinds):
                return method(self, value)
        return self._object(value) if is_users(value) else value

    def layer(self, old):
        """A copy of a layer, with copies of the layers inside of it; of a wrapper of this package, its layer's."""
        if isinstance(old, keras.layers.Wrapper) and _is_ours(old):
            return self.copy(old.layer)
        if isinstance(graph_of(old), Functional):
            return self._graph(old)
        new = blank_layer(old)
        self.note(old, new)
        finish_layer(old, new, self.copy)
        self._own_call(old, new)
        return new

    def _own_call(self, old, new):
        """The class of a layer may read a global that is a part of the model: then the copy has a call of its own."""
        call = self.copy(type(old).call)
        if call is not type(old).call:
            vars(new)["call"] = types.MethodType(call, new)

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
        """What stands for a variable: that of the layer that holds it, or a copy."""
        owner = self._owners.get(id(old))
        if id(owner) in self._remade:
            places = zip(*map(state_of, self._remade[id(owner)]), strict=True)
            return next(new for each, new in places if each is old)
        if owner is not None and self.made(owner) is None:
            self.copy(owner)
        return self.made(old) or self._fresh(old)

    def _fresh(self, old):
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

    def _function(self, old):
        """A function that reads what is copied from the copy; one that reads nothing of it is the same."""
        if not is_users(old):
            return old
        cells = [types.CellType() for _ in old.__closure__ or ()]
        new = _with_cells(old, tuple(cells))
        self.note(old, new)  # before what it reads: it may call itself
        filled = [self._fill(new, own, old) for new, own in zip(cells, old.__closure__ or (), strict=True)]
        read = globals_of(old)
        copies = {name: self._read(old, name, value) for name, value in read.items()}
        given = [self.copy(each) for each in (old.__defaults__, old.__kwdefaults__)]
        if all(filled) and _same([copies, *given], [read, old.__defaults__, old.__kwdefaults__]):
            self.note(old, old)
            return old
        new.__globals__.update(copies)
        new.__defaults__, new.__kwdefaults__ = given
        return new

    def _fill(self, new, old, function):
        """Fill what stands for a cell of a function; gives back whether it holds the same. A cell may be empty yet."""
        if old == types.CellType():
            return True
        new.cell_contents = self.copy(old.cell_contents)
        return old.cell_contents is function or _same(new.cell_contents, old.cell_contents)

    def _read(self, function, name, value):
        if value is original(self._model):
            raise ValueError(
                f"The function {function.__qualname__} reads the global {name!r}, which is the model itself: in a "
                "smaller model it would still read the old one. Give it what it needs as an argument, or write a layer."
            )
        return self.copy(value)

    def _traced(self, function):
        """A `tf.function`: it has seen the variables of what it was made of."""
        own = function.python_function
        new = self.copy(own)
        return function if new is own or new == own else traced_anew(function, new)

    def _method(self, method):
        return types.MethodType(self.copy(method.__func__), self.copy(method.__self__))

    def _partial(self, partial):
        read = [partial.func, partial.args, partial.keywords]
        function, given, named = map(self.copy, read)
        return partial if _same([function, given, named], read) else functools.partial(function, *given, **named)

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
        copies = {name: self.copy(value) for name, value in values.items()}
        if type(values).__module__.startswith(("keras.", "tensorflow.")):  # tracks what it holds, for another layer
            return copies
        new = copy.copy(values)
        new.update(copies)
        return new


_COPIES = [
    ((keras.Variable,), Carrier.variable),
    ((keras.layers.Layer,), Carrier.layer),
    ((keras.random.SeedGenerator, keras.Metric), Carrier._state),
    (PENALTIES, Carrier._penalty),
    ((types.FunctionType,), Carrier._function),
    ((tf.types.experimental.PolymorphicFunction,), Carrier._traced),
    ((types.MethodType,), Carrier._method),
    ((functools.partial,), Carrier._partial),
    ((tuple,), Carrier._tuple),
    ((list,), Carrier._list),
    ((set,), Carrier._set),
    ((dict,), Carrier._dict),
]


def _is_ours(value):
    return type(value).__module__.startswith("tf_terngrad.")


def _same(new, old):
    if isinstance(old, (tuple, list)) and isinstance(new, (tuple, list)):
        return all(_same(*pair) for pair in zip(new, old, strict=True))
    if isinstance(old, dict) and isinstance(new, dict):
        return all(_same(new[name], value) for name, value in old.items())
    return new is old or (isinstance(old, set) and new == old)


def _with_cells(function, cells):
    """The same function, with a closure and globals of its own."""
    new = types.FunctionType(function.__code__, dict(function.__globals__), function.__name__, closure=cells)
    new.__qualname__, new.__module__, new.__doc__ = function.__qualname__, function.__module__, function.__doc__
    new.__defaults__, new.__kwdefaults__ = function.__defaults__, function.__kwdefaults__
    new.__dict__.update(vars(function))
    return new
