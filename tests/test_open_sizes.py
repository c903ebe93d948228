"""Composites that are called on images and sequences of any size: no size of a trace may stay in the smaller model."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from laws import check_widths, difference, outputs_of, random_members, randomize

import tf_terngrad as tt


def between(layer, shape):
    """A model with a layer between two others, on inputs with open sizes."""
    inputs = keras.Input(shape)
    x = layer(layers.Dense(6, "relu", name="front")(inputs))
    return randomize(keras.Model(inputs, layers.Dense(3, name="reader")(x)))


def check_sizes(model, *sizes):
    """Assert that the opened model computes the same for each size."""
    small = tt.compact(model)
    for size in sizes:
        shape = [length or size for length in model.inputs[0].shape[1:]]
        x = np.random.default_rng(size).normal(size=(2, *shape))
        for expected, got in zip(outputs_of(model, x), outputs_of(small, x), strict=True):
            assert expected.shape == got.shape
            assert difference(expected, got) <= 1e-5


class Heads(layers.Layer):
    """Split into heads and joined again, with the sizes as Keras says them."""

    def __init__(self, shape=ops.shape):
        super().__init__()
        self.dense, self.shape = layers.Dense(6), shape

    def call(self, x):
        batch, steps = self.shape(x)[0], self.shape(x)[1]
        heads = ops.transpose(ops.reshape(self.dense(x), (batch, steps, 2, 3)), (0, 2, 1, 3))
        return x + ops.reshape(ops.transpose(heads, (0, 2, 1, 3)), (batch, -1, 6))


class Twice(layers.Layer):
    """An image of twice the size."""

    def __init__(self, method="bilinear"):
        super().__init__()
        self.method = method

    def call(self, x):
        return tf.image.resize(x, tf.shape(x)[1:3] * (2, 3), self.method)


class Flat(layers.Layer):
    """The pixels as a sequence."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(6)

    def call(self, x):
        batch, height, width, channels = (tf.shape(x)[axis] for axis in range(4))
        return self.dense(tf.reshape(x, (batch, height * width, channels)))


OPEN = {
    "heads": (lambda: Heads(), (None, 6)),
    "heads of TensorFlow": (lambda: Heads(tf.shape), (None, 6)),
    "twice": (lambda: Twice(), (None, None, 6)),
    "twice, nearest": (lambda: Twice("nearest"), (None, None, 6)),
    "flat": (lambda: Flat(), (None, None, 6)),
    "Lambda": (lambda: layers.Lambda(lambda x: tf.image.resize(x, 2 * tf.shape(x)[1:3])), (None, None, 6)),
}


@pytest.mark.parametrize("name", OPEN)
def test_open_sizes_are_followed(name):
    make, shape = OPEN[name]
    model = between(make(), shape)
    assert [entry.name for entry in tt.structures(model).frozen] == ["reader"]
    check_sizes(model, 5, 8)
    check_widths(model, random_members(0))


class Table(layers.Layer):
    """As many rows of a table as there are steps."""

    def build(self, shape):
        self.table = self.add_weight(shape=(1, 99, shape[-1]), initializer="random_normal", name="table")

    def call(self, x):
        return x + self.table[:, : ops.shape(x)[1]]


class Lookup(layers.Layer):
    def __init__(self):
        super().__init__()
        self.table = layers.Embedding(99, 6)

    def call(self, x):
        return x + self.table(ops.arange(0, ops.shape(x)[1], 1))


class Cut(layers.Layer):
    """Padded, and cut to the length that it had."""

    def call(self, x):
        return ops.pad(x, ((0, 0), (2, 0), (0, 0)))[:, : ops.shape(x)[1]]


class CutBySize(layers.Layer):
    def call(self, x):
        return ops.slice(ops.pad(x, ((0, 0), (2, 0), (0, 0))), (0, 0, 0), ops.shape(x))


class Spread(layers.Layer):
    """The mean beside each step."""

    def call(self, x):
        return ops.concatenate([x, ops.broadcast_to(ops.mean(x, 1, keepdims=True), ops.shape(x))], -1)


class Scaled(layers.Layer):
    def call(self, x):
        return x / tf.cast(tf.shape(x)[1], x.dtype)


class Halves(layers.Layer):
    """Smaller and as large as before: not twice as large where the size is odd."""

    def __init__(self):
        super().__init__()
        self.smaller = layers.MaxPooling2D(padding="same")

    def call(self, x):
        return x + tf.image.resize(self.smaller(x), tf.shape(x)[1:3])


class Whole(layers.Layer):
    """Padded to whole windows of four."""

    def call(self, x):
        return ops.pad(x, ((0, 0), (0, int(-x.shape[1] % 4)), (0, 0))) if x.shape[1] else x


class Back(Flat):
    """A sequence of pixels, and the image again."""

    def call(self, x):
        return tf.reshape(super().call(x), tf.shape(x))


CLOSED = {
    "Table": (Table, (None, 6), "a size that is open"),
    "Lookup": (Lookup, (None, 6), "an array of a size that is open"),
    "Cut": (Cut, (None, 6), "gives a size that is open"),
    "CutBySize": (CutBySize, (None, 6), " Slice"),
    "Spread": (Spread, (None, 6), "makes BroadcastTo with a size that is open"),
    "Scaled": (Scaled, (None, 6), "for other sizes"),
    "Halves": (Halves, (None, None, 6), "makes Resize with a size that is open"),
    "Whole": (Whole, (None, 6), "for other sizes"),
    "Back": (Back, (None, None, 6), "makes Reshape with a size that is open"),
}


@pytest.mark.parametrize("name", CLOSED)
def test_what_follows_a_size_in_another_way_stays_closed(name):
    make, shape, reason = CLOSED[name]
    model = between(make(), shape)
    assert reason in str(tt.structures(model))
    check_sizes(model, 5, 8)


class Fused(layers.Layer):
    """A coarse image beside a fine one, from a layer inside."""

    def __init__(self):
        super().__init__()
        self.join = Joined()

    def call(self, coarse, fine):
        return ops.relu(self.join(coarse, fine=fine))


class Joined(layers.Layer):
    def __init__(self):
        super().__init__()
        self.larger = layers.UpSampling2D()

    def call(self, coarse, fine):
        return ops.concatenate([self.larger(coarse), fine], -1)


def test_tensors_of_several_open_sizes_meet_in_a_composite():
    inputs = keras.Input((None, None, 6))
    fine = layers.Dense(6, "relu", name="front")(inputs)
    coarse = layers.Conv2D(4, 2, 2, name="coarse")(fine)
    model = keras.Model(inputs, layers.Dense(3, name="reader")(Fused()(coarse, fine)))
    assert [entry.name for entry in tt.structures(model).frozen] == ["reader"]
    check_sizes(model, 8, 12)
    check_widths(randomize(model), random_members(0))


class Resized(layers.Layer):
    """An image as large as another one, and as bright."""

    def call(self, x, other):
        return tf.image.resize(x, tf.shape(other)[1:3]) + ops.mean(other, axis=(1, 2), keepdims=True)


def test_a_layer_that_is_called_on_other_ratios_of_sizes_is_opened_for_each():
    inputs = keras.Input((None, None, 6))
    fine = layers.Dense(6, "relu", name="front")(inputs)
    half = layers.UpSampling2D(2)(fine)
    resized = Resized()
    x = layers.Concatenate()([resized(fine, layers.UpSampling2D(4)(fine)), resized(half, layers.UpSampling2D(4)(fine))])
    model = keras.Model(inputs, layers.Dense(3, name="reader")(x))
    assert [entry.name for entry in tt.structures(model).frozen] == ["reader"]
    check_sizes(model, 3, 4)


def test_a_layer_that_is_called_on_several_sizes_is_opened():
    inputs = keras.Input((None, None, 6))
    fine = layers.Dense(6, "relu", name="front")(inputs)
    head = Flat()
    x = layers.Concatenate(1)([head(fine), head(layers.MaxPooling2D(2)(fine))])
    model = randomize(keras.Model(inputs, layers.Dense(3, name="reader")(x)))
    assert [entry.name for entry in tt.structures(model).frozen] == ["reader"]
    check_sizes(model, 4, 7)
    check_widths(model, random_members(0))


def test_inputs_of_the_model_may_have_other_sizes_than_each_other():
    inputs = [keras.Input((None, None, 6), name=name) for name in "ab"]
    x = Resized()(*(layers.Dense(6, "relu", name=f"front_{tensor.name}")(tensor) for tensor in inputs))
    model = keras.Model(inputs, layers.Dense(3, name="reader")(x))
    assert "a size that is open" in str(tt.structures(model))
    x = [np.random.default_rng(0).normal(size=(2, size, size, 6)) for size in (3, 5)]
    np.testing.assert_array_equal(*outputs_of(model, x), *outputs_of(tt.compact(model), x))


def test_a_model_that_is_called_on_other_ratios_of_sizes_stays_closed_inside():
    pair = [keras.Input((None, None, 6)), keras.Input((None, None, 6))]
    inner = keras.Model(pair, Resized()(*pair))
    inputs = keras.Input((None, None, 6))
    fine = layers.Dense(6, "relu", name="front")(inputs)
    half, twice = layers.UpSampling2D(2)(fine), layers.UpSampling2D(4)(fine)
    x = layers.Concatenate()([inner([fine, twice]), inner([half, twice])])
    model = keras.Model(inputs, layers.Dense(3, name="reader")(x))
    assert "a size that is open" in str(tt.structures(model))
    check_sizes(model, 3, 4)
