"""A model, or an optimizer, that becomes another one and stays the object that it is."""

import collections.abc
import dataclasses
import functools
import types

import keras
from keras.src.utils import tracking  # how an optimizer finds the variables that are set on it

from tf_terngrad.keras_internals.copies import TRAINING
from tf_terngrad.keras_internals.names import own_names
from tf_terngrad.keras_internals.training import slots, trainable_variables

_PARTS = (keras.Operation, keras.Variable, keras.KerasTensor)


def become(model, other) -> None:
    """Make a model the network that another one is; what `compile` and `fit` have put on it stays.

    Args:
        model: keeps its identity, its optimizer, loss, metrics and history, and attributes of other kinds than layers.
        other: gives its class, its graph and its layers, and is not to be used any more.
    """
    before, now = dict(vars(model)), dict(vars(other))
    trained = _kept_by_training()
    stays = {name: each for name, each in before.items() if name in trained or (name not in now and _is_plain(each))}
    now = {name: each for name, each in now.items() if name not in trained} | stays
    for name in ("build", "quantize"):  # Keras binds its wrappers to the object that a layer is when it is made
        own = type(other) is type(model) and name in before
        now[name] = before[name] if own else types.MethodType(getattr(type(other), name), model)
    if "_compiled_trainable_state" in now:
        now["_compiled_trainable_state"] = {layer: layer.trainable for layer in other._flatten_layers()}
    model.__class__ = type(other)
    vars(model).clear()
    vars(model).update(now)
    _track(model, stays)


class Resized:
    """Layers that became smaller ones and stay the objects that they are, until they become again what they were."""

    def __init__(self):
        self._before = []

    def resize(self, layer, other):
        """Make a layer, or a nested model, what another one of its class is, which is not to be used any more."""
        self._before.append((layer, type(layer), dict(vars(layer))))
        if isinstance(layer, keras.Model):
            become(layer, other)
            return
        before, now = dict(vars(layer)), dict(vars(other))
        own = {name: each for name, each in before.items() if name in _OF_THE_OBJECT or name not in now}
        vars(layer).clear()
        vars(layer).update(now | own)

    def undo(self):
        """Make all layers what they were."""
        for layer, kind, before in reversed(self._before):
            layer.__class__ = kind
            vars(layer).clear()
            vars(layer).update(before)


_OF_THE_OBJECT = ("build", "quantize", "name", "_path", "_parent_path", "_inbound_nodes", "_outbound_nodes")
"""What a layer has as the object that it is: wrappers that Keras binds to it, and where it is."""


@functools.cache
def _kept_by_training():
    """The names of what `compile`, `fit` and the like keep on a model, and no other layer has."""
    with own_names():
        return frozenset({*vars(keras.Model())} - {*vars(keras.Layer())}) | {*TRAINING}


def _is_plain(value):
    """Whether something that is kept on a model holds no layer, variable or tensor of its graph."""
    return not any(isinstance(part, _PARTS) for part in leaves(value))


def leaves(value):
    """What lists, tuples, sets and dictionaries hold, and the keys of these, which `keras.tree` would have to sort."""
    if isinstance(value, collections.abc.Mapping):
        value = (*value.keys(), *value.values())
    if not isinstance(value, (list, tuple, set)):
        yield value
        return
    for part in value:
        yield from leaves(part)


def _track(model, kept):
    """TensorFlow's checkpoints find by attribute what a model holds; its lists of that came with the new layers."""
    if isinstance(kept.get("optimizer"), keras.optimizers.Optimizer):
        model._track_trackable(kept["optimizer"], name="optimizer", overwrite=True)


@dataclasses.dataclass(frozen=True)
class Slot:
    """One number for each element of a variable, that a rebuilt optimizer keeps.

    Attributes:
        optimizer: that keeps it, perhaps inside of another one.
        variable: what it keeps it for.
        name: such as "momentum".
        now: the optimizer's variable.
        before: the one that it had for what the variable was; None if it had none.
    """

    optimizer: keras.optimizers.Optimizer
    variable: keras.Variable
    name: str
    now: keras.Variable
    before: keras.Variable | None


class Rebuilt:
    """An optimizer that is built for other variables, and what it kept for those that it was built for.

    Args:
        optimizer: a built optimizer. What it counts (iterations, learning rate, loss scale) goes on.
        variables: the Keras variables to build it for. Of several optimizers in one, each gets those that it had.
        was: a function from each of them to what it was, one of those that the optimizer was built for.

    Attributes:
        slots: the `Slot`s that it has now.
    """

    def __init__(self, optimizer, variables, was):
        self.slots = []
        self._was = was
        parts = parts_of(optimizer)
        self._before = {id(part): _frozen(part) for part in parts}
        for part in parts:
            _hold(part, [])
            part._trainable_variables_indices, part.built = {}, False
            vars(part)["add_variable_from_reference"] = functools.partial(self._add, part)
            if _has_several(part):
                vars(part)["_optimizer_map"] = self._same_as(self._before[id(part)])
        try:
            optimizer.build(variables)
        finally:
            for part in parts:
                before = self._before[id(part)]
                vars(part).pop("add_variable_from_reference")
                if _has_several(part):
                    vars(part)["_optimizer_map"] = vars(before)["_optimizer_map"]
                self._count_on(part, before)

    def _same_as(self, before):
        """A choice of optimizers as it was; a function of the user's may make new ones each time that it is asked."""
        return lambda variable: before.optimizers[before._var_to_optimizer_idx[before._var_key(self._was(variable))]]

    def _add(self, part, reference_variable, name=None, **options):
        made = type(part).add_variable_from_reference(part, reference_variable, name=name, **options)
        found = slots(self._before[id(part)], [self._was(reference_variable)])
        before = found[0][1].find(name) if found else None
        self.slots.append(Slot(part, reference_variable, name, made, before))
        return made

    def _count_on(self, part, before):
        counters = _counters(before)
        stay = [each for each in before._variables if any(each is other for other in _counters(part).values())]
        _hold(part, stay + list(part._variables))
        for name, counter in counters.items():
            if vars(part)[name] is not counter:
                vars(part)[name].assign(counter)


def parts_of(optimizer) -> list:
    """An optimizer, and those inside of a `LossScaleOptimizer` or a `MultiOptimizer` that are built."""
    return [optimizer, *(part for inner in inside_of(optimizer) if inner.built for part in parts_of(inner))]


def unknown_inside(optimizer) -> list:
    """The optimizers that one holds in other ways than `LossScaleOptimizer` and `MultiOptimizer` do."""
    parts = parts_of(optimizer)
    known = {id(optimizer)} | {id(inner) for part in parts for inner in inside_of(part)}
    held = {id(each): each for part in parts for each in leaves(vars(part))}
    return [each for i, each in held.items() if isinstance(each, keras.optimizers.Optimizer) and i not in known]


def inside_of(optimizer) -> list:
    """The optimizers in a `LossScaleOptimizer` or a `MultiOptimizer`, not those in these."""
    inner = getattr(optimizer, "inner_optimizer", None)
    return [*(optimizer.optimizers if _has_several(optimizer) else ()), *([] if inner is None else [inner])]


def factor_anew(optimizer) -> None:
    """Have an optimizer keep the means over rows and columns of the second moments that it keeps now.

    Of a matrix V, and of each of several, Adafactor keeps r = mean(V, axis=-1) and c = mean(V, axis=-2), and
    V = r c / mean(r). It keeps V too, in place of which it computes this product in each step.
    """
    for part in parts_of(optimizer):
        for r, c, v in zip(part._r, part._c, part._v, strict=True) if _is_factored(part) else ():
            if v is not None and len(v.shape) > 1:
                r.assign(keras.ops.mean(v, axis=-1))
                c.assign(keras.ops.mean(v, axis=-2))


def _is_factored(part):
    return isinstance(part, keras.optimizers.Adafactor)


def _has_several(optimizer):
    return isinstance(optimizer, getattr(keras.optimizers, "MultiOptimizer", ()))  # older releases of Keras have none


def not_by_weight(optimizer) -> list:
    """The variables of a built optimizer, but for counters, numbers for each element of a weight, and their means."""
    found = []
    for part in parts_of(optimizer):
        known = {id(each) for each in _counters(part).values()}
        known |= {id(each) for each in (*part._r, *part._c)} if _is_factored(part) else set()
        stems = {path.replace("/", "_") + "_": shape for path, shape in _shapes(part)}
        for each in part._variables:
            fits = any(each.name.startswith(stem) and tuple(each.shape) == shape for stem, shape in stems.items())
            if id(each) not in known and not fits:
                found.append(each)
    return found


def _shapes(part):
    return [(variable.path, tuple(variable.shape)) for variable in trainable_variables(part)]


def _counters(optimizer):
    return {name: each for name, each in vars(optimizer).items() if isinstance(each, keras.Variable)}


def _hold(optimizer, variables):
    """Let an optimizer hold these variables and no others; the lists of TensorFlow and of Keras only grow."""
    with tracking.DotNotTrackScope():
        optimizer._variables = []
        ((name, (kind, _)),) = optimizer._tracker.config.items()
        optimizer._tracker = tracking.Tracker({name: (kind, optimizer._variables)})
    for variable in variables:
        optimizer._tracker.add_to_store(name, variable)


def _frozen(optimizer):
    """A shallow copy that stays as the optimizer is now."""
    frozen = object.__new__(type(optimizer))  # `copy.copy` would make it again from its configuration
    vars(frozen).update(vars(optimizer))
    vars(frozen)["_variables"] = list(optimizer._variables)
    vars(frozen)["_trainable_variables_indices"] = dict(optimizer._trainable_variables_indices)
    return frozen
