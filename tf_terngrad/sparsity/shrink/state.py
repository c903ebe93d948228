"""An optimizer that goes on with a smaller model: moments, averages and accumulated gradients shrink as weights do."""

from tf_terngrad.keras_internals import Rebuilt, trainable_variables
from tf_terngrad.sparsity.learn import kept


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
    rebuilt = Rebuilt(optimizer, ours + others)
    for variable, name, slot in rebuilt.slots:
        old = moves.old(variable)
        carry = moves.scaled if name == kept.AVERAGE else moves.array
        slot.assign(carry(old, rebuilt.before(old, name).numpy()))
