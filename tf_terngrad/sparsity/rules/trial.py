"""Numbers that show whether a function acts on each element by itself, where its operations cannot be seen.

What is tried, and what it would tell:

- twice the same input: whether it draws random numbers or counts its calls;
- one element at a time, along every axis, exchanged for NaN, infinities, large, tiny and ordinary numbers of both
  signs: whether any other element's result changes. A sum, a mean, a norm or a maximum would carry them over, however
  small its share;
- values of all magnitudes at other places of tensors of other ranks, batch sizes and widths: whether a result depends
  on where an element stands or on how many there are.
"""

import numpy as np
import tensorflow as tf

_VALUES = np.concatenate([sign * np.logspace(-30, 30, 61) for sign in (1, -1)] + [np.linspace(-8, 8, 65)])
_VALUES = _VALUES.astype(np.float32)
_SHAPES = ((1, 1), (5, 3), (2, 64), (3, 7), (2, 3, 4), (1, 9, 2), (2, 3, 2, 5), (2, 2, 3, 2, 4))
_EXCHANGED = ((2, 3), (2, 2, 3), (2, 2, 2, 2))
_STRANGERS = (np.nan, np.inf, -np.inf, 1e30, -1e30, 1e-30, 0.0, 1.7, -2.9)


def fault(function):
    """Why numbers do not show that a function acts on each element by itself; None: they do."""
    try:
        with np.errstate(all="ignore"):
            return _fault(lambda array: _result(function, array))
    except Exception as error:  # a stranger's code may raise anything
        return f"could be neither traced nor tried ({type(error).__name__})"


def _fault(function):
    random = np.random.default_rng(0)
    alone, again = function(_VALUES[:, None]), function(_VALUES[:, None])
    if alone is None:
        return "gives a tensor of another shape or type"
    if not np.array_equal(alone, again, equal_nan=True):
        return "gives other numbers when it is called again"
    if any(_mixes(function, random.normal(0, 3, shape).astype(np.float32)) for shape in _EXCHANGED):
        return "runs across elements, as numbers show"
    for shape in _SHAPES:
        places = random.integers(0, len(_VALUES), shape)
        if not _same(function(_VALUES[places]), alone[places, 0], _VALUES[places]).all():
            return "depends on the place of an element or on the shape of its input, as numbers show"
    return None


def _mixes(function, array):
    """Whether the result of any element changes when another element is exchanged."""
    before = function(array)
    for place in np.ndindex(array.shape):
        for stranger in _STRANGERS:
            changed = array.copy()
            changed[place] = stranger
            same = _same(function(changed), before, array)
            same[place] = True
            if not same.all():
                return True
    return False


def _result(function, array):
    """What a function makes of an array; None if that has not the array's shape and type."""
    result = np.asarray(function(tf.constant(array)))
    return result if result.shape == array.shape and result.dtype == array.dtype else None


def _same(one, other, given):
    """Whether results agree to rounding, of the inputs too: a small result may be a difference of large numbers."""
    allowed = 1e-5 * np.abs(other) + 1e-6 * np.minimum(1 + np.abs(given), 1e3)
    return (one == other) | (np.abs(one - other) <= allowed) | (np.isnan(one) & np.isnan(other))
