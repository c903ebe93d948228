"""The update that an optimizer makes now: of which variables, by which optimizer. Not what is done in it: see hooks.

Keras calls a constraint with a variable and nothing else. The proximal step belongs to a whole update, and no sign on a
variable tells where one update ends and the next begins: another phase trains other variables, an error stops a trace
half way, two optimizers share a model. So the one method that makes updates, `apply` of Keras' optimizers, notes them.
"""

import contextlib
import threading

import keras

from tf_terngrad.keras_internals import put_around, trainable_variables

_MULTI_OPTIMIZER = getattr(keras.optimizers, "MultiOptimizer", ())  # older releases of Keras have none


class Update:
    """One update of an optimizer, or of a loop that moves one variable by hand.

    Args:
        optimizer: the optimizer that makes it, or None.
        variables: all that it was asked to move, with a gradient or without.
    """

    def __init__(self, optimizer, variables):
        self.optimizer = optimizer
        self._variables = {id(variable) for variable in variables}
        self._owners = set()
        self._before = {}

    def moves(self, variable) -> bool:
        """Whether a Keras variable belongs to this update; a loop may have named the one of TensorFlow in it."""
        return id(variable) in self._variables or id(variable.value) in self._variables

    def remember(self, owner):
        """Have an owner of hooks look at the weights before they move, if it has not yet."""
        if id(owner) not in self._before:
            self._before[id(owner)] = owner.before_update()

    def seen_before(self, owner):
        """What an owner saw before the weights moved; None: the update is none that an optimizer makes."""
        return self._before.get(id(owner))

    def is_new_to(self, owner) -> bool:
        """Whether an owner of hooks asks for the first time in this update."""
        known = id(owner) in self._owners
        self._owners.add(id(owner))
        return not known


class _Stack(threading.local):
    """The updates that go on in this thread, the innermost last; replicas of a strategy have a thread each."""

    def __init__(self):
        self.updates = []


_stack = _Stack()


def current():
    """The update that goes on, or None."""
    return _stack.updates[-1] if _stack.updates else None


@contextlib.contextmanager
def going_on(optimizer, variables):
    """An update goes on meanwhile; it ends with an error too."""
    update = Update(optimizer, variables)
    for variable in variables:
        begin = getattr(getattr(variable, "constraint", None), "begin", None)  # loops may name TensorFlow's variables
        if begin is not None:
            begin(update)
    _stack.updates.append(update)
    try:
        yield update
    finally:
        _stack.updates.pop()


def of(variable):
    """A context with the update that goes on; one of this variable alone where a loop calls constraints by itself."""
    update = current()
    return going_on(None, [variable]) if update is None else contextlib.nullcontext(update)


def with_a_rate(*optimizers):
    """The first of some optimizers, or of those inside of them, that has a learning rate; None: none has.

    The rate of a `LossScaleOptimizer` is that of the optimizer in it. A `MultiOptimizer` has several, so none.
    """
    for optimizer in optimizers:
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        if optimizer is not None and not isinstance(optimizer, _MULTI_OPTIMIZER):
            return optimizer
    return None


def _noted(apply):
    """`apply` that tells which update it makes."""

    def apply_and_note(optimizer, grads, trainable_variables=None):
        variables = None if trainable_variables is None else list(trainable_variables)
        with going_on(optimizer, _built_for(optimizer) if variables is None else variables):
            return apply(optimizer, grads, variables)

    return apply_and_note


def _built_for(optimizer):
    return trainable_variables(optimizer) if optimizer.built else []


# Once, on the base class: those that hold other optimizers (LossScaleOptimizer, MultiOptimizer) call theirs.
put_around(keras.optimizers.Optimizer, "apply", _noted)
