"""Attention that people write by hand, and Keras's layers and operation without weights: their dimensions leave."""

import keras
import pytest
import tensorflow as tf
from keras import layers, ops
from laws import check_laws, check_random_zeros, check_widths, random_members, randomize, zero

import tf_terngrad as tt
from tf_terngrad.keras_internals import all_layers

WIDTH, HEADS, SIZE, STEPS = 12, 3, 4, 6


class Attend(layers.Layer):
    """Projections, and a function of queries, keys and values of shape (batch, steps, heads, size)."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.parts = [layers.Dense(HEADS * SIZE, name=name) for name in ("query", "key", "value")]
        self.out = layers.Dense(WIDTH, name="out")

    def call(self, x):
        made = [ops.reshape(part(x), (-1, STEPS, HEADS, SIZE)) for part in self.parts]
        return self.out(ops.reshape(self.function(*made), (-1, STEPS, HEADS * SIZE)))


class Fused(layers.Layer):
    """One projection for queries, keys and values, as in ViT."""

    def __init__(self):
        super().__init__()
        self.qkv, self.out = layers.Dense(3 * HEADS * SIZE, name="qkv"), layers.Dense(WIDTH)

    def call(self, x):
        x = ops.transpose(ops.reshape(self.qkv(x), (-1, STEPS, 3, HEADS, SIZE)), (2, 0, 3, 1, 4))
        weights = ops.softmax(ops.matmul(x[0], ops.swapaxes(x[1], -1, -2)) * SIZE**-0.5)
        y = ops.transpose(ops.matmul(weights, x[2]), (0, 2, 1, 3))
        return self.out(ops.reshape(y, (-1, STEPS, HEADS * SIZE)))


def heads_first(x):
    return ops.transpose(x, (0, 2, 1, 3))


def by_matmul(query, key, value):
    query, key, value = map(heads_first, (query, key, value))
    scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) / SIZE**0.5
    scores = ops.where(ops.tril(ops.ones((STEPS, STEPS))) > 0, scores, -1e9)
    return heads_first(ops.matmul(ops.softmax(scores, axis=-1), value))


def by_masked_softmax(query, key, value):
    query, key, value = map(heads_first, (query, key, value))
    scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) / SIZE**0.5
    weights = layers.Softmax()(scores, mask=ops.tril(ops.ones((STEPS, STEPS))) > 0)
    return heads_first(ops.matmul(weights, value))


def by_einsum(query, key, value):
    scores = ops.einsum("bqhd,bkhd->bhqk", query, key) * SIZE**-0.5
    return ops.einsum("bhqk,bkhd->bqhd", ops.softmax(scores), value)


def by_tensorflow(query, key, value):
    query, key, value = (tf.transpose(x, (0, 2, 1, 3)) for x in (query, key, value))
    weights = tf.nn.softmax(tf.matmul(query, key, transpose_b=True) / 2.0)
    return tf.transpose(tf.matmul(weights, value), (0, 2, 1, 3))


def scaled(query, key, value):
    return ops.dot_product_attention(query, key, value, scale=0.7)


BY_HAND = {
    "matmul": lambda: Attend(by_matmul),
    "a masked Softmax": lambda: Attend(by_masked_softmax),
    "einsum": lambda: Attend(by_einsum),
    "TensorFlow": lambda: Attend(by_tensorflow),
    "dot_product_attention": lambda: Attend(ops.dot_product_attention),
    "with a scale": lambda: Attend(scaled),
    "one projection": Fused,
}


def wide(width, x):
    return layers.Dense(width)(x)


WITHOUT_WEIGHTS = {
    "dot": lambda x: layers.Attention()([wide(7, x), wide(9, x), wide(7, x)]),
    "self, scaled": lambda x: layers.Attention(use_scale=True)([x, x]),
    "concat": lambda x: layers.Attention(score_mode="concat")([wide(7, x), wide(7, x)]),
    "additive": lambda x: layers.AdditiveAttention()([wide(7, x), wide(7, x)]),
    "additive, unscaled": lambda x: layers.AdditiveAttention(use_scale=False)([wide(7, x), wide(5, x), wide(7, x)]),
    "of hidden units": lambda x: layers.Attention()([layers.LSTM(6, return_sequences=True)(x)] * 2),
}


def model_of(attend):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((STEPS, 5))
    x = attend(layers.Dense(WIDTH, name="front")(inputs))
    return randomize(keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x))))


@pytest.mark.filterwarnings("ignore:.*every channel is dead")
@pytest.mark.parametrize("name", [*BY_HAND, *WITHOUT_WEIGHTS])
def test_what_is_zero_leaves_and_nothing_else(name):
    model = model_of(BY_HAND[name]() if name in BY_HAND else WITHOUT_WEIGHTS[name])
    assert len(tt.structures(model).frozen) == 1  # the model's output
    weights = model.get_weights()
    check_widths(model, random_members(0))
    model.set_weights(weights)
    check_random_zeros(model, seed=1)


def test_a_sum_of_zeros_is_zero_whatever_reads_it():
    model = model_of(Attend(by_matmul))
    value = next(layer for layer in all_layers(model) if layer.name == "value")
    for weight in (value.kernel, value.bias):
        zero(weight, -1, [1, 1 + SIZE, 1 + 2 * SIZE])
    small = check_laws(model)
    (smaller,) = (layer for layer in all_layers(small) if layer.name == "value")
    assert smaller.units == HEADS * (SIZE - 1)


@pytest.mark.parametrize("name", BY_HAND)
def test_heads_leave_and_dimensions_of_all_heads(name):
    found = tt.structures(model_of(BY_HAND[name]()))
    assert [each.size for each in found if each.kind == "head"] == [HEADS]
    sizes = [each.size for each in found if each.kind == "unit"]
    together = name in ("one projection", "dot_product_attention", "with a scale")
    expected = [SIZE] if together else [SIZE, SIZE]  # of queries and keys, and of values
    assert sorted(sizes) == [*expected, WIDTH, WIDTH]  # and what enters and what leaves


class Latents(layers.Layer):
    """Queries of its own, the same for all examples, as in a Perceiver."""

    def __init__(self):
        super().__init__()
        self.key, self.attend, self.out = layers.Dense(SIZE), layers.Attention(), layers.Dense(WIDTH)
        self.latents = self.add_weight(shape=(3, SIZE), initializer="normal", name="latents")

    def call(self, x):
        given = self.attend([ops.expand_dims(self.latents, 0), self.key(x)])
        return self.out(ops.reshape(given, (ops.shape(given)[0], 3 * SIZE)))


def test_queries_that_all_examples_share_give_something_for_each_example():
    inputs = keras.Input((STEPS, 5))
    model = randomize(keras.Model(inputs, layers.Dense(2)(Latents()(inputs))))
    small = check_laws(model)
    assert small.output_shape == (None, 2)
