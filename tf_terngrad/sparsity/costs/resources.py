"""Resources: what a model can cost, each a sum of terms that depend on how many members of a few structures stay."""

import dataclasses
import functools
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Term:
    """One summand of a cost: of a variable, of a call, of an operator of a file.

    Args:
        owners: the numbers of the structures that it depends on, sorted: of those that its sizes come from, and of the
            branches that it leaves with. The numbers are places in `Costs.structures`.
        worked_out: the function of the shares that gives its value when none of those branches has left.
        gates: those of the owners that are branches it leaves with; without one of them it costs nothing.
    """

    owners: tuple[int, ...]
    worked_out: Callable
    gates: tuple[int, ...] = ()

    @functools.cached_property
    def _known(self):
        return {}

    def value(self, shares):
        """What it costs; worked out once for the same shares of its owners.

        Args:
            shares: an array: the share of the members of each structure that stays, and one at the end.
        """
        key = tuple(shares[list(self.owners)])
        if key not in self._known:
            gone = any(shares[gate] == 0 for gate in self.gates)
            self._known[key] = 0 if gone else self.worked_out(shares)
        return self._known[key]


def term(sizes, axes, variables, worked_out):
    """The `Term` of something with these `Axes` that leaves with the branches of these variables."""
    gates = sizes.branches(variables)
    return Term(tuple(sorted(sizes.owners(axes) | gates)), worked_out, tuple(sorted(gates)))


@dataclasses.dataclass(frozen=True)
class Resource:
    """Something that a model costs.

    Args:
        name: of the attribute of `Costs` and the argument of `Budget`.
        terms: a function of the `Sizes` of a model that gives its list of `Term`.
        amount: a function that tells so much of it in words.
        at_once: whether it is known from shapes alone; else it is worked out only where somebody asks for it.
    """

    name: str
    terms: Callable
    amount: Callable
    at_once: bool = True
