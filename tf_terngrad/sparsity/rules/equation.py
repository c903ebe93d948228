"""The equation of an einsum, as in `"abc,cde->abde"`: each letter is an axis."""

import dataclasses
import math
import string


@dataclasses.dataclass(frozen=True)
class Equation:
    """The letters of the operands and of the result; an ellipsis stands for any axes.

    >>> Equation.parse("...x, xy -> ...y")
    Equation(operands=('...x', 'xy'), result='...y')
    """

    operands: tuple
    result: str

    @classmethod
    def parse(cls, text):
        """Read an equation; without an arrow, its result is not known (empty)."""
        operands, _, result = text.replace(" ", "").partition("->")
        return cls(tuple(operands.split(",")), result)

    @property
    def named(self):
        """The equation without its ellipses: the axes that have letters."""
        return Equation(*_map(self, lambda term: term.replace("...", "")))

    def spelled(self, ranks, result_rank=0):
        """The equation with letters of their own for each ellipsis, the same from the right in every term.

        Args:
            ranks: how many axes each operand has.
            result_rank: how many axes the result has.

        >>> Equation.parse("...x,xy->...y").spelled((3, 2), 3)
        Equation(operands=('bax', 'xy'), result='bay')
        """
        free = [letter for letter in string.ascii_letters if letter not in "".join((*self.operands, self.result))]
        terms = [_spell(term, rank, free) for term, rank in zip(self.operands, ranks, strict=True)]
        return Equation(tuple(terms), _spell(self.result, result_rank, free))

    def multiply_adds(self, *shapes):
        """The product of the sizes of all letters; none where no letter is summed, as in a scale for each channel.

        >>> Equation.parse("ab,bc->ac").multiply_adds((2, 3), (3, 5))
        30
        >>> Equation.parse("...b,b->...b").multiply_adds((2, 3), (3,))
        0
        """
        sizes, named = {}, self.named
        if {*"".join(named.operands)} <= {*named.result}:
            return 0
        for term, shape in zip(self.spelled(map(len, shapes)).operands, shapes, strict=True):
            for letter, size in zip(term, shape, strict=True):
                sizes[letter] = max(size, sizes.get(letter, 1))  # an axis of size one is broadcast
        return math.prod(sizes.values())


def _map(equation, function):
    return tuple(map(function, equation.operands)), function(equation.result)


def _spell(term, rank, free):
    hidden = max(rank - len(term.replace("...", "")), 0)
    return term.replace("...", "".join(reversed(free[:hidden])))
