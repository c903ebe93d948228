"""An optimizer that goes on with a smaller model: moments, averages and accumulated gradients shrink as weights do."""

import keras

from tf_terngrad.keras_internals import Rebuilt, factor_anew, trainable_variables
from tf_terngrad.sparsity.learn import kept

# Ftrl computes the weight from a sum of gradients; ScheduleFreeAdamW, which not every Keras has, keeps a second weight.
_WEIGHTS = [(keras.optimizers.Ftrl, "linear"), (getattr(keras.optimizers, "ScheduleFreeAdamW", ()), "momentum")]


def require_same(optimizer, gone) -> None:
    """Ask the other workers, if an optimizer averages over some, whether the same leaves there.

    Such an optimizer, or the one in its `LossScaleOptimizer`, has a method `require_same(lines, subject)` that raises
    on all workers where they differ. It is asked too where nothing leaves: on another worker something may.
    """
    for each in (optimizer, getattr(optimizer, "inner_optimizer", None)):
        ask = getattr(each, "require_same", None)
        if ask is not None:
            lines = [f"{name}: {members} left" for dead in gone for name, members in dead.items()]
            ask(lines, "What tt.reconfigure takes out")


def move_optimizer(optimizer, model, moves) -> None:
    """Build an optimizer for what stays of its variables, and give it what stays of its state.

    Args:
        optimizer: a built Keras optimizer.
        model: the smaller model, whose order of variables it takes.
        moves: `Moves`.
    """
    left = [new for old in trainable_variables(optimizer) if (new := moves.new(old)) is not None]
    known = set(map(id, left))
    ours = [variable for variable in model.trainable_variables if id(variable) in known]
    others = [variable for variable in left if id(variable) not in set(map(id, ours))]
    for slot in Rebuilt(optimizer, ours + others, moves.old).slots:
        carry = moves.scaled if _is_a_weight(slot) else moves.array
        slot.now.assign(carry(moves.old(slot.variable), slot.before.numpy()))
    factor_anew(optimizer)


def _is_a_weight(slot):
    """Whether what an optimizer keeps is a weight itself: an average, or what it computes the weight from."""
    return slot.name == kept.AVERAGE or any(
        isinstance(slot.optimizer, kind) and slot.name == name for kind, name in _WEIGHTS
    )
