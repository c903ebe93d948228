"""A variance that a layer computes by hand is followed as one; what only looks like it is not."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from composite_graphs import around
from keras import layers, ops
from laws import check_laws, difference, fresh_inputs, outputs_of, random_members, zero_members

import tf_terngrad as tt

SAME = {
    "operations": lambda x, m: ops.mean(ops.square(x - m), axis=-1, keepdims=True),
    "TensorFlow": lambda x, m: tf.reduce_mean(tf.square(x - m), -1, keepdims=True),
    "differences": lambda x, m: tf.reduce_mean(tf.math.squared_difference(x, m), axis=[-1], keepdims=True),
    "power": lambda x, m: ops.mean((x - m) ** 2, axis=2, keepdims=True),
    "old backend": lambda x, m: tf.keras.backend.mean(tf.keras.backend.square(x - m), axis=-1, keepdims=True),
    "still": lambda x, m: ops.mean(ops.square(x - ops.stop_gradient(m)), axis=-1, keepdims=True),
    "moments": lambda x, m: tf.nn.moments(x, [-1], keepdims=True)[1],
    "no axis": lambda x, m: ops.expand_dims(ops.mean(ops.square(x - m), axis=-1), -1),
}
OTHERS = {
    "other axis": lambda x, m: ops.mean(ops.square(x - m), axis=1, keepdims=True),
    "other mean": lambda x, m: ops.mean(ops.square(x - ops.mean(x, 1, keepdims=True)), axis=-1, keepdims=True),
    "other tensor": lambda x, m: ops.mean(ops.square(ops.relu(x) - m), axis=-1, keepdims=True),
    "the other way": lambda x, m: ops.mean(ops.square(m - x), axis=-1, keepdims=True),
    "other power": lambda x, m: ops.mean((x - m) ** 4, axis=-1, keepdims=True),
    "no difference": lambda x, m: ops.mean(ops.square(x), axis=-1, keepdims=True) + 0 * m,
}


class Normalized(layers.Layer):
    """A layer normalization, written by hand."""

    def __init__(self, variance):
        super().__init__(name="own")
        self.variance = variance

    def build(self, shape):
        self.gamma = self.add_weight(shape=shape[-1:], initializer="ones", name="gamma")

    def call(self, x):
        mean = ops.mean(x, axis=-1, keepdims=True)
        return self.gamma * (x - mean) / ops.sqrt(self.variance(x, mean) + 1e-3)


def model_with(variance):
    return around((5, 6), Normalized(variance))


@pytest.mark.parametrize("name", SAME)
def test_the_width_of_what_is_normalized_by_hand_can_leave(name):
    model = model_with(SAME[name])
    assert [entry.name for entry in tt.structures(model).frozen] == ["reader"]
    dead = len(zero_members(model, random_members(1))["front"])
    assert dead > 0
    assert check_laws(model).get_layer("front").units == 6 - dead


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_variance_is_computed_as_before(name):
    model = model_with(OTHERS[name])
    zero_members(model, random_members(1))
    check_laws(model)


def test_learning_is_the_same():
    model = model_with(SAME["TensorFlow"])
    x, variables = fresh_inputs(model), model.trainable_variables
    small = tt.compact(model)
    assert difference(*outputs_of(model, x), *outputs_of(small, x)) < 1e-6

    def gradient(each, name):
        (variable,) = [v for v in each.trainable_variables if v.path.endswith(name)]
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(each(x) - 1))
        return np.asarray(tape.gradient(loss, variable.value))

    assert variables
    np.testing.assert_allclose(gradient(small, "front/kernel"), gradient(model, "front/kernel"), rtol=1e-4, atol=1e-5)


def test_a_mean_of_the_users_own_graph_stays_as_it_is():
    x = keras.Input((4,))
    y = ops.mean(ops.square(x - ops.mean(x, -1, keepdims=True)), -1, keepdims=True)
    model = keras.Model(x, layers.Dense(2)(x / (1 + y)))
    assert [type(each).__name__ for each in tt.compact(model).operations].count("Mean") == 2
