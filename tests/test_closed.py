"""Composites that cannot be followed stay closed, compute what they did, and the reason is said."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from composite_graphs import Tied, around
from keras import layers, ops

import tf_terngrad as tt


class Still(layers.Layer):
    """A batch normalization that is always at inference, as in a frozen backbone."""

    def __init__(self):
        super().__init__()
        self.norm = layers.BatchNormalization()

    def call(self, x, training=None):
        return self.norm(x, training=False)


class Noisy(layers.Layer):
    def call(self, x, training=False):
        return x + keras.random.normal((6,)) if training else x


class Centred(layers.Layer):
    def call(self, x, training=False):
        return x - ops.mean(x, -1, keepdims=True) if training else x


class Counting(layers.Layer):
    def build(self, shape):
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False, name="count")

    def call(self, x):
        self.count.assign(self.count + 1)
        return x


class Random(layers.Layer):
    def call(self, x):
        return x + np.random.normal(size=6).astype("float32")


class TensorFlow(layers.Layer):
    def call(self, x):
        return tf.identity_n([x])[0]


class Branching(layers.Layer):
    def call(self, x):
        return ops.cond(ops.sum(x) > 0, lambda: x, lambda: -x)


class Looping(layers.Layer):
    def call(self, x):
        return ops.map(lambda row: row * 2, x)


class TiedPlainly(Tied):
    def call(self, x):
        return ops.matmul(x, self.other.kernel)


class Lossy(layers.Layer):
    def call(self, x):
        self.add_loss(ops.mean(x))
        return x


class Wrapping(layers.Layer):
    def __call__(self, *args, **kwargs):
        return super().__call__(*args, **kwargs)

    def call(self, x):
        return ops.relu(x)


def sized(x):
    a = layers.Dense(4, name="narrow")(x)
    shared = Gained()
    return layers.Concatenate()([shared(x), shared(a, factor=3.0)])


class Scaled(layers.Layer):
    def call(self, x, factor=2.0):
        return x * factor


class Gained(Scaled):
    """It has a weight, which is one in all its calls."""

    def build(self, shape):
        self.gain = self.add_weight(shape=(), initializer="ones", name="gain")

    def call(self, x, factor=2.0):
        return x * self.gain * factor


def dense(x):
    layer = layers.Dense(6, use_bias=False, name="held")
    return layer, layer(x)


CLOSED = {
    "Noisy": (lambda x: Noisy()(x), "draws random numbers"),
    "Centred": (lambda x: Centred()(x), "computes something else in training"),
    "Still": (lambda x: Still()(x), "its call fixes `training` for batch_normalization"),
    "Counting": (lambda x: Counting()(x), "its call"),
    "Random": (lambda x: Random()(x), "or each time"),
    "TensorFlow": (
        lambda x: TensorFlow()(x),
        "its call uses `tf.identity_n`, for which no operation of Keras is known",
    ),
    "Branching": (lambda x: Branching()(x), "runs a function inside of Cond"),
    "Looping": (lambda x: Looping()(x), "runs a function inside of Map"),
    "Tied": (lambda x: (lambda pair: Tied(pair[0])(pair[1]))(dense(x)), "reads the value of its variable"),
    "TiedPlainly": (lambda x: (lambda pair: TiedPlainly(pair[0])(pair[1]))(dense(x)), "which is another layer's"),
    "Lossy": (lambda x: Lossy()(x), "adds a loss, which no stock layer does: add it in"),
    "Wrapping": (lambda x: Wrapping()(x), "`__call__` of its own"),
    "Sized": (sized, "in several ways"),
    "Regular": (lambda x: Scaled(activity_regularizer=lambda y: ops.sum(y**4))(x), "activity regularizer"),
}


@pytest.mark.parametrize("name", CLOSED)
def test_what_cannot_be_followed_stays_and_says_why(name):
    style, reason = CLOSED[name]
    model = around((6,), style)
    assert reason in str(tt.structures(model)), tt.structures(model)
    x = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
    expected = model(x, training=False)
    small = tt.compact(model)
    if name != "Random":
        np.testing.assert_allclose(small(x, training=False), expected, rtol=1e-5, atol=1e-6)


def test_a_layer_is_left_as_it_was():
    class Leaving(layers.Layer):
        def call(self, x):
            self.last = ops.relu(x)
            return self.last

    layer = Leaving()
    model = around((6,), layer)
    state, calls = dict(vars(layer)), len(layer._inbound_nodes)
    tt.structures(model)
    assert vars(layer) == state
    assert len(layer._inbound_nodes) == calls


def test_a_subclass_that_cannot_be_followed_is_refused_with_the_reason():
    class Net(keras.Model):
        def call(self, x):
            return tf.identity_n([x])[0]

    model = Net(name="net")
    with pytest.raises(ValueError, match=r"'net' is a subclass .Net., and it is not known on what it is called"):
        tt.compact(model)
    model(np.zeros((2, 3)))
    with pytest.raises(
        ValueError, match=r"'net' is a subclass .Net. whose call cannot be followed: it uses `tf.identity_n`"
    ):
        tt.compact(model)
