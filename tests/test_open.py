"""Composites are followed through their parts: custom layers, subclassed models, Lambdas, weights with bare operations."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from laws import check_laws, random_members, randomize, zero_members

import tf_terngrad as tt

# What people write


class Block(layers.Layer):
    """A residual block with a gate for each channel."""

    def __init__(self, units, rate=0.1):
        super().__init__()
        self.first, self.second = layers.Dense(2 * units, activation="gelu"), layers.Dense(units)
        self.drop, self.units = layers.Dropout(rate), units

    def build(self, shape):
        self.scale = self.add_weight(shape=(self.units,), initializer="ones", name="scale")

    def call(self, x, training=False):
        return x + self.drop(self.second(self.first(x)), training=training) * self.scale


class ConvBlock(layers.Layer):
    """Layers in a list, and a batch normalization that follows `training`."""

    def __init__(self, filters):
        super().__init__()
        self.steps = [layers.Conv2D(filters, 3, padding="same"), layers.BatchNormalization(), layers.ReLU()]

    def call(self, inputs, training=None):
        x = inputs
        for layer in self.steps:
            x = layer(x, training=training) if isinstance(layer, layers.BatchNormalization) else layer(x)
        return x


class TokenAndPosition(layers.Layer):
    """Two tables, one of them looked up with a constant."""

    def __init__(self, length, words, width):
        super().__init__()
        self.token, self.position = layers.Embedding(words, width), layers.Embedding(length, width)

    def call(self, ids):
        return self.token(ids) + self.position(ops.arange(ops.shape(ids)[-1]))


class OwnDense(layers.Layer):
    """The dense layer of every tutorial, by its own weights."""

    def __init__(self, units, activation=None):
        super().__init__()
        self.units, self.activation = units, keras.activations.get(activation)

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], self.units), initializer="glorot_uniform", name="w")
        self.b = self.add_weight(shape=(self.units,), initializer="zeros", name="b")

    def call(self, inputs):
        return self.activation(ops.matmul(inputs, self.w) + self.b)


class Equation(layers.Layer):
    def build(self, shape):
        self.into = self.add_weight(shape=(shape[-1], 8), name="into")
        self.out = self.add_weight(shape=(8, 6), name="out")

    def call(self, x):
        return ops.einsum("bsh,ho->bso", ops.relu(ops.einsum("bsd,dh->bsh", x, self.into)), self.out)


class Positions(layers.Layer):
    """A table of positions as a weight, with an axis for the batch, and one number for all."""

    def build(self, shape):
        self.table = self.add_weight(shape=(1, *shape[1:]), initializer="random_normal", name="table")
        self.gate = self.add_weight(shape=(), initializer="ones", name="gate")

    def call(self, x):
        return x + self.gate * self.table


class OnePlus(layers.Layer):
    """A scale that starts at zero, as Gemma's: an expression of a weight."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="zeros", name="scale")

    def call(self, x):
        return x * (1 + ops.cast(self.scale, x.dtype))


class Twins(layers.Layer):
    """Two inputs, two outputs, a setting, and one layer used twice."""

    def __init__(self):
        super().__init__()
        self.shared = layers.Dense(6)

    def call(self, pair, factor=1.0):
        first, second = pair
        return self.shared(first) * factor, self.shared(second)


class Inner(keras.Model):
    def __init__(self):
        super().__init__(name="inner")
        self.hidden, self.out = layers.Dense(12, "relu"), layers.Dense(6)

    def call(self, x):
        return self.out(self.hidden(x))


class Nested(layers.Layer):
    """Composites in a composite, one of them twice."""

    def __init__(self):
        super().__init__()
        self.inner, self.block = Inner(), Block(6)

    def call(self, x, training=None):
        return self.block(self.block(self.inner(x), training=training), training=training)


class Activated(layers.Conv2D):
    def call(self, inputs):
        return ops.tanh(super().call(inputs))


def twins(x):
    a, b = Twins()([x, layers.Dense(6, "relu", name="other")(x)], factor=2.0)
    return layers.Concatenate()([a, b])


STYLES = {
    "Block": ((5, 6), lambda x: Block(6)(x)),
    "ConvBlock": ((8, 8, 6), lambda x: ConvBlock(8)(x)),
    "OwnDense": ((6,), lambda x: OwnDense(8, "relu")(x)),
    "OwnDense in time": ((5, 6), lambda x: OwnDense(8)(x)),
    "Equation": ((5, 6), lambda x: Equation()(x)),
    "Positions": ((5, 6), lambda x: Positions()(x)),
    "Positions in space": ((3, 4, 6), lambda x: Positions()(x)),
    "OnePlus": ((6,), lambda x: OnePlus()(x)),
    "Twins": ((6,), twins),
    "Nested": ((5, 6), lambda x: Nested()(x)),
    "Inner": ((6,), lambda x: Inner()(x)),
    "Activated": ((6, 6, 6), lambda x: Activated(8, 3)(x)),
    "Lambda": ((6,), lambda x: layers.Lambda(lambda t: ops.abs(t) * 2 + 1)(x)),
    "used twice": ((5, 6), lambda x: (lambda block: block(layers.Dense(6, name="between")(block(x))))(Block(6))),
}


def around(shape, style):
    """A model in which what enters and what leaves can shrink."""
    inputs = keras.Input(shape)
    x = style(layers.Dense(shape[-1], "relu", name="front")(inputs))
    x = layers.Flatten()(x) if len(x.shape) > 2 else x
    return randomize(keras.Model(inputs, layers.Dense(3, name="reader")(x)))


@pytest.mark.parametrize("name", STYLES)
def test_what_is_inside_of_a_composite_can_leave(name):
    model = around(*STYLES[name])
    assert [entry.name for entry in tt.structures(model).frozen] == ["reader"]
    zero_members(model, random_members(1))
    small = check_laws(model)
    assert small.count_params() < model.count_params()
