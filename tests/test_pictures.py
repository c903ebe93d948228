"""Weights as pictures: the lowered matrix, what stayed in it, and its colours."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tf_terngrad.sparsity.report.pictures import kept_parts, weight_matrix, weight_picture

SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 12))
WHITE, SAND = [255, 255, 255], [246, 229, 209]


@st.composite
def cut_matrices(draw):
    """A random matrix and masks of the rows and columns that stay."""
    shape = draw(SHAPES)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    masks = [rng.random(length) < 0.5 for length in shape]
    for mask in masks:
        mask[rng.integers(len(mask))] = True
    return rng.standard_normal(shape).astype(np.float32), masks, rng


def test_a_row_is_an_output_channel_by_channel():
    kernel = np.random.default_rng(0).standard_normal((3, 2, 4, 5)).astype(np.float32)
    matrix = weight_matrix(kernel)
    assert matrix.shape == (5, 24)
    np.testing.assert_array_equal(matrix[3].reshape(4, 3, 2)[1], kernel[:, :, 1, 3])
    np.testing.assert_array_equal(weight_matrix(kernel, (-2, -1)), kernel.transpose(2, 3, 1, 0).reshape(20, 6))


@given(cut_matrices())
def test_what_stays_is_recognised_whatever_the_rest_holds(case):
    matrix, (rows, columns), _ = case
    found = kept_parts(matrix, matrix[rows][:, columns])
    np.testing.assert_array_equal(found[0], rows)
    np.testing.assert_array_equal(found[1], columns)


@given(cut_matrices())
def test_after_further_training_what_is_not_zero_has_stayed(case):
    matrix, (rows, columns), rng = case
    matrix[~rows], matrix[:, ~columns] = 0, 0
    trained = matrix[rows][:, columns] + rng.standard_normal((rows.sum(), columns.sum())).astype(np.float32)
    found = kept_parts(matrix, trained)
    np.testing.assert_array_equal(found[0], rows)
    np.testing.assert_array_equal(found[1], columns)


def test_nobody_can_tell_what_stays_of_other_weights():
    rng = np.random.default_rng(0)
    assert kept_parts(rng.random((4, 4)), rng.random((3, 2))) is None
    assert kept_parts(rng.random((4, 4)), rng.random((5, 4))) is None


def test_zero_is_white_large_is_blue_and_what_left_is_sand():
    kernel = np.array([[0.0, 0.0], [1.0, 0.0]])  # two inputs, two outputs
    kept = (np.array([True, False]), np.array([True, True]))
    picture = weight_picture(kernel, kept=kept, size=2)
    assert picture.dtype == np.uint8
    assert picture[0, 0].tolist() == WHITE
    assert picture[1].tolist() == [SAND, SAND]
    red, _, blue = picture[0, 1]
    assert blue > red + 50


def test_larger_weights_are_darker():
    values = weight_picture((np.arange(6.0) ** 2)[:, None], size=6).sum(-1)[0]
    assert (np.diff(values.astype(int)) < 0).all()


@given(SHAPES, st.integers(1, 30))
def test_a_picture_fits_its_size_and_keeps_whole_pixels(shape, size):
    height, width, colors = weight_picture(np.ones(shape), size=size).shape
    assert colors == 3
    assert max(height, width) <= size
    if max(shape) <= size:
        assert (height % shape[1], width % shape[0]) == (0, 0)


def test_a_zero_matrix_is_a_white_picture():
    assert (weight_picture(np.zeros((3, 4))) == 255).all()


@pytest.mark.parametrize("kernel", [np.array([[np.nan, 1.0]]), np.array([[np.inf, 1.0]]), np.zeros((0, 3))])
def test_what_cannot_be_drawn_is_refused(kernel):
    with pytest.raises(ValueError, match="at least one weight and only finite ones"):
        weight_picture(kernel)
