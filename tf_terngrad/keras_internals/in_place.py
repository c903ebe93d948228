"""A model, or an optimizer, that becomes another one and stays the object that it is."""

import functools
import types

import keras
from keras import tree
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


@functools.cache
def _kept_by_training():
    """The names of what `compile`, `fit` and the like keep on a model, and no other layer has."""
    with own_names():
        return frozenset({*vars(keras.Model())} - {*vars(keras.Layer())}) | {*TRAINING}


def _is_plain(value):
    """Whether something that is kept on a model holds no layer, variable or tensor of its graph."""
    return not any(isinstance(part, _PARTS) for part in (value, *tree.flatten(value)))


def _track(model, kept):
    """TensorFlow's checkpoints find by attribute what a model holds; its lists of that came with the new layers."""
    if isinstance(kept.get("optimizer"), keras.optimizers.Optimizer):
        model._track_trackable(kept["optimizer"], name="optimizer", overwrite=True)


class Rebuilt:
    """An optimizer that is built for other variables, and what it kept for those that it was built for.

    Args:
        optimizer: a built optimizer. What it counts (iterations, learning rate, loss scale) goes on.
        variables: the Keras variables to build it for.

    Attributes:
        slots: (variable, name, the optimizer's variable) of what it now keeps, one for each element of a variable.
    """

    def __init__(self, optimizer, variables):
        self.slots = []
        parts = parts_of(optimizer)
        self._before = [_frozen(part) for part in parts]
        for part in parts:
            _hold(part, [])
            part._trainable_variables_indices, part.built = {}, False
            vars(part)["add_variable_from_reference"] = functools.partial(self._add, part)
        try:
            optimizer.build(variables)
        finally:
            for part, before in zip(parts, self._before, strict=True):
                vars(part).pop("add_variable_from_reference")
                self._count_on(part, before)

    def before(self, variable, name):
        """What it kept for a variable under a name."""
        ((_, slot),) = slots(self._before[-1], [variable])  # the innermost keeps it
        return slot.find(name)

    def _add(self, part, reference_variable, name=None, **options):
        made = type(part).add_variable_from_reference(part, reference_variable, name=name, **options)
        self.slots.append((reference_variable, name, made))
        return made

    def _count_on(self, part, before):
        counters = _counters(before)
        stay = [each for each in before._variables if any(each is other for other in _counters(part).values())]
        _hold(part, stay + list(part._variables))
        for name, counter in counters.items():
            if vars(part)[name] is not counter:
                vars(part)[name].assign(counter)


def parts_of(optimizer) -> list:
    """An optimizer, and the one inside of a `LossScaleOptimizer`."""
    inner = getattr(optimizer, "inner_optimizer", None)
    return [optimizer] if inner is None else [optimizer, inner]


def not_by_weight(optimizer) -> list:
    """The variables of a built optimizer that are neither counters nor one number for each element of a weight."""
    found = []
    for part in parts_of(optimizer):
        known = {id(each) for each in _counters(part).values()}
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
