"""Random inputs of a check are such as the model can take."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from small_models import randomized, sequential

from tf_terngrad import tflite
from tf_terngrad.tflite.draw import draw
from tf_terngrad.tflite.ports import ports, structures_of

ROWS = 20


class TokenAndPosition(layers.Layer):
    """The embedding of every tutorial on transformers."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.tokens, self.positions = layers.Embedding(500, 4), layers.Embedding(ROWS, 4)

    def call(self, x):
        return self.tokens(x) + self.positions(ops.arange(ops.shape(x)[-1]))


class Position(layers.Layer):
    """A table of positions that is a weight, cut to the length of its input."""

    def build(self, shape):
        self.table = self.add_weight(shape=(ROWS, shape[-1]), name="table")

    def call(self, x):
        return x + self.table[: ops.shape(x)[1]]


class OwnTable(layers.Layer):
    def build(self, shape):
        self.table = self.add_weight(shape=(2, 3), name="table")

    def call(self, x):
        return ops.take(self.table, x, axis=0)


def tokens(shape, *stack, dtype="int32"):
    return sequential(shape, *stack, dtype=dtype)


def strided():
    """Strides leave nothing of an image of 32 pixels."""
    return sequential((None, None, 3), *(layers.Conv2D(4, 3, strides=2) for _ in range(5)), layers.GlobalMaxPooling2D())


def functional():
    """Numbers, and tokens that reach their table through a sum."""
    user, item = keras.Input((6,), name="user"), keras.Input((), name="item", dtype="int64")
    return keras.Model([user, item], layers.Concatenate()([layers.Dense(3)(user), layers.Embedding(7, 3)(item + 5)]))


def drawn(model):
    return draw(model, ports(structures_of(model)[0]), examples=8)


TAKEN = {
    "free length, positions": lambda: tokens((None,), TokenAndPosition(), layers.GlobalAveragePooling1D()),
    "free length, positions, recurrent": lambda: tokens((None,), TokenAndPosition(), layers.LSTM(3)),
    "free length, positions as a weight": lambda: sequential((None, 4), Position(), layers.GlobalAveragePooling1D()),
    "shifted": lambda: tokens((12,), layers.Lambda(lambda x: x + 5), layers.Embedding(10, 3)),
    "floats": lambda: tokens((12,), layers.Embedding(10, 3), dtype="float32"),
    "own table": lambda: tokens((12,), OwnTable()),
    "strides": strided,
    "functional": functional,
    "bytes": lambda: tokens((4, 4, 3), layers.Rescaling(1 / 255), layers.Conv2D(2, 3), dtype="uint8"),
}


@pytest.mark.parametrize("build", TAKEN.values(), ids=TAKEN)
def test_the_model_takes_what_is_drawn_and_the_file_gives_its_outputs(build, tmp_path):
    report = tflite.convert(randomized(build()), tmp_path / "m.tflite")
    assert report.relative_difference <= 1e-4 and all(output.scale > 0 for output in report.outputs)


def test_tokens_reach_the_rows_of_their_table():
    (given,) = drawn(TAKEN["free length, positions"]())
    assert given.shape[1] <= ROWS and 100 < given.max() < 500
    (given,) = drawn(TAKEN["shifted"]())
    assert 0 <= given.min() < given.max() <= 4
    (given,) = drawn(TAKEN["floats"]())
    assert given.dtype == "float32" and set(np.unique(given)) == set(range(10))
    users, items = drawn(functional())
    assert (users % 1).all() and items.max() <= 1


def test_bytes_are_those_of_images():
    (given,) = drawn(TAKEN["bytes"]())
    assert given.dtype == "uint8" and given.max() > 200


def test_a_model_that_takes_nothing_says_what_to_give(tmp_path):
    model = tokens((3,), layers.Embedding(10, 2), layers.Lambda(lambda x: ops.log(-ops.abs(x) - 1)))
    with pytest.raises(ValueError, match=r"takes none of the random inputs.*calibration=.*NaN, infinity, or rows"):
        tflite.convert(model, tmp_path / "m.tflite")
