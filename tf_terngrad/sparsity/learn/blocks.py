"""Members that leave together, so that structures end at widths that are allowed."""

import numpy as np
from keras import ops


class Blocks:
    """The members of structures in blocks, from one allowed width to the next.

    The first block of a structure, its best members, never leaves. What lies beyond the largest allowed width always
    does, and so do the living members of a block of which a member is dead: what is left of it is no allowed width.
    What may keep no member, as a branch, has no first block.

    Args:
        sizes: how many members each structure has, integers.
        widths: the allowed widths of each, increasing arrays.
    """

    def __init__(self, sizes, widths):
        of_place, is_first, is_best, is_beyond, self._count = [], [], [], [], 0
        for size, allowed in zip(sizes, widths, strict=True):
            # Members lie by score, the least first; blocks are counted from the best.
            block = np.searchsorted(allowed, np.arange(size), "right")[::-1]
            of_place.append(self._count + block)
            is_first.append(block == 0)
            is_best.append(np.arange(size) == size - 1)
            is_beyond.append(block == len(allowed))
            self._count += len(allowed) + 1
        self._of_place = np.concatenate(of_place).astype(np.int32)
        self._is_first, self._is_best, self._is_beyond = map(np.concatenate, (is_first, is_best, is_beyond))
        self._is_single = len(set(self._of_place)) == len(self._of_place) and not self._is_beyond.any()

    def ranked(self, ranks, place, is_dead, is_kept):
        """The ranks of members in blocks: the mean of each, -1 where it leaves in any case, infinity where it stays.

        Args:
            ranks: in which order members would leave singly, a float tensor of shape (members,).
            place: where each member lies, structures in their order, members by score.
            is_dead: which of them are dead, a Boolean tensor.
            is_kept: which of them have to stay, likewise.
        """
        stays = ops.logical_or(ops.take(self._is_first, place), is_kept)
        if self._is_single:
            return ops.where(stays, float("inf"), ranks)
        block = ops.take(self._of_place, place)
        stays = ops.logical_or(stays, self._in_same(is_kept, block))
        leaves = ops.logical_or(ops.take(self._is_beyond, place), self._in_same(is_dead, block))
        means = self._sums(ranks, block) / ops.maximum(self._sums(ops.ones_like(ranks), block), 1.0)
        ranks = ops.where(stays, float("inf"), ops.where(leaves, -1.0, ops.take(means, block)))
        # The dead of a first block are gone, too; of each structure one member is counted in any case.
        gone = ops.logical_and(is_dead, ops.logical_not(ops.take(self._is_best, place)))
        return ops.where(gone, -1.0, ranks)

    def _in_same(self, chosen, block):
        """Which members are in a block with a chosen one."""
        return ops.take(self._sums(ops.cast(chosen, "float32"), block) > 0, block)

    def _sums(self, values, block):
        return ops.segment_sum(values, block, self._count)


class Steps:
    """The allowed widths around any number of members, as tables.

    Args:
        sizes: as of `Blocks`.
        widths: likewise.
    """

    def __init__(self, sizes, widths):
        self._begin = np.cumsum([0, *(size + 1 for size in sizes[:-1])]).astype(np.int32)
        parts = zip(*map(_around, sizes, widths), strict=True)
        self._tables = [np.concatenate(part).astype(np.float32) for part in parts]

    def around(self, counts):
        """The largest allowed width up to each number of members, the one below that, and the least one.

        A number below all allowed widths counts as one; where there is none below, it is zero.

        Args:
            counts: how many members of each structure live, a float tensor of shape (structures,).
        """
        places = self._begin + ops.cast(counts, "int32")
        return [ops.take(table, places) for table in self._tables]


def _around(size, widths):
    counts = np.arange(size + 1)
    index = np.searchsorted(widths, counts, "right")  # how many allowed widths there are up to each
    lower = np.concatenate([[0], widths])
    return np.where(index == 0, counts, lower[index]), lower[np.maximum(index - 1, 0)], np.minimum(widths[0], counts)
