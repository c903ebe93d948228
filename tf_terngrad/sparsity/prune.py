"""Structures that are taken out at once, without being learned: those of the least scores."""

from collections.abc import Sequence

import keras
import numpy as np

from tf_terngrad import checks
from tf_terngrad.sparsity.budget import Budget
from tf_terngrad.sparsity.costs import Costs
from tf_terngrad.sparsity.importance import scored
from tf_terngrad.sparsity.learn.choice import choose, widths
from tf_terngrad.sparsity.learn.selection import Selection
from tf_terngrad.sparsity.rounding import rounded_down
from tf_terngrad.sparsity.structures import structures

STEPS = 8
"""In how many steps a budget is come near to; in one of them the cost of a member changes little."""


def prune(
    model: keras.Model,
    budget: Budget | None = None,
    scores="norm",
    kinds: Sequence[str] | None = None,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    uniform: bool = False,
    round_to: int | str = 1,
    input_shapes: Sequence | None = None,
) -> dict[str, np.ndarray]:
    """Zero the members of the least scores, as few as bring a model within a budget; `tt.compact` takes them out.

    Use it when there is no time to learn which structures a model needs, or to know what learning them is worth: prune,
    train on (what is zero stays zero with `tt.hold`), compact.

    A structure is worth the logarithm of the sum of its members' scores, so that half of a layer is worth as much as
    half of another one. Those leave first that are worth least for what they cost of the limits that do not hold yet.
    Each structure keeps the member of its largest score; what is zero already counts as gone. Branches of residual
    sums, if `kinds` has them, are compared with one another, and all may leave: the network is less deep.

    To prune in steps, call it and `tt.hold` again with a smaller budget after training on; shares are of the whole
    model each time. Without training, `tt.calibrate` gives batch normalizations the statistics of what is left.

    Args:
        model: a built `keras.Model`; its weights are changed.
        budget: a `Budget`. Shares are of what the model costs now, zeros included. None: only `round_to` asks for less.
        scores: what members are worth, numbers of at least zero: "norm", "random", or a function of a `Structure`; see
            `tt.importance`.
        kinds: of structures, as `tt.sparsify` takes them; by default those that are widths of layers.
        include: names of layers or structures, likewise.
        exclude: names of layers or structures to leave as they are.
        uniform: take the same share of each structure, its least scores; else the least worth of the whole model.
        round_to: widths that processors like. An integer: of each structure a multiple stays, and further members of
            the least worth leave for it (a width below it stays as it is); 8 or 16 suit most. "auto": the width of the
            least milliseconds a member by `tt.costs(model).latency`, of those that lose at most one member of eight.
            `tt.compact(round_to=)` goes up instead: it keeps zeros, so the outputs stay, and the model is larger.
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
    if budget is None and round_to == 1:
        raise ValueError("prune: expected a budget, or widths to round to. Received: budget=None, round_to=1")
    if budget is not None:
        checks.instance(budget, Budget, "budget", "prune")
    uniform = checks.flag(uniform, "uniform", "prune")
    found = structures(model)
    chosen = choose(found, widths(found) if kinds is None else kinds, include, exclude, "prune")
    costs = Costs(model, input_shapes)
    rounded = rounded_down(costs, round_to, "prune")
    members = _Members(chosen, [_worth(structure, scores) for structure in chosen], costs, budget)
    if budget is not None:
        budget.check(costs.of({each.name: each.least for each in chosen}), costs, "prune")
        members.take(uniform)
        members.put_back()
    members.round(rounded)
    return members.zero()


class _Members:
    """The members of some structures, and which of them leave.

    Args:
        chosen: the structures.
        worths: what the members of each are worth.
        costs: `Costs` of their model.
        budget: a `Budget`, or None.
    """

    def __init__(self, chosen, worths, costs, budget):
        self._chosen, self._worths, self._costs, self._budget = chosen, worths, costs, budget
        self._limits = {} if budget is None else budget.limits(costs)
        self._dead = [structure.norms() == 0 for structure in chosen]
        self._gone = list(self._dead)

    def take(self, uniform):
        """Take members until the budget is met; in steps, for what a member costs depends on what else is left."""
        selection = Selection.under(self._limits, self._costs, self._chosen, uniform=uniform)
        ends, worths = np.cumsum([each.size for each in self._chosen])[:-1], np.concatenate(self._worths)
        now, limits = self._total(), np.array(list(self._limits.values()))
        begin = np.maximum([getattr(now, name) for name in self._limits], limits)
        for step in range(1, STEPS + 1):
            scores = np.where(np.concatenate(self._gone), 0.0, worths)
            limit = (begin * (limits / begin) ** (step / STEPS)).astype(np.float32)
            taken = selection.leaving(scores, limit, limits.astype(np.float32))
            gone = np.concatenate(self._gone) | keras.ops.convert_to_numpy(taken)
            self._gone = np.split(gone, ends)

    def put_back(self):
        """Put back what the budget allows to stay, the members of the largest worth first."""
        fits = True
        while fits:
            fits = False
            for number, worths in enumerate(self._worths):
                could = self._gone[number] & ~self._dead[number]
                if could.any():
                    best = np.where(could, worths, -np.inf).argmax()
                    self._gone[number][best] = False
                    fits |= (allowed := self._budget.allows(self._total(), self._costs))
                    self._gone[number][best] = not allowed

    def round(self, rounded):
        """Take further members, those of the least worth, until as many of each structure stay as `rounded` says."""
        for number, (structure, worth) in enumerate(zip(self._chosen, self._worths, strict=True)):
            alive = np.flatnonzero(~self._gone[number])
            excess = len(alive) - rounded(structure.name, len(alive))
            gone = self._gone[number].copy()
            gone[alive[np.argsort(worth[alive], kind="stable")[:excess]]] = True
            self._gone[number] = gone

    def zero(self):
        """Zero those that leave and are not zero yet, and say which."""
        found = {}
        for structure, gone, dead in zip(self._chosen, self._gone, self._dead, strict=True):
            found[structure.name] = np.flatnonzero(gone & ~dead)
            structure.zero(found[structure.name])
        return found

    def _total(self):
        stay = {s.name: max(int((~gone).sum()), s.least) for s, gone in zip(self._chosen, self._gone, strict=True)}
        return self._costs.of(stay)


def _worth(structure, scores):
    """What the members of a structure are worth, all above zero but those that are zero."""
    worth = scored(structure, scores, "prune")
    if (worth < 0).any():
        raise ValueError(checks.refusal("prune", "scores", f"at least zero for {structure.name!r}", worth.min()))
    return np.maximum(worth, np.finfo(np.float32).tiny)
