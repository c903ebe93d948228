"""What reads a weight of another layer reads that of the compact model there, however it got hold of it."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import tf_terngrad as tt

TABLE = None  # the embedding of the model that is made last: functions of scripts read globals


def words(t, table=None, times=0):
    """The words' scores by a table of embeddings, in a way that is not traced."""
    return tf.matmul(t, (TABLE if table is None else table).embeddings, transpose_b=True)


class Reader:
    """An object that is no layer and holds one."""

    def __init__(self, table):
        self.held = {"table": [table]}

    def read(self, t):
        return words(t, self.held["table"][0])

    __call__ = read


class Global(layers.Layer):
    """A layer of which Keras does not know that it reads another one."""

    def call(self, t):
        return words(t)


class Given(layers.Layer):
    """A layer that was given another one, and holds a function that was compiled."""

    def __init__(self, table):
        super().__init__()
        self.table = table
        self.compiled = tf.function(self.scores)

    def scores(self, t):
        return words(t, self.table)

    def call(self, t):
        return self.compiled(t)


def repeating(table):
    def scores(t, times=2):
        return words(t, table) if times == 0 else scores(2 * t, times - 1)

    return scores


HEADS = {
    "a closure": lambda table: layers.Lambda(lambda t: words(t, table)),
    "a closure that calls itself": lambda table: layers.Lambda(repeating(table)),
    "a default": lambda table: layers.Lambda(lambda t, own=table: words(t, own)),
    "a partial": lambda table: layers.Lambda(functools.partial(words, table=table)),
    "a global": lambda table: layers.Lambda(lambda t: tf.matmul(t, TABLE.embeddings, transpose_b=True)),
    "a helper of a global": lambda table: layers.Lambda(words),
    "an object": lambda table: layers.Lambda(Reader(table)),
    "a method": lambda table: layers.Lambda(Reader(table).read),
    "a class": lambda table: Global(),
    "a compiled function": Given,
    "an operation": lambda table: lambda t: ops.einsum("bth,vh->btv", t, table.embeddings),
    "an activation": lambda table: layers.Dense(8, activation=lambda t: tf.nn.softmax(t) * table.embeddings[0]),
}


def reading(head):
    """A model whose table could shrink if nobody else read it."""
    global TABLE
    TABLE = layers.Embedding(20, 8, name="table")
    ids = keras.Input((5,), dtype="int32")
    x = layers.Dense(8)(layers.Dense(16, "relu", name="hidden")(TABLE(ids)))
    return keras.Model(ids, head(TABLE)(x))


@pytest.mark.parametrize("name", HEADS)
def test_a_tie_stays_one(name):
    model = reading(HEADS[name])
    assert "it shares this weight" in str(tt.structures(model))
    next(found for found in tt.structures(model) if found.name == "hidden").zero([1, 5])
    small, x = tt.compact(model), np.random.default_rng(0).integers(0, 20, (3, 5))
    expected = model(x).numpy()
    assert small.get_layer("hidden").units == 14
    np.testing.assert_allclose(small(x), expected, rtol=1e-5, atol=1e-7)
    for weight in model.weights:
        weight.assign(2 * weight)
    np.testing.assert_allclose(small(x), expected, rtol=1e-5, atol=1e-7)
    for old, new in zip(model.weights, small.weights, strict=True):
        if old.name == "embeddings":
            new.assign(old)
    assert np.abs(small(x) - expected).max() > 0.1 * np.abs(expected).max()
    old, new = model.get_layer("table").embeddings, small.get_layer("table").embeddings
    assert [fate.new for fate in tt.fates(small) if fate.old is old] == [new]


def test_a_function_that_reads_the_model_itself_is_refused():
    global TABLE
    TABLE = reading(lambda table: layers.Lambda(lambda t: tf.identity_n([t])[0] * len(TABLE.name)))
    with pytest.raises(ValueError, match="reads the global 'TABLE', which is the model itself"):
        tt.compact(TABLE)


def test_functions_that_read_nothing_of_the_model_are_the_same():
    def scores(t, times=2):
        return tf.identity_n([t])[0] if times == 0 else scores(2 * t, times - 1)

    bound = functools.partial(tf.nn.leaky_relu, alpha=0.3)
    compiled = layers.Lambda(tf.function(lambda t: tf.nn.softmax(t)))
    model = keras.Sequential([keras.Input((6,)), layers.Lambda(scores), layers.Activation(bound), compiled])
    first, second, third = tt.compact(tt.compact(model)).layers[-3:]
    held = [first.function, second.activation, third.function]
    assert held == [scores, bound, compiled.function]
