"""A model's cost as tensors: a function of how many members stay, for a graph that trains.

A term is worked out at a few counts of each structure that it depends on, and is straight in between. Products of the
sizes of two structures, of which most costs are made, are so exactly; a square lies below the straight lines.
"""

import collections
import itertools

import numpy as np
from keras import ops

EXACT = 2e-3
"""How far the middle between two counts may be off the straight line, as a share of the term there."""


class CostTables:
    """What a model costs of one resource, as a tensor.

    Args:
        costs: `Costs` of the model.
        resource: its name.
        structures: the numbers of the structures whose counts may change, in `costs.structures`; all members of the
            others stay.
        widths: the counts that each of them may have, increasing arrays; by default all.
    """

    def __init__(self, costs, resource, structures, widths=None):
        self._places = {number: place for place, number in enumerate(structures)}
        self._sizes = np.array([each.size for each in costs.structures], np.float64)
        self._widths = {} if widths is None else dict(zip(structures, widths, strict=True))
        self._fixed, stacks = 0.0, collections.defaultdict(list)
        for owners, value in _by_owners(costs.terms(resource), self._places).items():
            axes = [self._counts(value, owners, owner) for owner in owners]
            values = np.array([value(self._shares(owners, counts)) for counts in itertools.product(*axes)], np.float64)
            if owners:
                stacks[tuple(map(len, axes))].append((owners, axes, values.reshape([len(axis) for axis in axes])))
            else:
                self._fixed += float(values[0])
        self._stacks = [_Stack(tables, self._places) for tables in stacks.values()]

    def __call__(self, counts):
        """The cost.

        Args:
            counts: how many members of each structure stay, a float32 tensor of shape (cases, structures).

        Returns:
            A float32 tensor of shape (cases,).
        """
        fixed = ops.full((counts.shape[0],), self._fixed, "float32")
        return sum((stack(counts) for stack in self._stacks), start=fixed)

    def _shares(self, owners, counts):
        """All members of all structures but of the owners."""
        shares = np.ones(len(self._sizes) + 1)
        shares[list(owners)] = np.array(counts) / self._sizes[list(owners)]
        return shares

    def _counts(self, value, owners, owner):
        """Counts of one owner between which a term is straight, the others whole."""

        def at(count):
            return value(self._shares([owner], [count]))

        size = int(self._sizes[owner])
        known = sorted({1, *map(int, self._widths.get(owner, range(1, size + 1))), size})

        def between(low, high):
            """Those of the known counts, between two places there, that a straight line misses."""
            middle = (low + high) // 2
            if middle == low:
                return []
            left, right = known[low], known[high]
            line = at(left) + (at(right) - at(left)) * (known[middle] - left) / (right - left)
            if abs(line - at(known[middle])) <= EXACT * abs(at(known[middle])):
                return []
            return [*between(low, middle), known[middle], *between(middle, high)]

        return sorted({0, 1, *between(0, len(known) - 1), size})


class _Stack:
    """Tables with equally many counts along their axes.

    Args:
        tables: the owners of each, the counts of each owner, and the array of values.
        places: the place of each owner's count.
    """

    def __init__(self, tables, places):
        owners, axes, values = zip(*tables, strict=True)
        self._values = np.stack(values).astype(np.float32)
        self._places = [np.array([places[each[axis]] for each in owners]) for axis in range(len(owners[0]))]
        self._counts = [np.array([each[axis] for each in axes], np.float32) for axis in range(len(axes[0]))]

    def __call__(self, counts):
        value = ops.convert_to_tensor(self._values)[None]
        for places, knots in zip(self._places, self._counts, strict=True):
            weights = _weights(ops.take(counts, places, axis=1), knots)
            value = ops.sum(value * ops.reshape(weights, (*weights.shape, *[1] * (len(value.shape) - 3))), axis=2)
        return ops.sum(value, axis=1)


def _weights(counts, knots):
    """The weights of the knots in a straight line between two of them, shape (cases, tables, knots).

    Args:
        counts: tensor of shape (cases, tables).
        knots: array of shape (tables, knots), increasing along the last axis.
    """
    passed = ops.clip((counts[..., None] - knots[:, :-1]) / np.diff(knots, axis=1), 0.0, 1.0)
    one = ops.ones_like(passed[..., :1])
    return ops.concatenate([one, passed], -1) - ops.concatenate([passed, 0 * one], -1)


def _by_owners(terms, places):
    """The sum of the terms that depend on the same of these structures, a function of the shares, by their numbers."""
    groups = collections.defaultdict(list)
    for term in terms:
        groups[tuple(owner for owner in term.owners if owner in places)].append(term)
    return {
        owners: lambda shares, terms=terms: sum(term.value(shares) for term in terms)
        for owners, terms in groups.items()
    }
