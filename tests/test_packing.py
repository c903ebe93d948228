"""Digits in bytes and words, by the native codec and its TensorFlow twin."""

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from codec_inputs import digits
from hypothesis import strategies as st

from tf_terngrad.ternary.layout import BYTE_STRIDE, WORD_STRIDE, digits_per_byte, digits_per_word, outputs

LEVELS = [1, 2, 3, 7, 127]

SIZES = [0, 1, 2, 4, 5, 6, 63, 64, 319, 320, 321, 1000, 5003]


def packed_by_hand(values, base, offset, count, stride):
    """The layout's own words: output j of a block holds the digits j, j + stride, j + 2 stride, ..."""
    result = []
    while len(values):
        width = stride if len(values) >= count * stride else -(-len(values) // count)
        block, values = values[: count * width], values[count * width :]
        for j in range(width):
            result.append(sum((int(digit) + offset) * base**i for i, digit in enumerate(block[j::width])))
            result[-1] += sum(offset * base**i for i in range(len(block[j::width]), count))
    return result


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("size", SIZES)
def test_bytes_are_the_layouts_and_unpack_gives_the_digits_back(implementation, size, levels):
    given = digits(size, levels)
    data = implementation.pack_bytes(tf.constant(given, tf.int8), levels)
    count = digits_per_byte(levels)
    assert data.numpy().tolist() == packed_by_hand(given, 2 * levels + 1, levels, count, BYTE_STRIDE)
    assert len(data) == outputs(size, count, BYTE_STRIDE)
    np.testing.assert_array_equal(implementation.unpack_bytes(data, size, levels), given)


@pytest.mark.parametrize("levels", [1, 3])
@pytest.mark.parametrize("workers", [1, 2, 3, 4, 8, 64, 1000])
@pytest.mark.parametrize("size", SIZES)
def test_words_are_the_layouts_and_unpack_gives_the_sums_back(implementation, size, workers, levels):
    most = workers * levels
    given = digits(size, most)
    words = implementation.pack_words(tf.constant(given, tf.int32), workers, levels)
    count = digits_per_word(workers, levels)
    assert words.numpy().tolist() == packed_by_hand(given, 2 * most + 1, 0, count, WORD_STRIDE)
    np.testing.assert_array_equal(implementation.unpack_words(words, size, workers, levels), given)


@pytest.mark.parametrize("workers", [1, 2, 5, 127, 128, 1000])
@pytest.mark.parametrize("digit", [-1, 0, 1])
def test_sums_of_words_never_carry(implementation, workers, digit):
    words = implementation.pack_words(tf.fill((1000,), digit), workers, 1)
    total = implementation.unpack_words(words * workers, 1000, workers, 1)
    assert set(total.numpy().tolist()) == {digit * workers}


@hypothesis.given(st.data())
@hypothesis.settings(deadline=None, max_examples=50)
def test_sums_of_words_are_the_sums_of_digits(implementation, data):
    levels, workers = data.draw(st.sampled_from([1, 2, 5])), data.draw(st.integers(1, 40))
    size = data.draw(st.integers(0, 700))
    each = np.array([digits(size, levels, seed) for seed in range(workers)])
    words = sum(implementation.pack_words(tf.constant(one, tf.int32), workers, levels).numpy() for one in each)
    sums = implementation.unpack_words(tf.constant(words), size, tf.constant(workers), levels)
    np.testing.assert_array_equal(sums, each.sum(0))


@pytest.mark.parametrize("bad, size", [([243], 5), ([0, 0], 5), ([], 1), ([242], 4), ([121 + 81], 4)])
def test_bytes_that_no_digits_give_are_refused(implementation, bad, size):
    with pytest.raises(tf.errors.InvalidArgumentError):
        implementation.unpack_bytes(tf.constant(bad, tf.uint8), size, 1)


@pytest.mark.parametrize(
    "bad, size", [([2**63 - 1], 40), ([-(2**63)], 40), ([(3**40 + 1) // 2], 40), ([0, 0], 40), ([], 1), ([3], 1)]
)
def test_words_that_no_digits_give_are_refused(implementation, bad, size):
    with pytest.raises(tf.errors.InvalidArgumentError):
        implementation.unpack_words(tf.constant(bad, tf.int64), size, 1, 1)


@hypothesis.given(st.data())
def test_bytes_are_refused_or_those_that_their_digits_give(implementation, data):
    levels, size = data.draw(st.sampled_from([1, 2, 7])), data.draw(st.integers(0, 30))
    base, count = 2 * levels + 1, digits_per_byte(levels)
    given = data.draw(st.lists(st.integers(0, 255), min_size=-(-size // count), max_size=-(-size // count)))
    by_hand = [byte // base**i % base - levels for i in range(count) for byte in given][:size]
    if packed_by_hand(by_hand, base, levels, count, BYTE_STRIDE) == given:
        assert implementation.unpack_bytes(tf.constant(given, tf.uint8), size, levels).numpy().tolist() == by_hand
    else:
        with pytest.raises(tf.errors.InvalidArgumentError):
            implementation.unpack_bytes(tf.constant(given, tf.uint8), size, levels)


@hypothesis.given(st.data())
def test_words_are_refused_or_those_that_their_digits_give(implementation, data):
    workers, levels = data.draw(st.sampled_from([1, 2, 4, 9])), data.draw(st.sampled_from([1, 3]))
    base, count = 2 * workers * levels + 1, digits_per_word(workers, levels)
    size = data.draw(st.sampled_from([0, 3, count - 1, count, 2 * count]))
    most = base**count // 2
    near = st.sampled_from([sign * (most + more) for sign in (-1, 1) for more in (-1, 0, 1, 2**40)])
    words = st.one_of(near, st.integers(-(2**63), 2**63 - 1), st.integers(-base, base))
    given = rest = data.draw(st.lists(words, min_size=-(-size // count), max_size=-(-size // count)))
    by_hand = []
    for _ in range(count):
        digits = [(word + base // 2) % base - base // 2 for word in rest]
        rest = [(word - digit) // base for word, digit in zip(rest, digits, strict=True)]
        by_hand += digits
    if packed_by_hand(by_hand[:size], base, 0, count, WORD_STRIDE) == given:
        found = implementation.unpack_words(tf.constant(given, tf.int64), size, workers, levels)
        assert found.numpy().tolist() == by_hand[:size]
    else:
        with pytest.raises(tf.errors.InvalidArgumentError):
            implementation.unpack_words(tf.constant(given, tf.int64), size, workers, levels)


@pytest.mark.parametrize(
    "levels, workers", [(1, 0), (1, -1), (1, 2**21), (7, 299_594), (127, 9_000_000), (1, 2**31 - 1)]
)
@pytest.mark.parametrize("known", [True, False])
def test_other_numbers_of_workers_than_words_hold_are_refused(implementation, levels, workers, known):
    workers = workers if known else tf.constant(workers)
    for refused in (
        lambda: implementation.pack_words(tf.constant([0, 1]), workers, levels),
        lambda: implementation.unpack_words(tf.constant([1], tf.int64), 2, workers, levels),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match="workers"):
            refused()


@pytest.mark.parametrize("bad", [2, -2])
def test_digits_out_of_range_are_refused(implementation, bad):
    with pytest.raises(tf.errors.InvalidArgumentError):
        implementation.pack_bytes(tf.constant([0, bad], tf.int8), 1)
    with pytest.raises(tf.errors.InvalidArgumentError):
        implementation.pack_words(tf.constant([0, bad], tf.int32), 1, 1)
