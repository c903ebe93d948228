"""Random models in users' own styles: composites, weights of their own, Lambdas, ties, functions and frozen parts."""

import dataclasses
import functools

import graphs
import keras
import tensorflow as tf
from graphs import Grower
from keras import layers, ops
from laws import randomize

SLOPE = 0.5


class Residual(layers.Layer):
    """A residual block that uses `training` and takes a setting."""

    def __init__(self, units, width, **options):
        super().__init__(**options)
        self.expand, self.project = layers.Dense(units, activation="gelu"), layers.Dense(width)
        self.norm, self.drop = layers.LayerNormalization(), layers.Dropout(0.3)

    def call(self, x, factor=1.0, training=None):
        y = self.drop(self.project(self.expand(self.norm(x))), training=training)
        return x + factor * y


class Normed(layers.Layer):
    """Layers in a list, one of them a batch normalization."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.steps = [layers.Dense(units), layers.BatchNormalization(), layers.ReLU()]

    def call(self, x, training=None):
        for step in self.steps:
            x = step(x, training=training) if isinstance(step, layers.BatchNormalization) else step(x)
        return x


class Twice(layers.Layer):
    """A block in a block, used twice."""

    def __init__(self, units, width, **options):
        super().__init__(**options)
        self.block = Residual(units, width)

    def call(self, x, training=None):
        return self.block(ops.relu(self.block(x, training=training)), factor=1.0, training=training)


class Net(keras.Model):
    """A whole subclassed model as a part."""

    def __init__(self, units, width, **options):
        super().__init__(**options)
        self.body, self.head = Normed(units), layers.Dense(width)

    def call(self, x, training=None):
        return self.head(self.body(x, training=training))


class Affine(layers.Layer):
    """A scale and a shift for each channel."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")
        self.shift = self.add_weight(shape=(shape[-1],), initializer="zeros", name="shift")

    def call(self, x):
        return x * self.scale + self.shift


class Positions(layers.Layer):
    """A table with a row for each place."""

    def build(self, shape):
        self.table = self.add_weight(shape=(1, *shape[1:]), initializer="random_normal", name="table")

    def call(self, x):
        return x + self.table


class Product(layers.Layer):
    """A dense layer by its own weights."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = units

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")

    def call(self, x):
        return ops.tanh(ops.matmul(x, self.kernel) + self.bias)


class Equation(Product):
    def call(self, x):
        return ops.einsum("...d,dh->...h", x, self.kernel) + self.bias


class Tied(layers.Layer):
    """It goes back through the kernel of another layer."""

    def __init__(self, other, **options):
        super().__init__(**options)
        self.other = other

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.other.kernel))


@keras.saving.register_keras_serializable("composite_graphs")
def swish(x):
    return x * ops.sigmoid(x)


FUNCTIONS = (
    tf.nn.relu,
    tf.nn.softplus,
    ops.tanh,
    lambda x: ops.abs(x) + 0.5,
    functools.partial(keras.activations.relu, negative_slope=0.1),
    swish,
)

# What a step draws; `g.call` calls a composite, or only its parts


def _residual(g, x):
    return g.call(Residual(g.width(), x.shape[-1]), x, factor=g.pick(0.5, 2.0))


def _normed(g, x):
    return g.call(Normed(g.width()), x)


def _twice(g, x):
    return g.call(Twice(g.width(), x.shape[-1]), x)


def _net(g, x):
    return g.call(Net(g.width(), g.width()), x)


def _shared(g, x):
    block = Normed(x.shape[-1])
    return block(layers.Dense(x.shape[-1])(block(x)))  # one smaller block serves both calls, which its parts need not


def _bare(g, x):
    return g.pick(Affine, Positions, lambda: Product(g.width()), lambda: Equation(g.width()))()(x)


def _lambda(g, x):
    shift = g.pick(0.25, 1.0)
    return layers.Lambda(g.pick(lambda t: ops.relu(t) * SLOPE, lambda t: ops.abs(t) + shift))(x)


def _tied(g, x):
    layer = layers.Dense(g.width(), use_bias=False)
    return Tied(layer)(layers.Dense(layer.units, "relu")(layer(x)))


def _function(g, x):
    return layers.Dense(g.width(), g.pick(*FUNCTIONS))(x)


def _frozen(g, x):
    layer = g.pick(lambda: layers.Dense(g.width(), "relu"), lambda: Normed(g.width()), lambda: Product(g.width()))()
    layer.trainable = False
    return layer(x)


COMPOSITES = [_residual, _normed, _twice, _net, _shared, _bare, _bare, _lambda, _tied, _function, _frozen]


@dataclasses.dataclass
class CompositeGrower(Grower):
    """Grows a model of composites among layers; `opened`: calls what is in them in their place."""

    opened: bool = False

    def step(self):
        x = self.pick(*self.pool)
        if len(x.shape) > 1 and None not in x.shape[1:] and self.pick(1, 2, 3) > 1:
            self.pool.append(self.pick(*COMPOSITES)(self, x))
        else:
            super().step()

    def call(self, composite, x, **settings):
        return composite.call(x, **settings) if self.opened else composite(x, **settings)


def around(shape, style):
    """A model in which what enters and what leaves can shrink."""
    inputs = keras.Input(shape)
    x = style(layers.Dense(shape[-1], "relu", name="front")(inputs))
    x = layers.Flatten()(x) if len(x.shape) > 2 else x
    return randomize(keras.Model(inputs, layers.Dense(3, name="reader")(x)))


def grow(choices, steps=6, opened=False):
    """A random model of users' composites among layers.

    Args:
        choices: a `random.Random`, such as `hypothesis.strategies.randoms(use_true_random=False)` draws.
        steps: how many layers are tried at most.
        opened: build the functional model that has the parts of the composites in their place.
    """
    return graphs.grow(choices, steps, functools.partial(CompositeGrower, opened=opened))
