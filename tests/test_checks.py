"""Checks of what is only known when it runs."""

import pytest
import tensorflow as tf

from tf_terngrad.checks import expect


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
