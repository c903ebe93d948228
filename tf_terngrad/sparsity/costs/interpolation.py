"""A function of a few lengths, known at some of them and taken for straight in between.

LiteRT has several ways to multiply, and takes one by how a width fills the registers of a processor: the product of a
vector of 800 with a matrix takes 35 µs for 447 or 448 outputs, and 65 µs for 449. So of each axis, the lengths that
leave the same kind of rest, `kind`, are interpolated among themselves.
"""

import itertools
import math

import numpy as np

STEP = 16  # numbers that two registers hold
KINDS = 3
SHORT = 64  # widths up to which a kind is asked at both its ends and in between
CLOSE = 0.02  # of a value: knots whose value a line through the others gives this closely are left out
SMALL = 0.1  # of the largest value: of smaller ones, this counts
MOST = 1000  # points of a grid
SHARES = (1 / 16, 1 / 4, 1 / 2, 3 / 4, 1)  # of the lengths, where a grid would have more


class Grid:
    """A table over all combinations of a few lengths.

    Args:
        whole: the largest length of each axis.
        factors: how often an axis is in the width that decides, such as 4 of a unit of an LSTM; 1 by default.
    """

    def __init__(self, whole, factors=None):
        self._whole, self._knots, self._table = tuple(whole), [], None
        self._factors = tuple(factors or [1] * len(self._whole))

    def scan(self):
        """The points that tell how the function depends on each axis: all knots of it, where the others are whole."""
        return [point for axis in range(len(self._whole)) for point in self._line(axis)]

    def points(self, value_of):
        """The points of the table, once `value_of` knows those of `scan`: each axis has the knots that it needs."""
        self._knots = [self._needed(axis, value_of) for axis in range(len(self._whole))]
        return list(itertools.product(*self._knots)) if math.prod(map(len, self._knots)) <= MOST else None

    def fill(self, value_of):
        """Take the values of the points."""
        values = [value_of(point) for point in itertools.product(*self._knots)]
        self._table = np.array(values).reshape([len(knots) for knots in self._knots])

    def at(self, point) -> float:
        """The value at a point, a length along each axis between one and the whole."""
        return interpolated(self._knots, self._table, point, self._factors)

    def _needed(self, axis, value_of):
        kinds = {}
        for point in self._line(axis):
            kinds.setdefault(kind(self._factors[axis] * point[axis]), []).append(point)
        return sorted(
            length
            for points in kinds.values()
            for length in thinned([point[axis] for point in points], list(map(value_of, points)))
        )

    def _line(self, axis):
        return [
            (*self._whole[:axis], length, *self._whole[axis + 1 :])
            for length in knots(self._whole[axis], self._factors[axis])
        ]


class Diagonal:
    """A table where all lengths shrink together, for a function of many: of a point, the mean of its shares counts.

    Args:
        whole: the largest length of each axis.
    """

    def __init__(self, whole):
        self._whole = np.array(whole)
        self._points = [tuple(map(int, np.ceil(self._whole * share))) for share in SHARES]
        self._values = None

    def points(self, value_of):
        """The points of the table."""
        return self._points

    def fill(self, value_of):
        """Take the values of the points."""
        self._values = list(map(value_of, self._points))

    def at(self, point) -> float:
        """The value at a point, as of a `Grid`."""
        shares = [float(np.mean(each / self._whole)) for each in map(np.array, (point, *self._points))]
        return float(np.interp(shares[0], shares[1:], self._values))


def kind(length) -> int:
    """How a length fills registers: 0 wholly, 1 with a rest of up to a half, 2 with a larger one."""
    rest = length % STEP
    return 0 if rest == 0 else 1 + (rest > STEP // 2)


def knots(length, factor=1) -> list[int]:
    """The lengths of an axis at which a function is asked: of each kind behind some multiples of a step, and the last.

    Outputs of one channel have a way of their own, hence 2.
    """
    steps = [0]
    while steps[-1] < length:
        steps.append(steps[-1] + STEP * max(1, steps[-1] // (2 * STEP)))
    around = {2, *(each for step in steps for each in _some(range(step + 1, step + STEP + 1), factor, step <= SHORT))}
    around |= _some(range(length, max(0, length - STEP), -1), factor, several=False)
    return sorted(knot for knot in around if knot <= length)


def _some(lengths, factor, several):
    """Of each kind the first of some lengths, and if there shall be several, one in the middle and the last."""
    same = [[each for each in lengths if kind(factor * each) == which] for which in range(KINDS)]
    chosen = [(0, len(each) // 2, -1) if several else (0,) for each in same]
    return {each[place] for each, places in zip(same, chosen, strict=True) if each for place in places}


def thinned(lengths, values) -> list[int]:
    """The lengths that a line through their values needs: from both ends on, those that the line is farthest from."""
    lengths, values = np.array(lengths), np.array(values)
    kept = {0, len(lengths) - 1} if len(lengths) else set()
    while len(kept) < len(lengths):
        order = sorted(kept)
        distance = np.abs(np.interp(lengths, lengths[order], values[order]) - values)
        off = distance - CLOSE * np.maximum(values, SMALL * values.max())
        if off.max() <= 0:
            break
        kept.add(int(np.where(distance > 0, off, -np.inf).argmax()))
    return [int(lengths[number]) for number in sorted(kept)]


def interpolated(knots, table, point, factors) -> float:
    """What a table has at a point, on straight lines between its knots.

    Args:
        knots: of each axis, increasing numbers.
        table: an array of their shape.
        point: a number along each axis, between the first and the last knot.
        factors: as of a `Grid`.
    """
    for every, at, factor in zip(knots, point, factors, strict=True):
        same = [number for number, knot in enumerate(every) if kind(factor * knot) == kind(factor * at)]
        along, table = [every[number] for number in same], table[same]
        right = min(max(int(np.searchsorted(along, at)), 1), len(along) - 1)
        left = max(right - 1, 0)
        share = (at - along[left]) / (along[right] - along[left]) if right > left else 0.0
        table = (1 - share) * table[left] + share * table[right]
    return float(table)
