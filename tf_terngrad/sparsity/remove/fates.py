"""What became of every variable of a model that was compacted. It changes nothing, and no saved file tells of it."""

import dataclasses
import weakref

import keras
import numpy as np

_KNOWN = weakref.WeakKeyDictionary()  # by compact model; it goes when the model goes


@dataclasses.dataclass(frozen=True, eq=False)
class Fate:
    """What became of one variable.

    Attributes:
        new: the variable of the compact model; None if the old one left altogether. Of a learned mask, `kept` says then
            which heads the constant one still has.
        kept: for each axis of the old variable the positions that stay, increasing:
            new = (factor * old)[np.ix_(*kept)].reshape(new.shape). The shape differs otherwise only where a layer of
            the user's used the variable by itself: then an `Embedding` keeps it, with the last axis as its width.
        folded: whether constants that left the layer's input were added to it, so that its values are new.
        factor: what keeps a result the same: a number where it depends on the width, such as attention's
            1 / √(key dimensions); an array that broadcasts to the old variable where each head had a factor.
        reference: weak reference to the old variable; None for a bias that was made to hold folded constants.
    """

    new: keras.Variable | None
    kept: tuple
    folded: bool = False
    factor: float = 1.0
    reference: weakref.ref | None = None

    @property
    def old(self):
        """The variable of the model that was compacted; None if it is gone, or if this bias is a new one."""
        return self.reference and self.reference()

    def then(self, later):
        """The fate over two compactions in a row; `later` is what became of `new`."""
        if later.new is None:
            kept = [first[:0] for first in self.kept]
        elif len(later.kept) == len(self.kept):
            kept = [first[second] for first, second in zip(self.kept, later.kept, strict=True)]
        else:  # an Embedding that keeps a variable with other axes: its rows all stay
            kept = [*self.kept[:-1], *(first[later.kept[-1]] for first in self.kept[-1:])]
        both = {"folded": self.folded or later.folded, "factor": self.factor * later.factor}
        return dataclasses.replace(later, kept=tuple(kept), reference=self.reference, **both)


def fates(small) -> tuple:
    """What became of every variable of the model that a compact model was made of.

    Use it when something belongs to the old weights and must shrink with them: averages, an optimizer's state, masks.

    Args:
        small: what `compact` returned, trained on or not.

    Returns:
        A tuple of `Fate`, one for each variable of the old model and for each bias that is new.

    Raises:
        ValueError: if the model does not come from `compact` in this process; a file does not keep its fates.

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)])
    >>> tt.structures(model)[1].zero([1])
    >>> small = tt.compact(model)
    >>> [positions.tolist() for positions in fates(small)[0].kept]
    [[0, 1, 2, 3], [0, 2]]
    """
    if known_fates(small) is None:
        name = getattr(small, "name", small)
        raise ValueError(
            f"Expected a model that compact() returned in this process. Received: {name!r}, of which nothing is known. "
            "A file does not keep what became of the old variables: ask before you save and load."
        )
    return known_fates(small)


def known_fates(small):
    """As `fates`; None for a model that does not come from `compact` in this process."""
    return _KNOWN.get(small)


def remember(small, found):
    """Note what became of the variables of the model that a compact model was made of."""
    _KNOWN[small] = tuple(found)


def composed(first, second) -> list:
    """The fates over two compactions in a row; those of biases that the second one made come last."""
    later = {id(fate.old): fate for fate in second if fate.reference}
    joined = [fate.then(later[id(fate.new)]) if fate.new is not None else fate for fate in first]
    return [*joined, *(fate for fate in second if not fate.reference)]


def fate(old, new, kept, folded=False, factor=1.0) -> Fate:
    """The fate of a variable (None: a bias that is new)."""
    return Fate(new, tuple(kept), folded, factor, None if old is None else weakref.ref(old))


def gone(variable) -> Fate:
    """The fate of a variable that left altogether."""
    return fate(variable, None, [np.zeros(0, np.int64)] * len(variable.shape))
