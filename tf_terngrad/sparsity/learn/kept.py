"""What an optimizer keeps of dead groups, averages of their weights and momentum, and how that is made zero too.

With `use_ema` Keras writes averages over the weights: at the end of `fit`, every `ema_overwrite_frequency` updates, and
in `SwapEMAWeights`. An average of what once lived never becomes zero by itself, and what is written would be alive.

A saved file holds weights and the optimizer's state, but nothing that holds groups at zero. Momentum would move those
of the loaded model. A dead filter or unit has gradients of exactly zero, so without momentum it stays where it is.
"""

import contextlib
import functools

import keras

from tf_terngrad.keras_internals import put_around, slots, trainable_variables
from tf_terngrad.sparsity.learn import hooks

AVERAGE = "average"
MOVING = ("momentum", "linear", "gradient_accumulator")
"""The names under which Keras's optimizers keep what moves a weight that has no gradient now."""


def silence(groups, optimizer, name):
    """Make what an optimizer keeps under a name zero for all groups that are zero now."""
    found = [(variable, slot.find(name)) for variable, slot in slots(optimizer, groups.variables)]
    copies = {id(variable): copy for variable, copy in found if copy is not None}
    if copies:
        groups.silence(groups.squared_norms() == 0, copies)


@contextlib.contextmanager
def without_momentum(optimizer):
    """Meanwhile an optimizer has no momentum of dead groups."""
    parts = _parts(optimizer)
    before = [(slot, slot.numpy()) for part in parts for slot in part.variables if slot.name.endswith(MOVING)]
    try:
        for part in parts:
            for owner in hooks.owners(trainable_variables(part)):
                for name in MOVING:
                    owner.silence(part, name)
        yield
    finally:
        for slot, value in before:
            slot.assign(value)


def _parts(optimizer):
    """The optimizers that move weights: several in a `MultiOptimizer`, the inner one of a `LossScaleOptimizer`."""
    parts = getattr(optimizer, "optimizers", None) or [getattr(optimizer, "inner_optimizer", optimizer)]
    return [part for part in parts if part.built]


def _saved_without_momentum(save):
    """`save_own_variables` that leaves out the momentum of dead groups."""

    @functools.wraps(save)
    def save_without_momentum(optimizer, store):
        with without_momentum(optimizer):
            save(optimizer, store)

    return save_without_momentum


put_around(keras.optimizers.Optimizer, "save_own_variables", _saved_without_momentum)
