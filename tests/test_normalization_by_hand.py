"""Layer normalizations that people write by hand: a channel that is zero where it enters leaves."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from composite_graphs import around
from keras import layers, ops
from laws import (
    check_laws,
    check_random_zeros,
    check_widths,
    difference,
    fresh_inputs,
    outputs_of,
    random_members,
    randomize,
    zero_members,
)

import tf_terngrad as tt

WIDTH = 8


class ByHand(layers.Layer):
    """A normalization that people write themselves: a function of the tensor, with a scale and a shift."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def build(self, shape):
        self.gamma, self.beta = (self.add_weight(shape=(shape[-1],), name=name) for name in ("gamma", "beta"))

    def call(self, x):
        return self.function(x) * self.gamma + self.beta


def centred(x):
    return x - ops.mean(x, axis=-1, keepdims=True)


def by_squares(x):
    return centred(x) / ops.sqrt(ops.mean(ops.square(centred(x)), axis=-1, keepdims=True) + 0.1)


def by_a_product(x):
    difference = centred(x)
    return difference * ops.rsqrt(ops.mean(difference * difference, axis=-1, keepdims=True) + 0.1)


def by_a_power(x):
    return centred(x) * (ops.mean(centred(x) ** 2, -1, keepdims=True) + 0.1) ** -0.5


def by_the_deviation(x):
    return centred(x) / (ops.std(x, axis=-1, keepdims=True) + 0.1)


def by_the_variance(x):
    return centred(x) / ops.sqrt(ops.var(x, axis=-1, keepdims=True) + 0.1)


def in_tensorflow(x):
    mean = tf.reduce_mean(x, axis=-1, keepdims=True)
    return (x - mean) / tf.sqrt(tf.reduce_mean(tf.square(x - mean), axis=-1, keepdims=True) + 0.1)


def by_moments(x):
    mean, variance = tf.nn.moments(x, axes=[-1], keepdims=True)
    return (x - mean) * tf.math.rsqrt(variance + 0.1)


BY_HAND = (by_squares, by_a_product, by_a_power, by_the_deviation, by_the_variance, in_tensorflow, by_moments)


@pytest.mark.filterwarnings("ignore:.*every channel is dead", "ignore:.*one dead channel is kept")
@pytest.mark.parametrize("function", BY_HAND)
def test_what_is_zero_leaves_and_nothing_else(function):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((5, 3))
    x = layers.Dense(WIDTH, name="front")(inputs)
    x = layers.Dense(WIDTH)(ByHand(function)(x)) + x
    model = tt.compact(randomize(keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))))
    weights = model.get_weights()
    assert check_widths(model, random_members(3)).get_layer("front").units < WIDTH
    model.set_weights(weights)
    check_random_zeros(model, 1)


def variance_of(squares):
    return lambda x: ops.mean(squares(x), axis=-1, keepdims=True)


@pytest.mark.filterwarnings("ignore:.*one dead channel is kept")
@pytest.mark.parametrize(
    "function",
    [
        variance_of(lambda x: ops.square(x - ops.mean(x, axis=(1, 2), keepdims=True))),
        variance_of(lambda x: ops.square(x - ops.mean(ops.relu(x), axis=-1, keepdims=True))),
        variance_of(lambda x: ops.square(ops.mean(x, axis=-1, keepdims=True) - x)),
        variance_of(lambda x: (x - ops.mean(x, axis=-1, keepdims=True)) ** 3),
        lambda x: ops.mean(ops.square(centred(x)), axis=(1, 2), keepdims=True),
    ],
    ids=["over steps too", "of something else", "the other way round", "cubes", "squares over steps too"],
)
def test_what_only_looks_like_a_variance_stays_as_wide(function):
    inputs = keras.Input((5, 3))
    x = layers.Dense(WIDTH, name="front")(inputs)
    x = layers.Dense(2)(x) + function(x)
    model = randomize(keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x))))
    assert "front" in [entry.name for entry in tt.structures(model).frozen]
    check_random_zeros(model, 1)


def test_a_variance_whose_squares_are_made_in_another_model_stays_as_wide():
    whole = keras.Input((5, WIDTH))
    squares = keras.Model(whole, ops.square(centred(whole)))
    inputs = keras.Input((5, 3))
    x = layers.Dense(WIDTH, name="front")(inputs)
    x = layers.Dense(2)(x) + ops.mean(squares(x), axis=-1, keepdims=True)
    model = randomize(keras.Model(inputs, layers.Dense(3)(x)))
    check_random_zeros(model, 1)
    check_laws(model)


# The variance in a layer of one's own, however it is spelled


SAME = {
    "operations": lambda x, m: ops.mean(ops.square(x - m), axis=-1, keepdims=True),
    "TensorFlow": lambda x, m: tf.reduce_mean(tf.square(x - m), -1, keepdims=True),
    "differences": lambda x, m: tf.reduce_mean(tf.math.squared_difference(x, m), axis=[-1], keepdims=True),
    "power": lambda x, m: ops.mean((x - m) ** 2, axis=2, keepdims=True),
    "old backend": lambda x, m: tf.keras.backend.mean(tf.keras.backend.square(x - m), axis=-1, keepdims=True),
    "still": lambda x, m: ops.mean(ops.square(x - ops.stop_gradient(m)), axis=-1, keepdims=True),
    "moments": lambda x, m: tf.nn.moments(x, [-1], keepdims=True)[1],
    "no axis": lambda x, m: ops.expand_dims(ops.mean(ops.square(x - m), axis=-1), -1),
}
OTHERS = {
    "other axis": lambda x, m: ops.mean(ops.square(x - m), axis=1, keepdims=True),
    "other mean": lambda x, m: ops.mean(ops.square(x - ops.mean(x, 1, keepdims=True)), axis=-1, keepdims=True),
    "other tensor": lambda x, m: ops.mean(ops.square(ops.relu(x) - m), axis=-1, keepdims=True),
    "the other way": lambda x, m: ops.mean(ops.square(m - x), axis=-1, keepdims=True),
    "other power": lambda x, m: ops.mean((x - m) ** 4, axis=-1, keepdims=True),
    "no difference": lambda x, m: ops.mean(ops.square(x), axis=-1, keepdims=True) + 0 * m,
}


class Normalized(layers.Layer):
    """A layer normalization, written by hand."""

    def __init__(self, variance):
        super().__init__(name="own")
        self.variance = variance

    def build(self, shape):
        self.gamma = self.add_weight(shape=shape[-1:], initializer="ones", name="gamma")

    def call(self, x):
        mean = ops.mean(x, axis=-1, keepdims=True)
        return self.gamma * (x - mean) / ops.sqrt(self.variance(x, mean) + 1e-3)


def model_with(variance):
    return around((5, 6), Normalized(variance))


@pytest.mark.parametrize("name", SAME)
def test_the_width_of_what_is_normalized_by_hand_can_leave(name):
    model = model_with(SAME[name])
    assert [entry.name for entry in tt.structures(model).frozen] == ["reader"]
    dead = len(zero_members(model, random_members(1))["front"])
    assert dead > 0
    assert check_laws(model).get_layer("front").units == 6 - dead


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_variance_is_computed_as_before(name):
    model = model_with(OTHERS[name])
    zero_members(model, random_members(1))
    check_laws(model)


def test_learning_is_the_same():
    model = model_with(SAME["TensorFlow"])
    x, variables = fresh_inputs(model), model.trainable_variables
    small = tt.compact(model)
    assert difference(*outputs_of(model, x), *outputs_of(small, x)) < 1e-6

    def gradient(each, name):
        (variable,) = [v for v in each.trainable_variables if v.path.endswith(name)]
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(each(x) - 1))
        return np.asarray(tape.gradient(loss, variable.value))

    assert variables
    np.testing.assert_allclose(gradient(small, "front/kernel"), gradient(model, "front/kernel"), rtol=1e-4, atol=1e-5)


def test_a_mean_of_the_users_own_graph_stays_as_it_is():
    x = keras.Input((4,))
    y = ops.mean(ops.square(x - ops.mean(x, -1, keepdims=True)), -1, keepdims=True)
    model = keras.Model(x, layers.Dense(2)(x / (1 + y)))
    assert [type(each).__name__ for each in tt.compact(model).operations].count("Mean") == 2
