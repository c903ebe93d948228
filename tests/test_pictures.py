"""Weights as pictures: the lowered matrix, what stayed in it, and its colours."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tf_terngrad.sparsity.report.pictures import matrix_masks, weight_matrix, weight_picture

SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 12))
WHITE, SAND = [255, 255, 255], [246, 229, 209]


def test_a_row_is_an_output_channel_by_channel():
    kernel = np.random.default_rng(0).standard_normal((3, 2, 4, 5)).astype(np.float32)
    matrix = weight_matrix(kernel)
    assert matrix.shape == (5, 24)
    np.testing.assert_array_equal(matrix[3].reshape(4, 3, 2)[1], kernel[:, :, 1, 3])
    np.testing.assert_array_equal(weight_matrix(kernel, (-2, -1)), kernel.transpose(2, 3, 1, 0).reshape(20, 6))


@given(st.data())
def test_masks_of_the_axes_become_masks_of_the_matrix(data):
    shape = data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=4))
    outputs = data.draw(st.sampled_from([(-1,), (-2,), (-2, -1), (0,)]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    masks = [rng.random(size) < 0.6 for size in shape]
    kernel = rng.standard_normal(shape).astype(np.float32)
    rows, columns = matrix_masks(masks, outputs)
    small = kernel[np.ix_(*masks)]
    if small.size:
        np.testing.assert_array_equal(
            weight_matrix(kernel, outputs)[np.ix_(rows, columns)], weight_matrix(small, outputs)
        )
    assert (rows.sum() * columns.sum()) == small.size


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


def test_the_weight_that_is_brightest_may_be_given():
    kernel = np.array([[1.0, 4.0]])
    assert (weight_picture(kernel, size=2)[1] == weight_picture(kernel, brightest=4.0, size=2)[1]).all()
    assert (weight_picture(kernel, brightest=100.0, size=2) > weight_picture(kernel, size=2))[..., 0].all()
    assert (weight_picture(kernel, brightest=1.0, size=2)[0] == weight_picture(kernel, brightest=1.0, size=2)[1]).all()


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
