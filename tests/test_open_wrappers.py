"""Layers of one's own inside of wrappers are opened, and are the parts of a wrapper of one's own."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from laws import around, check_laws, check_widths, random_members, randomize, zero_members

import tf_terngrad as tt


@keras.saving.register_keras_serializable("wrapped")
class Feed(layers.Layer):
    """Two layers and a sum."""

    def __init__(self, width=6, **options):
        super().__init__(**options)
        self.inner, self.outer = layers.Dense(12, "relu"), layers.Dense(width)

    def build(self, shape):
        self.inner.build(shape)
        self.outer.build((*shape[:-1], 12))

    def call(self, x):
        return x + self.outer(self.inner(x))

    def compute_output_shape(self, shape):
        return shape


class Frame(layers.Layer):
    """A picture's layers, which follow `training`."""

    def __init__(self):
        super().__init__()
        self.kernel, self.norm = layers.Conv2D(6, 3), layers.BatchNormalization()

    def build(self, shape):
        self.kernel.build(shape)
        self.norm.build(self.compute_output_shape(shape))

    def call(self, x, training=None):
        return ops.relu(self.norm(self.kernel(x), training=training))

    def compute_output_shape(self, shape):
        return (*shape[:1], shape[1] - 2, shape[2] - 2, 6)


class Bounded(layers.Wrapper):
    """A wrapper that computes something itself."""

    def call(self, x):
        return ops.tanh(self.layer(x))


class SameTimeDistributed(layers.TimeDistributed):
    """Another name, and nothing else."""


WRAPPED = {
    "in time": ((4, 6), lambda: layers.TimeDistributed(Feed()), [6, 12]),
    "in time, a function": ((4, 6), lambda: layers.TimeDistributed(layers.Lambda(lambda x: x * 2)), [6]),
    "in time, in a chain": (
        (4, 6),
        lambda: layers.TimeDistributed(keras.Sequential([Feed(), layers.Dense(5)])),
        [5, 6, 12],
    ),
    "in time, pictures": ((3, 5, 5, 2), lambda: layers.TimeDistributed(Frame()), [2, 6]),
    "in time, by another name": ((4, 6), lambda: SameTimeDistributed(Feed()), [6, 12]),
    "an own wrapper": ((6,), lambda: Bounded(layers.Dense(5)), [5, 6]),
    "an own wrapper of an own layer": ((6,), lambda: Bounded(Feed()), [6, 12]),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_what_is_wrapped_can_leave_with_the_right_widths(name):
    shape, make, sizes = WRAPPED[name]
    model = around(make(), shape)
    found = [each for each in tt.structures(model) if each.kind not in ("branch", "input")]
    assert sorted(each.size for each in found) == sizes
    small = check_widths(model, lambda structure: np.arange(structure.size // 3) if structure.kind != "input" else [])
    assert not [layer for layer in small.layers if type(layer).__module__ == __name__]


def test_a_wrapper_that_is_called_twice_stays_one():
    wrapper = layers.TimeDistributed(Feed())
    model = around(lambda x: wrapper(layers.Dense(6)(wrapper(x))), (4, 6))
    zero_members(model, random_members(1))
    small = check_laws(model)
    assert sum(isinstance(layer, layers.TimeDistributed) for layer in small.layers) == 1


class Masked(Feed):
    """It reads the mask of its steps, one after the other."""

    def call(self, x, mask=None):
        return super().call(x if mask is None else x * ops.cast(mask, x.dtype)[..., None])


class Stepping(Feed):
    """A layer inside reads a mask, if it is given one: TimeDistributed gives none to a layer that takes none."""

    def __init__(self):
        super().__init__()
        self.steps = layers.Attention()

    def build(self, shape):
        super().build(shape)
        self.steps.build([(*shape[:1], 2, *shape[1:])] * 2)

    def call(self, x):
        steps = ops.stack([x, super().call(x)], 1)
        return self.steps([steps, steps])[:, 0]


def in_time(layer):
    """A model with a layer at each step of a masked sequence."""
    ids = keras.Input((5,), dtype="int32")
    x = layers.TimeDistributed(layer)(layers.Embedding(5, 6, mask_zero=True)(ids))
    return randomize(keras.Model(ids, layers.Dense(3, name="reader")(layers.LSTM(4)(x))))


def test_a_mask_that_nothing_at_a_step_reads_keeps_nothing_closed():
    model = in_time(Feed(name="feed"))
    assert [entry.name for entry in tt.structures(model).frozen] == ["reader"]
    check_widths(model, random_members(1))


@pytest.mark.parametrize("kind", [Masked, Stepping])
def test_a_mask_that_is_read_keeps_what_is_at_each_step_closed(kind):
    model = in_time(kind())
    assert "is given a mask, which it reads" in str(tt.structures(model))
    check_laws(model)
