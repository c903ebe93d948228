"""Structures that are taken out at once, without being learned: those of the least scores."""

from collections import Counter
from collections.abc import Sequence

import keras
import numpy as np

from tf_terngrad import checks
from tf_terngrad.sparsity.budget import Budget
from tf_terngrad.sparsity.costs import Costs
from tf_terngrad.sparsity.importance import scored
from tf_terngrad.sparsity.learn.choice import choose, widths
from tf_terngrad.sparsity.structures import structures


def prune(
    model: keras.Model,
    budget: Budget,
    scores="norm",
    kinds: Sequence[str] | None = None,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    uniform: bool = False,
    input_shapes: Sequence | None = None,
) -> dict[str, np.ndarray]:
    """Zero the members of the least scores, as few as bring a model within a budget; `tt.compact` takes them out.

    Use it when there is no time to learn which structures a model needs, or to know what learning them is worth: prune,
    train on (what is zero stays zero with `tt.hold`), compact.

    Scores of one structure are divided by their mean, so that a head can be compared with a unit. Each structure keeps
    the member of its largest score; what is zero already counts as gone. To prune in steps, call it and `tt.hold` again
    with a smaller budget after training on; shares are of the whole model each time. Without training, `tt.calibrate`
    gives batch normalizations the statistics of what is left.

    Args:
        model: a built `keras.Model`; its weights are changed.
        budget: a `Budget`. Shares are of what the model costs now, zeros included.
        scores: what members are worth: "norm", "random", or a function of a `Structure`; see `tt.importance`.
        kinds: of structures, as `tt.sparsify` takes them; by default those that are widths of layers.
        include: names of layers or structures, likewise.
        exclude: names of layers or structures to leave as they are.
        uniform: take the same share of each structure; else the least scores of the whole model.
        input_shapes: as `tt.costs` takes them.

    Returns:
        The members that it zeroed, by name of the structure: arrays of integers, increasing.

    Raises:
        TypeError: `model` is no Keras model, `budget` no `Budget`, or another argument of a wrong kind.
        ValueError: as `tt.sparsify` and `tt.costs`; or for a budget that cannot be met: the error says how far it goes.

    Source: one-shot pruning by norms (Li et al., Pruning filters for efficient ConvNets, 2017).

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, name="hidden"), keras.layers.Dense(2)])
    >>> len(prune(model, Budget(multiply_adds=0.5))["hidden"])
    4
    """
    if not isinstance(budget, Budget):
        raise TypeError(checks.refusal("prune", "budget", "a tt.Budget", budget))
    uniform = checks.flag(uniform, "uniform", "prune")
    found = structures(model)
    chosen = choose(found, widths(found) if kinds is None else kinds, include, exclude, "prune")
    costs = Costs(model, input_shapes)
    sizes = {each.name: each.size for each in chosen}
    order = _order(chosen, scores, uniform)

    def total(count):
        """What the model costs without the first so many."""
        gone = Counter(structure.name for structure, _ in order[:count])
        return costs.of({name: size - gone[name] for name, size in sizes.items()})

    budget.check(total(len(order)), costs, "prune")
    enough = _first(lambda count: budget.allows(total(count), costs), len(order))
    return _zero(order[:enough], chosen)


def _order(chosen, scores, uniform):
    """All members but the best of each structure, (structure, member), those that are zero first, then by score."""
    ranked = []
    for structure in chosen:
        values = np.where(structure.norms() == 0, -np.inf, scored(structure, scores, "prune"))
        alive = values[np.isfinite(values)]
        ranks = np.argsort(np.argsort(values, kind="stable")) / structure.size if uniform else values / _mean(alive)
        ranks = np.where(np.isfinite(values), ranks, -np.inf)
        best = values.argmax()
        ranked += [(ranks[member], structure, member) for member in range(structure.size) if member != best]
    ranked.sort(key=lambda entry: entry[0])
    return [(structure, member) for _, structure, member in ranked]


def _mean(values):
    """A number that scores are divided by; one where it would be zero."""
    mean = np.abs(values).mean() if len(values) else 0.0
    return mean or 1.0


def _first(enough, most):
    """The least number in [0, most] that is enough; `most` is."""
    low, high = -1, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _zero(members, chosen):
    """Zero members that are not zero yet, and say which."""
    gone = {}
    for structure in chosen:
        mine = np.array(sorted(member for owner, member in members if owner is structure), np.int64)
        alive = mine[structure.norms()[mine] != 0]
        structure.zero(alive)
        gone[structure.name] = alive
    return gone
