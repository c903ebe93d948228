"""Layer normalizations that people write by hand: a channel that is zero where it enters leaves."""

import keras
import pytest
import tensorflow as tf
from keras import layers, ops
from laws import check_laws, check_random_zeros, check_widths, random_members, randomize

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
