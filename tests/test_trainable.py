"""What is frozen stays frozen in the compact model and what trains stays so, however it was frozen."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from composite_graphs import Affine, Equation, Normed, Positions, Product
from keras import layers
from laws import check_fates, random_members, randomize, zero, zero_members

import tf_terngrad as tt


def around(layer, shape=(5, 6)):
    inputs = keras.Input(shape)
    x = layer(layers.Dense(shape[-1], "relu", name="front")(inputs))
    return randomize(keras.Model(inputs, layers.Dense(3, name="reader")(x)))


def shrunk(model):
    """The compact model of one, a third of whose members are zero; every variable in it trains as the old one did."""
    zero_members(model, random_members(1))
    before = [weight.trainable for weight in model.weights]
    small = tt.compact(model)
    assert [weight.trainable for weight in model.weights] == before
    assert small.count_params() < model.count_params()
    check_fates(model, small)
    return small


@pytest.mark.parametrize("make", [lambda: Product(6), lambda: Equation(6), Affine, Positions, lambda: Normed(6)])
def test_a_users_frozen_layer_stays_frozen_in_files_too(make, tmp_path):
    layer = make()
    model = around(layer)
    layer.trainable = False
    small = shrunk(model)
    small.save(tmp_path / "small.keras")
    loaded = keras.models.load_model(tmp_path / "small.keras")
    for each in (small, loaded):
        assert {weight.path.split("/")[0] for weight in each.trainable_weights} == {"front", "reader"}


@pytest.mark.parametrize("name", ["kernel", "bias"])
def test_variables_that_are_frozen_by_themselves(name):
    for layer in (layers.Dense(6, name="dense"), Product(6)):
        model = around(layer)
        getattr(layer, name).trainable = False
        small = shrunk(model)
        assert len(small.trainable_weights) == len(model.trainable_weights) == 5


@pytest.mark.parametrize("use_bias", [True, False])
def test_a_frozen_bias_that_takes_constants_stays_frozen(use_bias):
    last = layers.Dense(3, use_bias=use_bias, name="last")
    model = randomize(keras.Sequential([keras.Input((4,)), layers.Dense(6, name="hidden"), last]))
    for weight in last.weights:
        weight.trainable = False
    zero(model.get_layer("hidden").kernel, 1, [1])  # emits its bias
    small = tt.compact(model)
    check_fates(model, small)
    assert [weight.path for weight in small.trainable_weights] == ["hidden/kernel", "hidden/bias"]
    assert small.get_layer("last").bias is not None


@pytest.mark.parametrize("nested", [True, False])
def test_a_layer_that_was_thawed_inside_of_a_frozen_model(nested):
    inner = [layers.Dense(6, name="cold"), layers.Dense(6, name="thawed")]
    base = keras.Sequential([keras.Input((6,)), *inner], name="base")
    outer = base if nested else layers.TimeDistributed(Around(base))
    model = around(outer, (6,) if nested else (5, 6))
    outer.trainable = False
    inner[1].trainable = True
    assert [layer.trainable for layer in inner] == [False, True]
    shrunk(model)
    assert [layer.trainable for layer in inner] == [False, True]


class Around(layers.Layer):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def build(self, shape):
        self.layer.build(shape)

    def call(self, x):
        return self.layer(x)

    def compute_output_shape(self, shape):
        return shape


class Closed(Around):
    """Cannot be opened."""

    def build(self, shape):
        self.layer.build(shape)
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

    def call(self, x):
        return tf.identity_n([self.layer(x) * self.scale])[0]


def test_what_is_carried_over_frozen_can_be_thawed():
    layer = Closed(layers.Dense(6))
    model = around(layer)
    layer.trainable = False
    small = tt.compact(model)
    carried = next(each for each in small.layers if isinstance(each, Closed))
    assert not carried.trainable_weights and not layer.trainable_weights
    carried.trainable = True
    assert len(carried.trainable_weights) == 3
    assert not layer.trainable_weights
    np.testing.assert_array_equal(carried.layer.kernel, layer.layer.kernel)
