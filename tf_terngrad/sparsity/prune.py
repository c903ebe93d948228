"""Structures that are taken out at once, without being learned: those of the least scores."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tf_terngrad import checks
from tf_terngrad.sparsity.budget import Budget
from tf_terngrad.sparsity.costs import Costs
from tf_terngrad.sparsity.importance import scored
from tf_terngrad.sparsity.learn.choice import choose, widths
from tf_terngrad.sparsity.learn.selection import Selection
from tf_terngrad.sparsity.rounding import REACH, ROUNDINGS, allowed_widths, at_most, checked, nearest
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
    rounding: str = "down",
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
        round_to: the widths that structures may end at; members between two of them leave together. An integer: its
            multiples, and any width of a structure with fewer members; 8 or 16 suit most processors. "auto": those at
            which a member costs least by `tt.costs(model).latency`. A structure that has fewer living members than the
            least of these widths stays as it is.
        rounding: without a budget, which way: "down", so that members of the least worth leave until a width is
            allowed; or "nearest", the same only where the next width down is nearer than the next one up. The others
            stay as they are, for `tt.compact(model, round_to=)` to round up: that keeps zeros, so outputs stay.
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
    round_to = checked(round_to, "prune")
    rounding = checks.one_of(rounding, ROUNDINGS, "rounding", "prune")
    if budget is not None and rounding != "down":
        raise ValueError(
            "prune: `rounding` is for no budget; with one, widths are chosen within it. "
            f"Received: budget={budget}, rounding={rounding!r}"
        )
    if budget is None and round_to == 1:
        raise ValueError("prune: expected a budget, or widths to round to. Received: budget=None, round_to=1")
    if budget is not None:
        checks.instance(budget, Budget, "budget", "prune")
    uniform = checks.flag(uniform, "uniform", "prune")
    found = structures(model)
    chosen = choose(found, widths(found) if kinds is None else kinds, include, exclude, "prune")
    costs = Costs(model, input_shapes)
    allowed = allowed_widths(round_to, chosen, costs)
    members = _Members(chosen, [_worth(structure, scores) for structure in chosen], costs, budget, allowed)
    if budget is None:
        members.round(nearest if rounding == "nearest" else at_most)
    else:
        budget.check(members.least(), costs, "prune", round_to)
        members.take(uniform)
        members.take_rest()
        members.put_back()
    return members.zero()


class _Members:
    """The members of some structures, and which of them leave.

    Args:
        chosen: the structures.
        worths: what the members of each are worth.
        costs: `Costs` of their model.
        budget: a `Budget`, or None.
        allowed: the widths that each of them may end at.
    """

    def __init__(self, chosen, worths, costs, budget, allowed):
        self._chosen, self._worths, self._costs, self._budget = chosen, worths, costs, budget
        self._allowed = allowed
        self._limits = {} if budget is None else budget.limits(costs)
        self._dead = [structure.norms() == 0 for structure in chosen]
        self._gone = list(self._dead)

    def take(self, uniform):
        """Take members until the budget is met; in steps, for what a member costs depends on what else is left."""
        selection = Selection.under(self._limits, self._costs, self._chosen, widths=self._allowed, uniform=uniform)
        leaving = tf.function(selection.leaving, autograph=False)  # thousands of operations in each step
        ends, worths = np.cumsum([each.size for each in self._chosen])[:-1], np.concatenate(self._worths)
        now, limits = self._total(), np.array(list(self._limits.values()))
        begin = np.maximum([getattr(now, name) for name in self._limits], limits)
        for step in range(1, STEPS + 1):
            scores = np.where(np.concatenate(self._gone), 0.0, worths).astype(np.float32)
            limit = (begin * (limits / begin) ** (step / STEPS)).astype(np.float32)
            taken = leaving(scores, limit, limits.astype(np.float32))
            gone = np.concatenate(self._gone) | keras.ops.convert_to_numpy(taken)
            self._gone = np.split(gone, ends)

    def take_rest(self):
        """Take further members where the budget is not met yet: the steps of a latency lie beside straight lines."""
        while not self._budget.allows(now := self._total(), self._costs):
            lower = [(number, width) for number in range(len(self._chosen)) for width in self._lower(number)]
            if not lower:
                return
            number, width = min(lower, key=lambda each: self._price(now, *each))
            self._gone[number] = self._cut(number, width)

    def put_back(self):
        """Put back what the budget allows to stay, the members of the largest worth first."""
        fits = True
        while fits:
            fits = False
            for number, worths in enumerate(self._worths):
                could = self._gone[number] & ~self._dead[number]
                count = self._count(number)
                wider = self._allowed[number][self._allowed[number] > count]
                if len(wider) and could.sum() >= (more := wider[0] - count):
                    before = self._gone[number].copy()
                    self._gone[number][_best(worths, could, more)] = False
                    fits |= (allowed := self._budget.allows(self._total(), self._costs))
                    if not allowed:
                        self._gone[number] = before

    def round(self, rounded):
        """Take members of the least worth until as many of each structure stay as `rounded(allowed, living)` says."""
        for number, allowed in enumerate(self._allowed):
            self._gone[number] = self._cut(number, rounded(allowed, self._count(number)))

    def least(self):
        """What the model costs at the least widths that are allowed."""
        counts = [min(int(allowed[0]), self._count(number)) for number, allowed in enumerate(self._allowed)]
        stay = {each.name: max(count, each.least) for each, count in zip(self._chosen, counts, strict=True)}
        return self._costs.of(stay)

    def zero(self):
        """Zero those that leave and are not zero yet, and say which."""
        found = {}
        for structure, gone, dead in zip(self._chosen, self._gone, self._dead, strict=True):
            found[structure.name] = np.flatnonzero(gone & ~dead)
            structure.zero(found[structure.name])
        return found

    def _total(self):
        return self._costs.of(
            {each.name: max(self._count(place), each.least) for place, each in enumerate(self._chosen)}
        )

    def _count(self, number):
        """How many members of a structure stay."""
        return int((~self._gone[number]).sum())

    def _cut(self, number, width):
        """Which members of a structure are gone once so many stay."""
        gone, excess = self._gone[number].copy(), self._count(number) - width
        gone[_best(-self._worths[number], ~gone, excess)] = True
        return gone

    def _lower(self, number):
        """The next allowed widths below that of a structure, beyond a step of the latency."""
        allowed = self._allowed[number]
        return allowed[allowed < self._count(number)][-REACH:]

    def _price(self, now, number, width):
        """What it takes of a structure's worth to bring it to a width: for what that saves, and in all."""
        before, gone = self._gone[number], self._cut(number, width)
        share = self._worths[number][gone & ~before].sum() / self._worths[number][~before].sum()
        self._gone[number] = gone
        then = self._total()
        self._gone[number] = before
        costs = [(getattr(now, name), getattr(then, name), limit) for name, limit in self._limits.items()]
        saved = sum((more - less) / limit for more, less, limit in costs if more > limit)
        return (share / saved if saved > 0 else np.inf), share


def _best(worths, could, count):
    """The places of some of those that could be chosen: of the largest worth, the first of equal ones."""
    places = np.flatnonzero(could)
    return places[np.argsort(-worths[places], kind="stable")[:count]]


def _worth(structure, scores):
    """What the members of a structure are worth, all above zero but those that are zero."""
    worth = scored(structure, scores, "prune")
    if (worth < 0).any():
        raise ValueError(checks.refusal("prune", "scores", f"at least zero for {structure.name!r}", worth.min()))
    return np.maximum(worth, np.finfo(np.float32).tiny)
