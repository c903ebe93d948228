"""Composites as people write them, by what is special in them, and where each stands in a model."""

import keras
from keras import layers, ops


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
        return ops.einsum("...h,ho->...o", ops.relu(ops.einsum("bsd,dh->bsh", x, self.into)), self.out)


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


class ClassToken(layers.Layer):
    """A learnt token in front of every sequence, and positions for all: a vision transformer's first layer."""

    def __init__(self, length):
        super().__init__()
        self.positions = layers.Embedding(length + 1, 6)

    def build(self, shape):
        self.token = self.add_weight(shape=(1, 1, shape[-1]), initializer="random_normal", name="token")

    def call(self, x):
        batch = ops.shape(x)[0]
        token = ops.broadcast_to(self.token, (batch, 1, ops.shape(x)[-1]))
        x = ops.concatenate([token, ops.reshape(x, (batch, ops.shape(x)[1], 6))], axis=1)
        return x + self.positions(ops.broadcast_to(ops.arange(ops.shape(x)[1])[None], (batch, ops.shape(x)[1])))


class TiledToken(ClassToken):
    def call(self, x):
        batch, length = ops.shape(x)[:2]
        token = ops.tile(self.token, (batch, 1, 1))
        return ops.concatenate([x, token], axis=1) + ops.ones((batch, length + 1, 1))


class RepeatedToken(ClassToken):
    def call(self, x):
        return ops.concatenate([ops.repeat(self.token, ops.shape(x)[0], axis=0), x], axis=1)


class Pair(layers.Layer):
    """It gives None where it has nothing to give, as attention without scores."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(6)

    def build(self, shape):
        self.shift = self.add_weight(shape=(shape[-1],), name="shift")

    def call(self, x, training=None):
        return self.dense(x + self.shift), None


class OfPairs(layers.Layer):
    def __init__(self):
        super().__init__()
        self.pairs = [Pair(), Pair()]

    def call(self, x, training=None):
        for pair in self.pairs:
            x, _ = pair(x, training=training)
        return x


class HalfMasked(layers.Layer):
    """A mask of truth values for each example."""

    def call(self, x):
        batch, length = ops.shape(x)[:2]
        mask = ops.logical_and(ops.ones((batch, length, 1), "bool"), ops.arange(length)[None, :, None] < 3)
        return ops.where(mask, x, ops.zeros((batch, length, 1)))


class Anew(layers.Layer):
    """A sum and a product that are made in each call, and an identity of which Keras writes down no policy."""

    def __init__(self):
        super().__init__()
        self.gate = layers.Dense(6, "sigmoid")
        self.dense, self.same = layers.Dense(6), layers.Identity(dtype=keras.DTypePolicy("float32"))

    def call(self, x):
        return layers.multiply([layers.add([self.same(x), self.dense(x)]), self.gate(x)], name="product")


class Crossing(layers.Layer):
    """Its weights stand in lists and in a dict."""

    def build(self, shape):
        self.kernels = [self.add_weight(shape=(6, 6), name=f"kernel_{i}") for i in range(2)]
        self.scales = {"inner": self.add_weight(shape=(6,), name="scale"), "pair": (self.add_weight(shape=()), 2.0)}

    def call(self, x):
        for kernel in self.kernels:
            x = x + self.scales["inner"] * ops.tensordot(x, kernel, axes=[[1], [0]])
        return x * self.scales["pair"][0] * self.scales["pair"][1]


class Beside(layers.Layer):
    """The mean beside each step, by the sizes."""

    def call(self, x):
        return ops.concatenate([x, ops.broadcast_to(ops.mean(x, 1, keepdims=True), ops.shape(x))], -1)


class Keyed(layers.Layer):
    """Keys that are no tuples."""

    def build(self, shape):
        self.shift = self.add_weight(shape=shape[1:], name="shift")

    def call(self, x):
        return ops.relu(x + self.shift[None])[...]


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
    "ClassToken": ((5, 6), lambda x: ClassToken(5)(x)),
    "TiledToken": ((5, 6), lambda x: TiledToken(5)(x)),
    "RepeatedToken": ((5, 6), lambda x: RepeatedToken(5)(x)),
    "HalfMasked": ((5, 6), lambda x: HalfMasked()(x)),
    "OfPairs": ((6,), lambda x: OfPairs()(x)),
    "Anew": ((6,), lambda x: Anew()(x)),
    "Twins": ((6,), twins),
    "Crossing": ((6,), lambda x: Crossing()(x)),
    "Beside": ((4, 6), lambda x: Beside()(x)),
    "Keyed": ((4, 6), lambda x: Keyed()(x)),
    "Nested": ((5, 6), lambda x: Nested()(x)),
    "Inner": ((6,), lambda x: Inner()(x)),
    "Activated": ((6, 6, 6), lambda x: Activated(8, 3)(x)),
    "Lambda": ((6,), lambda x: layers.Lambda(lambda t: ops.abs(t) * 2 + 1)(x)),
    "used twice": ((5, 6), lambda x: (lambda block: block(layers.Dense(6, name="between")(block(x))))(Block(6))),
}
