"""Which members leave so that the rest of a model costs at most so much, as tensors for a graph that trains.

A structure is worth the logarithm of what its members are worth together: half of a layer is worth as much as half of
another one, and the last members are worth the most. Those leave first whose worth is least for what they cost. The
branches of a model, structures of one member each, are compared with one another as members of a structure are; they
are worth as many times the logarithm of their sum as there are branches, so one of many is worth 1: what a layer loses,
to first order, that loses as many members as it has.
"""

import math

import numpy as np
from keras import ops

from tf_terngrad.sparsity.costs.tables import CostTables
from tf_terngrad.sparsity.learn.blocks import Blocks, Steps

ROUNDS = 8
USED = 0.96
"""How many choices are tried for one that uses more of the last limits, and how much of them is enough."""

PARTS = 16
"""Into how many parts the span is cut at once in which the number of those that leave is looked for."""


class Selection:
    """The members of the least worth for their cost, as few as bring a model within its limits.

    Args:
        sizes: how many members each structure has, integers.
        costs: a `CostTables` for each limit, a function of how many members of each structure stay.
        widths: how many members each structure may keep, increasing arrays. Members between two of them leave together,
            those beyond the last one always. Structures that may keep none are branches, and come last: they are
            compared with one another. By default each member leaves singly, and one of each structure stays.
        uniform: the same share of each structure leaves, whatever its members are worth and cost.
    """

    def __init__(self, sizes, costs, widths=None, uniform=False):
        self._costs, self._uniform = costs, uniform
        self._owner = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
        self._owned = (self._owner[:, None] == np.arange(len(sizes))).astype(np.float32)
        widths = [np.arange(1, size + 1) for size in sizes] if widths is None else widths
        alone = sum(each[0] > 0 for each in widths)
        self._pool = np.minimum(self._owner, alone)  # whose members are compared with one another
        self._sizes = np.bincount(self._pool)
        self._first = (np.cumsum(self._sizes) - self._sizes).astype(np.int32)
        self._last = (self._first + self._sizes - 1).astype(np.int32)[self._pool]
        self._times = np.where(self._pool == alone, len(sizes) - alone, 1).astype(np.float32)
        self._blocks, self._steps = Blocks(sizes, widths), Steps(sizes, widths)

    @classmethod
    def under(cls, limits, costs, chosen, widths, uniform=False):
        """That of some structures of a model under limits of some resources.

        Args:
            limits: names of resources.
            costs: `Costs` of the model.
            chosen: the structures, branches last.
            widths: as of the class.
            uniform: likewise.
        """
        places = {cost.name: place for place, cost in enumerate(costs.structures)}
        numbers = [places[structure.name] for structure in chosen]
        tables = [CostTables(costs, resource, numbers, widths) for resource in limits]
        return cls([structure.size for structure in chosen], tables, widths, uniform)

    def leaving(self, scores, limits, last_limits=None):
        """Which members leave.

        Of each structure but branches the member of the largest score stays, and those that are zero count as gone.
        Where the last one to leave is so large that much of a limit would never be used, it stays, and others leave in
        its place.

        Args:
            scores: what members are worth, a float tensor of shape (members,), at least zero; infinity keeps one.
            limits: what each of the costs may be at most, a float tensor of shape (costs,).
            last_limits: what each may be at the end of a course, likewise; None: these are the last ones.

        Returns:
            A Boolean tensor of shape (members,). Where all that may leave is not enough, all that may.
        """
        ranks = self._ranks(ops.cast(scores, "float32"), limits)
        last_limits = limits if last_limits is None else last_limits

        def is_unused(tried, _, __, used):
            return ops.logical_and(tried < ROUNDS, used < USED)

        def again(tried, ranks, best, used):
            leaving, last = self._least(ranks, limits)
            is_enough = ops.max(self._used(leaving[None], limits)) <= 1
            now = ops.max(self._used(leaving[None], last_limits))
            better = ops.logical_or(tried == 0, ops.logical_and(is_enough, now > used))
            ranks = ops.where(ops.logical_and(ranks == last, last >= 0), float("inf"), ranks)
            return tried + 1, ranks, ops.where(better, leaving, best), ops.where(better, now, used)

        start = ops.zeros((), "int32"), ranks, ops.zeros_like(ranks, "bool"), ops.zeros(())
        return ops.while_loop(is_unused, again, start)[2]

    def _least(self, ranks, limits):
        """The fewest members of the least ranks that are enough, and the largest of these ranks."""
        increasing = ops.sort(ranks)

        def last_of(counts):
            return ops.where(counts > 0, ops.take(increasing, ops.maximum(counts - 1, 0)), -1.0)

        def narrowed(_, bounds):
            low, high = bounds  # low is not enough, high is
            counts = low + (high - low) * np.arange(1, PARTS, dtype=np.int32) // PARTS
            leaving = ranks[None] <= last_of(counts)[:, None]
            enough = ops.logical_and(ops.max(self._used(leaving, limits), axis=0) <= 1, counts > low)
            bounds = ops.concatenate([low[None], counts, high[None]])
            first = PARTS - ops.sum(ops.cast(enough, "int32"))
            return ops.take(bounds, first - 1), ops.take(bounds, first)

        bounds = ops.full((), -1, "int32"), ops.sum(ops.cast(ops.isfinite(ranks), "int32"))
        times = math.ceil(math.log(len(self._owner) + 1, PARTS)) + 1
        last = last_of(ops.fori_loop(0, times, narrowed, bounds)[1])
        return ranks <= last, last

    def _counts(self, leaving):
        """How many members of each structure stay, shape (cases, structures)."""
        return ops.matmul(ops.cast(ops.logical_not(leaving), "float32"), self._owned)

    def _used(self, leaving, limits):
        """What share of each limit is used without some members, shape (limits, cases)."""
        counts = self._counts(leaving)
        return ops.stack([cost(counts) for cost in self._costs]) / limits[:, None]

    def _saved(self, scores, limits):
        """What share of the limits that do not hold yet leaves with a member of each structure, of its next block.

        Where that block saves nothing, as on a step of the latency, all that may leave counts in its place.
        """
        counts, following, least = self._steps.around(self._counts(scores[None] == 0)[0])
        now = ops.stack([cost(counts[None]) for cost in self._costs])

        def saved(lower):
            fewer = counts - np.eye(self._owned.shape[1], dtype=np.float32) * (counts - lower)
            less = (now - ops.stack([cost(fewer) for cost in self._costs])) / limits[:, None]
            return ops.sum(ops.where(now > limits[:, None], less, 0.0), axis=0) / ops.maximum(counts - lower, 1.0)

        of_block = saved(following)
        return ops.where(of_block > 0, of_block, saved(least))

    def _ranks(self, scores, limits):
        """The order in which members leave: their share of what is left of their structure's worth, for their cost."""
        by_score = ops.cast(ops.argsort(ops.argsort(scores)), "int32")
        order = ops.argsort(self._pool * len(self._pool) + by_score)  # structures in their order, each by score
        place = ops.cast(ops.argsort(order), "int32")
        increasing = ops.take(ops.where(ops.isfinite(scores), scores, 0.0), order)
        beyond = ops.flip(ops.cumsum(ops.flip(increasing)))  # the sum from each place on, of later structures too
        beyond = ops.concatenate([beyond, ops.zeros((1,))])
        left = beyond[:-1] - ops.take(beyond, self._last + 1)
        worth = self._times * ops.take(ops.where(increasing == 0, 0.0, increasing / left), place)
        saved = ops.take(self._saved(scores, limits), self._owner)
        ranks = ops.where(scores == 0, 0.0, ops.where(saved > 0, worth / saved, float("inf")))
        ranks = (place - self._first[self._pool] + 1) / self._sizes[self._pool] if self._uniform else ranks
        return self._blocks.ranked(ranks, place, scores == 0, ops.isinf(scores))
