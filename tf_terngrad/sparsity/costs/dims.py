"""Sizes in a TFLite file as functions of how many members stay.

The converter does not say where the size of a tensor comes from. So a model is converted with a few numbers of members,
and of the functions that a size can be, the simplest is taken that gives what was seen each time.
"""

import dataclasses
import itertools
import math
from fractions import Fraction

import numpy as np

FARTHEST = 2  # offset that a size may have, such as 1 for a feature that the converter adds


@dataclasses.dataclass(frozen=True)
class Dim:
    """A size: `factor · Π(lengths of axes) + offset`, rounded; of no axes, the offset.

    Args:
        axes: numbers of axes of the model in its `Widths`, at most two.
        factor: a fraction, such as 4 of the gates of an LSTM.
        offset: a small one.
    """

    axes: tuple[int, ...] = ()
    factor: Fraction = Fraction(1)
    offset: int = 0

    def at(self, lengths) -> int:
        """The size where axes have these `Lengths`."""
        return round(self.factor * lengths.product(self.axes)) + self.offset if self.axes else self.offset


class Widths:
    """The axes of a model that can shrink, each kind once: two of which one is always twice the other are one kind.

    Args:
        sizes: the `Sizes` of the model.

    Attributes:
        terms: of each axis, how many positions need members of the same structures: pairs (their numbers, how many).
        parts: of each axis that several axes are put together for, how often it has each of them, by axis.
    """

    def __init__(self, sizes):
        fixed, found = (len(sizes.structures),), {}
        for units in sizes.axes():
            terms = sizes.lengths.terms(units)
            if any(owners != fixed for owners, _ in terms):
                _add(found, terms)
                for term in terms:
                    _add(found, (term,))
        self._fixed, self.terms = fixed, list(found.values())
        number = {terms[0][0]: axis for axis, terms in enumerate(self.terms) if len(terms) == 1}
        self.parts = {
            axis: {number[owners]: Fraction(count, self.terms[number[owners]][0][1]) for owners, count in terms}
            for axis, terms in enumerate(self.terms)
            if len(terms) > 1
        }

    def at(self, shares):
        """The `Lengths` where these shares of the structures stay."""
        return Lengths(self, {(axis,): length_of(terms, shares) for axis, terms in enumerate(self.terms)})

    def owners(self, axis):
        """The numbers of the structures that the length of an axis depends on."""
        return {owner for owners, _ in self.terms[axis] for owner in owners} - set(self._fixed)


class Lengths:
    """How long axes are, or those of one operator.

    Args:
        widths: the `Widths`.
        known: lengths by tuple of axes: of one, or of two where their product is all that is known.
    """

    def __init__(self, widths, known):
        self._widths, self._known = widths, known

    def product(self, axes):
        """The product of the lengths of axes."""
        return self._known[axes] if axes in self._known else math.prod(map(self._one, axes))

    def _one(self, axis):
        if (axis,) in self._known:
            return self._known[axis,]
        return sum(often * self._one(part) for part, often in self._widths.parts[axis].items())


def _add(found, terms):
    """Note an axis of these terms under their proportions; of several with the same, the shortest."""
    common = math.gcd(*(count for _, count in terms))
    key = tuple((owners, count // common) for owners, count in terms)
    found[key] = min(found.get(key, terms), terms, key=lambda terms: terms[0][1])


def length_of(terms, shares):
    """How long an axis is where these shares of the structures stay; `terms` as of `Widths`."""
    return round(sum(count * shares[list(owners)].prod() for owners, count in terms))


def found(seen, lengths) -> Dim | None:
    """The simplest `Dim` that gives a size each time.

    Args:
        seen: the size, in each of several conversions.
        lengths: the lengths of the axes in each of them, an array of shape (conversions, axes).

    Returns:
        The `Dim`; None where none gives what was seen.
    """
    seen = [int(size) for size in seen]
    if len(set(seen)) == 1:
        return Dim(offset=seen[0])
    axes = range(lengths.shape[1])
    single = [dim for axis in axes if (dim := _line(seen, lengths, (axis,))) is not None]
    exact = [dim for dim in single if dim.offset == 0]
    if exact or single:
        return min(exact or single, key=_complexity)
    pairs = [_line(seen, lengths, pair) for pair in itertools.combinations_with_replacement(axes, 2)]
    pairs = [dim for dim in pairs if dim is not None and dim.offset == 0]
    return min(pairs, key=_complexity, default=None)


def _line(seen, lengths, axes):
    """The `Dim` of these axes through all that was seen; None: there is none."""
    products = [int(np.prod(row)) for row in lengths[:, list(axes)]]
    low, high = int(np.argmin(products)), int(np.argmax(products))
    if products[low] == products[high]:
        return None
    factor = Fraction(seen[high] - seen[low], products[high] - products[low])
    offset = seen[low] - factor * products[low]
    likely = abs(offset) <= FARTHEST and 1 in (factor.numerator, factor.denominator)
    fits = all(size == factor * product + offset for size, product in zip(seen, products, strict=True))
    return Dim(axes, factor, int(offset)) if fits and likely and offset.denominator == 1 else None


def _complexity(dim):
    return (abs(dim.offset), dim.factor.denominator, dim.factor.numerator)
