"""Normalizations over one axis, over another, over several, of tensors of any rank."""

import keras
import pytest
import tensorflow as tf
from keras import layers, ops
from laws import check_laws, check_random_zeros, check_widths, random_members, randomize

import tf_terngrad as tt

Layer, RMS = layers.LayerNormalization, layers.RMSNormalization
WIDTH = 8
CASES = {
    "a vector": ((), lambda: Layer(epsilon=0.3)),
    "steps": ((5,), lambda: Layer()),
    "an image": ((4, 5), lambda: Layer()),
    "an image, no shift": ((4, 5), lambda: Layer(center=False)),
    "an image, neither scale nor shift": ((4, 5), lambda: Layer(center=False, scale=False)),
    "a video": ((2, 4, 5), lambda: Layer(axis=[4])),
    "a video, by its root mean square": ((2, 4, 5), lambda: RMS(axis=4)),
    "rows and columns": ((4, 5), lambda: Layer(axis=[1, 2])),
    "rows": ((4, 5), lambda: Layer(axis=1, center=False, scale=False)),
}


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
CASES |= {function.__name__: ((5,), lambda function=function: ByHand(function)) for function in BY_HAND}


@pytest.mark.filterwarnings("ignore:.*every channel is dead", "ignore:.*one dead channel is kept")
@pytest.mark.parametrize("name", CASES)
def test_what_is_zero_leaves_and_nothing_else(name):
    sizes, normalize = CASES[name]
    keras.utils.set_random_seed(1)
    inputs = keras.Input((*sizes, 3))
    x = layers.Dense(WIDTH, name="front")(inputs)
    x = layers.Dense(WIDTH)(normalize()(x)) + x
    model = tt.compact(randomize(keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))))
    weights = model.get_weights()
    small = check_widths(model, random_members(3))
    assert small.get_layer("front").units < WIDTH
    model.set_weights(weights)
    check_random_zeros(model, 1)


@pytest.mark.parametrize("axis", [1, [1, 2]])
def test_a_root_mean_square_over_other_axes_stays_as_wide(axis):
    inputs = keras.Input((WIDTH, WIDTH, WIDTH))
    x = layers.Dense(WIDTH)(RMS(axis=axis, name="norm")(layers.Dense(WIDTH, name="front")(inputs)))
    model = randomize(keras.Model(inputs, layers.Dense(3)(x)))
    check_random_zeros(model, 1)
    (front,) = [entry for entry in tt.structures(model).frozen if entry.name == "front"]
    assert "whatever its axis is" in str(front)


def test_a_mask_of_the_steps_reaches_what_is_behind_it():
    inputs = keras.Input((6,), dtype="int32")
    x = Layer()(layers.Embedding(20, WIDTH, mask_zero=True)(inputs))
    x = layers.MultiHeadAttention(2, 4)(x, x)
    check_widths(randomize(keras.Model(inputs, layers.Dense(2)(x))), random_members(0))


def test_one_layer_for_tensors_of_several_ranks_stays():
    inputs, normalize = [keras.Input((6, 5)), keras.Input((4, 4, 5))], Layer()
    found = [layers.Flatten()(normalize(layers.Dense(WIDTH)(x))) for x in inputs]
    check_random_zeros(randomize(keras.Model(inputs, [layers.Dense(2)(x) for x in found])), 1)


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
