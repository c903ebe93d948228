"""Axes that are made of several ones, such as a flat axis of heads times dimensions, which a reshape takes apart.

A reshape needs a full grid: of H heads with K dimensions h heads with k dimensions may stay. So each position of the
flat axis has two units, that of its head and that of its dimension, and stays where both of these stay.
"""

import math

import numpy as np

_DEEPEST = 4
"""How many grids may lie in one another; an axis that is made of more, or of itself, keeps its width."""


class Grids:
    """The units that stay only where two others do, such as those of a flat axis.

    Args:
        units: the `Units` of the graph.
    """

    def __init__(self, units):
        self._units = units
        self._made = []  # (units, the first that each of them needs, the second)
        self._in_front, self._crossed, self._heads = [], [], []
        self._table = None

    def merged(self, first, second):
        """New units, each of which stays where its first and its second do."""
        units = self._units.new(len(first))
        self._made.append((units, first, second))
        return units

    def split(self, units, sizes):
        """The units along each of several axes of these sizes, in which flat units lie."""
        *front, last = sizes
        if not front:
            return [units]
        rows, columns = self._units.new(math.prod(front)), self._units.new(last)
        self._made.append((units, np.repeat(rows, last), np.tile(columns, len(rows))))
        along = self.split(rows, front)
        self._in_front += along
        return [*along, columns]

    def cross(self, channels, is_head=True):
        """Note that tensors are multiplied for each of these channels (None: there are none).

        `is_head`: whether each has a product of its own, so that these are heads whatever they come from.
        """
        if channels is not None:
            (self._heads if is_head else self._crossed).append(channels.units)

    @property
    def heads(self):
        """The units of heads: for each of which there is a product, or rows that a product crosses."""
        find = self._units.find
        rows = np.intersect1d(find(_joined(self._in_front)), find(_joined(self._crossed)))
        return np.union1d(find(_joined(self._heads)), rows)

    def settle(self):
        """Work out what each unit needs, once all ties are known; returns the units that have to stay.

        What lies in front of the last axis leaves only where something crosses it: the rows of an image stay.
        """
        everything = self._units.find(np.arange(len(self._units)))
        self._table = everything[None]
        if not self._made:
            return everything[:0]
        units, first, second = map(_joined, zip(*self._made, strict=True))
        self._tie_alike(units, first, second)
        find = self._units.find
        needs = np.tile(find(np.arange(len(self._units))), (2, 1))
        needs[:, find(units)] = find(first), find(second)
        loose = np.setdiff1d(find(_joined(self._in_front)), np.union1d(self.heads, find(units)))
        self._table, endless = _expanded(needs, find(np.arange(len(self._units))))
        self._table = _without(self._table, loose)
        return np.union1d(loose, endless)

    def needed(self, units):
        """The units that each of these needs, an array (1 or more, units)."""
        return self._table[:, units]

    def lying(self, units):
        """Positions of an axis and the units that lie there: of a grid, several at each position."""
        positions, table = np.arange(len(units)), self._table[:, units]
        if len(table) == 1:
            return positions, table[0]
        return np.unique([np.tile(positions, len(table)), table.ravel()], axis=1)

    def _tie_alike(self, units, first, second):
        """Units that are one need the same: their firsts are one, and their seconds."""
        count = None
        while count != (count := len(np.unique(self._units.find(np.concatenate([first, second]))))):
            _, start, which = np.unique(self._units.find(units), return_index=True, return_inverse=True)
            self._units.tie(first, first[start][which])
            self._units.tie(second, second[start][which])


def _joined(arrays):
    return np.concatenate([np.zeros(0, np.int64), *arrays])


def _expanded(needs, table):
    """What each unit needs in the end, and the units of which that has no end, which only need themselves."""
    roots, table = table, table[None]
    for _ in range(_DEEPEST):
        if (needs[:, table] == table).all():
            return table, roots[:0]
        table = np.concatenate(needs[:, table])
    endless = (needs[:, table] != table).any((0, 1))
    reached = np.unique(table[:, endless])
    table[:, endless] = roots[endless]
    return table, np.union1d(reached, roots[endless])


def _without(table, loose):
    """The same without loose units, where a unit needs any other."""
    held = ~np.isin(table, loose)
    return np.where(held, table, table[held.argmax(0), np.arange(table.shape[1])])
