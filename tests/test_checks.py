"""Checks of arguments: each kind against what Python and NumPy say of it; and checks of what is known when it runs."""

import decimal
import fractions
import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf

from tf_terngrad import checks
from tf_terngrad.checks import expect

NUMPY_INTEGERS = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
NO_NUMBERS = [True, False, np.True_, "2", b"2", None, [2], (2,), {}, 2j, np.complex64(2), decimal.Decimal(2)]
NO_NUMBERS += [np.array(2), np.array([2]), np.array(2.0), tf.constant(2), object(), int, np.datetime64("2000-01-01")]


@st.composite
def integers(draw):
    """An integer of any kind, and the same as Python's own."""
    kind = draw(st.sampled_from([int, *NUMPY_INTEGERS]))
    if kind is int:
        value = draw(st.integers(-(2**63), 2**63 - 1))
    else:
        value = draw(st.integers(int(np.iinfo(kind).min), min(int(np.iinfo(kind).max), 2**63 - 1)))
    return kind(value), value


def range_of(draw):
    return sorted(draw(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=2, max_size=2)))


@hypothesis.given(integers(), st.data())
def test_an_integer_of_any_kind_is_taken_in_its_range_and_is_pythons_own(pair, data):
    value, expected = pair
    least, most = range_of(data.draw)
    if least <= expected <= most:
        result = checks.integer(value, "n", "Who", least, most)
        assert type(result) is int and result == expected
    else:
        with pytest.raises(ValueError, match=r"^Who: expected `n` to be an integer (from|of at least) .*Received: n="):
            checks.integer(value, "n", "Who", least, most)


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**400])
def test_an_integer_beyond_64_bits_is_out_of_every_range(value):
    with pytest.raises(ValueError, match="Who: expected `n` to be an integer"):
        checks.integer(value, "n", "Who")


@pytest.mark.parametrize("value", [*NO_NUMBERS, 2.0, np.float64(2), float("nan"), fractions.Fraction(2)])
def test_what_is_no_integer_is_refused(value):
    for or_none in (False, value is not None):
        with pytest.raises(
            TypeError, match=r"^Who: expected `n` to be an integer of at least 1.*\. Received: n="
        ) as caught:
            checks.integer(value, "n", "Who", least=1, or_none=or_none)
        assert (", or None. " in str(caught.value)) == or_none and "\n" not in str(caught.value)


def test_none_is_taken_where_it_means_something():
    assert checks.integer(None, "n", "Who", least=1, or_none=True) is None
    assert checks.integer(np.int64(3), "n", "Who", least=1, or_none=True) == 3


REALS = st.one_of(
    st.floats(allow_nan=True),
    st.floats(width=32).map(np.float32),
    st.floats(width=16).map(np.float16),
    st.fractions(),
    st.integers(),
    integers().map(lambda pair: pair[0]),
    st.just(10**400),
)


@hypothesis.given(REALS, st.floats(-1e300, 1e300), st.floats(0, allow_infinity=True))
def test_a_number_of_any_kind_is_taken_in_its_range_and_is_pythons_own(value, least, span):
    below = least + span
    try:
        expected = float(value)
    except OverflowError:
        expected = math.inf
    if math.isfinite(expected) and least <= expected < below:
        result = checks.number(value, "x", "Who", least, below)
        assert type(result) is float and result == expected
    else:
        with pytest.raises(ValueError, match=r"^Who: expected `x` to be a finite number of at least .*Received: x="):
            checks.number(value, "x", "Who", least, below)


@hypothesis.given(REALS)
def test_a_positive_number_is_one_above_zero(value):
    try:
        expected = float(value)
    except OverflowError:
        expected = math.inf
    if 0 < expected < math.inf:
        assert checks.positive(value, "x", "Who") == expected
    else:
        with pytest.raises(ValueError, match=r"^Who: expected `x` to be a finite number above 0. Received: x="):
            checks.positive(value, "x", "Who")


@pytest.mark.parametrize("value", NO_NUMBERS)
@pytest.mark.parametrize("check", [checks.number, checks.positive])
def test_what_is_no_number_is_refused(check, value):
    with pytest.raises(TypeError, match=r"^Who: expected `x` to be a finite number.*Received: x="):
        check(value, "x", "Who")


@pytest.mark.parametrize("value", [True, False, np.True_, np.False_])
def test_a_flag_is_pythons_own(value):
    assert checks.flag(value, "on", "Who") is bool(value)


@pytest.mark.parametrize("value", [1, 0, "True", None, np.array(True), [True], 1.0])
def test_what_is_no_flag_is_refused(value):
    with pytest.raises(TypeError, match=r"^Who: expected `on` to be True or False. Received: on="):
        checks.flag(value, "on", "Who")


def test_one_of_some_is_the_one_that_was_offered():
    choices = ("auto", None, 1)
    for value in ("auto", np.str_("auto"), None, 1):
        found = checks.one_of(value, choices, "way", "Who")
        assert any(found is choice for choice in choices)


@pytest.mark.parametrize("value", ["AUTO", True, 1.0, np.array(["auto"]), np.array(1), [], b"auto", object()])
def test_what_is_none_of_them_is_refused(value):
    with pytest.raises(ValueError, match=r"^Who: expected `way` to be one of 'auto', None, 1. Received: way="):
        checks.one_of(value, ("auto", None, 1), "way", "Who")


def test_a_long_value_is_shown_in_part_and_on_one_line():
    for value in (np.zeros((30, 30)), "x" * 10_000, list(range(10_000)), "two\nlines"):
        sentence = checks.refusal("Who", "x", "a number", value, "Give one.")
        assert "\n" not in sentence and len(sentence) < 300 and sentence.endswith(". Give one.")


def test_what_is_good_passes():
    assert expect(tf.constant(True), "never said") == []
    assert tf.function(lambda x: expect(x > 0, "never said") and x)(tf.constant(3)) == 3


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (tf.constant([2.0, 7.5]), "[2.  7.5]"),
        (tf.constant(3), "3"),
        (tf.range(100), "[ 0  1  2 ... 97 98 99]"),
        ("float32", "float32"),
    ],
)
def test_an_eager_error_is_the_message_and_nothing_else(found, text):
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        expect(tf.constant(False), "Expected more. Received:", found)
    assert str(caught.value) == f"Expected more. Received: {text}"


def test_a_graphs_error_has_the_message_and_the_values():
    @tf.function
    def double(x):
        with tf.control_dependencies(expect(tf.reduce_all(x > 0), "Expected more. Received:", x)):
            return 2 * x

    assert double(tf.constant([1, 2])).numpy().tolist() == [2, 4]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"Expected more. Received:\] \[1 -2\]"):
        double(tf.constant([1, -2]))
