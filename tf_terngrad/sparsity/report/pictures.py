"""Weights as pictures: what a matrix holds, and what left it."""

import numpy as np

# From nothing to the largest weight: white to deep blue where weights stay, sand to brown where they left.
_STAYS = np.array([[255, 255, 255], [12, 68, 124]], np.float32)
_LEFT = np.array([[246, 229, 209], [186, 117, 58]], np.float32)
_SHADES = 12


def weight_matrix(kernel, outputs=-1):
    """A weight as a matrix with one row an output: the filters of a convolution, the units of a dense layer.

    A row's columns are its shape fibers, channel by channel: the lowered matrix of SSL (Wen et al., NIPS 2016).

    Args:
        kernel: array of one axis or more; Keras keeps (*taps, inputs, outputs).
        outputs: the axis, or axes, that count outputs.

    >>> weight_matrix(np.zeros((5, 5, 20, 50))).shape
    (50, 500)
    """
    kernel = np.asarray(kernel, np.float32)
    axes = tuple(axis % kernel.ndim for axis in np.atleast_1d(outputs))
    others = [axis for axis in range(kernel.ndim) if axis not in axes]
    rows = int(np.prod([kernel.shape[axis] for axis in axes]))
    return kernel.transpose(*axes, *others[-1:], *others[:-1]).reshape(rows, -1)


def weight_picture(kernel, outputs=-1, kept=None, brightest=None, size=480):
    """A picture of |w|: white is zero, deep blue is large; on sand, what left.

    Args:
        kernel: array of one axis or more; Keras keeps (*taps, inputs, outputs).
        outputs: the axis, or axes, that count outputs: they become the rows.
        kept: (rows, columns), boolean masks of the matrix's rows and columns that stay; None: all of them.
        brightest: the |w| shown in deep blue; None: the 99th percentile of what is shown.
        size: pixels of the longer side. Larger matrices are averaged down; smaller ones get whole pixels a weight.

    Returns:
        uint8 array (height, width, 3).

    Raises:
        ValueError: the weights are not all finite, or there are none.

    >>> weight_picture(np.ones((5, 5, 1, 20))).shape
    (380, 475, 3)
    """
    matrix = weight_matrix(kernel, outputs)
    picture = matrix_picture(matrix, kept, brightest or brightness(matrix, size), size)
    enlarge = max(1, size // max(matrix.shape))
    return picture.repeat(enlarge, 0).repeat(enlarge, 1)


def matrix_picture(matrix, kept, brightest, size):
    """As `weight_picture`, of a matrix, never enlarged."""
    shown = _shrink(np.abs(matrix), size) / (brightest or 1)
    left = np.zeros_like(shown)
    if kept is not None:
        rows, columns = (mask.astype(np.float32) for mask in kept)
        left = 1 - _average(rows, 0, size)[:, None] * _average(columns, 0, size)
    # The square root lets small weights be seen; few shades make small files.
    strength = np.rint(_SHADES * np.sqrt(np.clip(shown, 0, 1)))[..., None] / _SHADES
    left = np.rint(_SHADES / 2 * left)[..., None] / (_SHADES / 2)
    stays, gone = (low + (high - low) * strength for low, high in (_STAYS, _LEFT))
    return np.rint(stays + (gone - stays) * left).astype(np.uint8)


def brightness(matrix, size):
    """The 99th percentile of the non-zero |w| that a picture shows; 0 if all are zero."""
    if matrix.size == 0 or not np.isfinite(matrix).all():
        raise ValueError(f"Expected at least one weight and only finite ones. Received: shape {matrix.shape}")
    shown = _shrink(np.abs(matrix), size)
    return float(np.percentile(shown[shown > 0], 99)) if shown.any() else 0.0


def kept_parts(before, after):
    """Which rows and columns of a matrix are still there in a smaller one; None when nobody can tell.

    They are recognised by their largest weights. If the smaller model was trained on, those have changed, and the rows
    and columns that are not all zero are taken for the kept ones, provided that their number is right.

    Args:
        before: matrix (rows, columns).
        after: matrix of some of these rows and columns, in the same order.

    Returns:
        Boolean masks (rows,) and (columns,), or None.

    >>> kept_parts(np.arange(6.0).reshape(2, 3), np.array([[3.0, 5.0]]))
    (array([False,  True]), array([ True, False,  True]))
    """
    if any(a > b for a, b in zip(after.shape, before.shape, strict=True)) or after.size == 0:
        return None
    if before.shape == after.shape:
        return np.ones(before.shape[0], bool), np.ones(before.shape[1], bool)
    masks = _recognise(before, after)
    if masks is None:
        masks = tuple(
            before.any(axis) if size < full else np.ones(full, bool)
            for axis, size, full in zip((1, 0), after.shape, before.shape, strict=True)
        )
    return masks if tuple(mask.sum() for mask in masks) == after.shape else None


def _recognise(before, after):
    """Find the largest weight of each row and each column of `after` in `before`; None if they do not fit together."""
    magnitude = np.abs(after)
    columns, rows = magnitude.argmax(1), magnitude.argmax(0)
    places = np.concatenate(
        [np.stack([np.arange(len(after)), columns], 1), np.stack([rows, np.arange(after.shape[1])], 1)]
    )
    values = after[tuple(places.T)]
    found = _find(before, np.unique(values[values != 0]))
    row_of, column_of = (np.full(size, -1) for size in after.shape)
    for (row, column), value in zip(places, values, strict=True):
        if value in found:
            row_of[row], column_of[column] = found[value]
    row_of, column_of = _complete(row_of, len(before)), _complete(column_of, before.shape[1])
    if row_of is None or column_of is None or not np.array_equal(before[np.ix_(row_of, column_of)], after):
        return None
    return tuple(
        np.isin(np.arange(size), chosen) for size, chosen in zip(before.shape, (row_of, column_of), strict=True)
    )


def _find(matrix, values):
    """The places of values that occur exactly once in a matrix, by value."""
    found, seen = {}, set()
    if len(values) == 0:
        return found
    for row, line in enumerate(matrix):
        nearest = np.minimum(np.searchsorted(values, line), len(values) - 1)
        for column in np.flatnonzero(values[nearest] == line):
            value = line[column]
            if value in seen:
                found.pop(value, None)
            else:
                seen.add(value)
                found[value] = (row, int(column))
    return found


def _complete(chosen, count):
    """Fill the unknown (-1) among increasing indices with the next free one; None if the known ones do not increase."""
    result, following = chosen.copy(), 0
    for place, index in enumerate(chosen):
        if index < 0:
            result[place] = following
        elif index < following:
            return None
        following = result[place] + 1
    return result if following <= count else None


def _shrink(matrix, size):
    return _average(_average(matrix, 0, size), 1, size)


def _average(array, axis, size):
    """Average neighbours along an axis so that at most `size` remain."""
    length = array.shape[axis]
    if length <= size:
        return array
    edges = np.linspace(0, length, size + 1).astype(int)
    sums = np.add.reduceat(array, edges[:-1], axis)
    return sums / np.diff(edges).reshape([-1 if a == axis else 1 for a in range(array.ndim)])
