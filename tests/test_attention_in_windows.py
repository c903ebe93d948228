"""Attention in windows of an image, with a bias for each relative position that integers look up in a table."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from laws import check_laws, randomize, zero_members

import tf_terngrad as tt

HEADS, SIZE, SIDE, WINDOW = 3, 2, 4, 2
WIDTH, PLACES = HEADS * SIZE, WINDOW * WINDOW


def relative_positions():
    """For each pair of places in a window, the row of the table: of shape (places, places)."""
    rows, columns = np.divmod(np.arange(PLACES), WINDOW)
    apart = [axis[:, None] - axis[None] + WINDOW - 1 for axis in (rows, columns)]
    return apart[0] * (2 * WINDOW - 1) + apart[1]


class InWindow(layers.Layer):
    """Attention inside of each window; `apart` (windows, places, places) is added to the scores of each image."""

    def __init__(self, kind):
        super().__init__()
        self.qkv, self.out = layers.Dense(3 * WIDTH, name="qkv"), layers.Dense(WIDTH, name="out")
        self.table = self.add_weight(shape=((2 * WINDOW - 1) ** 2, HEADS), initializer="normal", name="table")
        places = relative_positions()
        self.places = keras.Variable(places, dtype="int32", trainable=False) if kind == "variable" else places

    def call(self, x, apart=None):
        x = ops.transpose(ops.reshape(self.qkv(x), (-1, PLACES, 3, HEADS, SIZE)), (2, 0, 3, 1, 4))
        scores = ops.matmul(x[0] * SIZE**-0.5, ops.swapaxes(x[1], -1, -2))
        scores += ops.transpose(ops.take(self.table, self.places, axis=0), (2, 0, 1))
        if apart is not None:
            images = ops.reshape(scores, (-1, apart.shape[0], HEADS, PLACES, PLACES)) + ops.expand_dims(apart, (0, 2))
            scores = ops.reshape(images, (-1, HEADS, PLACES, PLACES))
        y = ops.matmul(ops.softmax(scores), x[2])
        return self.out(ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (-1, PLACES, WIDTH)))


class Windows(layers.Layer):
    """An image, cut into windows and put together again."""

    def __init__(self, kind, apart=None):
        super().__init__()
        self.attend, self.apart = InWindow(kind), apart

    def call(self, x):
        count = SIDE // WINDOW
        cut = ops.transpose(ops.reshape(x, (-1, count, WINDOW, count, WINDOW, WIDTH)), (0, 1, 3, 2, 4, 5))
        y = self.attend(ops.reshape(cut, (-1, PLACES, WIDTH)), apart=self.apart)
        y = ops.transpose(ops.reshape(y, (-1, count, count, WINDOW, WINDOW, WIDTH)), (0, 1, 3, 2, 4, 5))
        return x + ops.reshape(y, (-1, SIDE, SIDE, WIDTH))


def windowed(kind, apart=None, merge=False):
    inputs = keras.Input((SIDE, SIDE, 3))
    x = Windows(kind, apart)(layers.Conv2D(WIDTH, 1, name="stem")(inputs))
    if merge:
        x = ops.concatenate([x[:, row::2, column::2] for row in range(2) for column in range(2)])
    return randomize(keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x))))


def check_members_left(model):
    """Assert that one member of each structure leaves, and the laws."""
    sizes = [one.size for one in tt.structures(model) if one.kind != "branch"]
    small = check_laws(model)
    left = [one.size for one in tt.structures(small) if one.kind != "branch"]
    assert left == [size - 1 for size in sizes if size > 2]


@pytest.mark.parametrize("kind", ["variable", "array"])
def test_heads_leave_with_their_columns_of_the_table(kind):
    model = windowed(kind)
    (heads,) = [one for one in tt.structures(model) if one.kind == "head"]
    assert heads.size == HEADS
    assert any("table" in piece.variable.name for piece in heads.penalized)
    zero_members(model, lambda structure: [1])
    check_members_left(model)


def test_a_call_that_tells_the_windows_of_an_image_apart_is_opened():
    apart = np.where(np.random.default_rng(0).random((4, PLACES, PLACES)) < 0.3, -9.0, 0.0)
    model = windowed("array", keras.Variable(apart, trainable=False), merge=True)
    assert {"head", "width"} <= {one.kind for one in tt.structures(model)}
    zero_members(model, lambda structure: [1])
    check_members_left(model)
