"""Weights as pictures: what a matrix holds, and what left it."""

import functools
import math

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
    rows, columns = matrix_axes(kernel.ndim, outputs)
    return kernel.transpose(*rows, *columns).reshape(math.prod(kernel.shape[axis] for axis in rows), -1)


def matrix_axes(rank, outputs=-1):
    """The axes of a weight that become the rows of its matrix, and those that become the columns, in order."""
    rows = [axis % rank for axis in np.atleast_1d(outputs)]
    others = [axis for axis in range(rank) if axis not in rows]
    return rows, [*others[-1:], *others[:-1]]


def matrix_masks(masks, outputs=-1):
    """Which rows and columns of a weight's matrix stay, by which positions stay along each of its axes.

    >>> matrix_masks([np.array([True, False]), np.array([True, True, False])])
    (array([ True,  True, False]), array([ True, False]))
    """
    whole = np.ones((), bool)
    return tuple(
        functools.reduce(np.logical_and.outer, [masks[axis] for axis in axes], whole).ravel()
        for axes in matrix_axes(len(masks), outputs)
    )


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


def picture_pair(matrix, size):
    """Pictures of a `Matrix` before and after, in the same colours; the second is None if nothing is left."""
    brightest = brightness(matrix.before, size)
    first = matrix_picture(matrix.before, matrix.kept, brightest, size)
    return first, None if matrix.after is None else matrix_picture(matrix.after, None, brightest, size)


def brightness(matrix, size):
    """The 99th percentile of the non-zero |w| that a picture shows; 0 if all are zero."""
    if matrix.size == 0 or not np.isfinite(matrix).all():
        raise ValueError(f"Expected at least one weight and only finite ones. Received: shape {matrix.shape}")
    shown = _shrink(np.abs(matrix), size)
    return float(np.percentile(shown[shown > 0], 99)) if shown.any() else 0.0


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
