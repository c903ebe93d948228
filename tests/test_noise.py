"""Layers of the user's that change elements at random in training: channels leave through them, and the layer stays."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import tf_terngrad as tt


class DropPath(layers.Layer):
    """Stochastic depth as models of transformers have it."""

    def __init__(self, rate=0.5):
        super().__init__()
        self.rate, self.seed = rate, keras.random.SeedGenerator(1)

    def call(self, x, training=None):
        if not training:
            return x
        keep, shape = 1 - self.rate, (ops.shape(x)[0],) + (1,) * (len(x.shape) - 1)
        return x / keep * ops.floor(keep + keras.random.uniform(shape, seed=self.seed))


class OfTensorFlow(layers.Layer):
    def call(self, x, training=False):
        return tf.math.divide(x, 0.9) * tf.floor(0.9 + tf.random.uniform((tf.shape(x)[0], 1, 1))) if training else x


class Noise(layers.Layer):
    def call(self, x, training=None):
        return x + keras.random.normal(ops.shape(x)) if training else x


class Fading(layers.Layer):
    """The same numbers each time: another one for each place."""

    def call(self, x, training=None):
        return x * np.linspace(0, 1, x.shape[-1]) if training else x


class Mixing(layers.Layer):
    def call(self, x, training=None):
        return x * keras.random.uniform((1,)) + ops.mean(x, -1, keepdims=True) if training else x


class Doubling(layers.Layer):
    """Something else than its input at inference."""

    def call(self, x, training=None):
        return x * keras.random.uniform((1,)) if training else 2 * x


class Fixed(layers.Layer):
    """Random numbers for one width alone."""

    def call(self, x, training=None):
        return x * keras.random.uniform((12,)) if training else x


class Weighing(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=(), name="scale")

    def call(self, x, training=None):
        return x * keras.random.uniform((1,)) * self.scale if training else x


def residual(kind):
    x = keras.Input((6, 5))
    stream = layers.Dense(12, name="stem")(x)
    stream = stream + kind()(layers.Dense(12, name="branch")(layers.Dense(9, "relu", name="hidden")(stream)))
    return keras.Model(x, layers.Dense(3)(stream))


@pytest.mark.parametrize("kind", [DropPath, OfTensorFlow, Noise])
def test_channels_leave_through_noise(kind):
    model = residual(kind)
    for structure in tt.structures(model):
        if structure.size in (9, 12):
            structure.zero([0, 3, 4])
    small = tt.compact(model)
    x = np.random.default_rng(0).normal(size=(4, 6, 5)).astype("float32")
    np.testing.assert_allclose(small(x), model(x), rtol=1e-5, atol=1e-6)
    assert [small.get_layer(name).units for name in ("stem", "hidden", "branch")] == [9, 6, 9]
    (noise,) = [layer for layer in small.layers if isinstance(layer, kind)]
    assert noise not in model.layers
    assert np.abs(small(x, training=True) - small(x)).max() > 1e-3


@pytest.mark.parametrize("kind", [Fading, Mixing, Doubling, Fixed, Weighing])
def test_what_is_no_noise_stays_closed(kind):
    found = tt.structures(residual(kind))
    assert [structure.size for structure in found] == [9]
    assert any("its call" in reason for frozen in found.frozen for reason in frozen.reasons)
