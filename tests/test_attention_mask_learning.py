"""How attention's learnable mask learns: what is worth less than the strength dies, and the rest stays."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from laws import difference, outputs_of
from learned_masks import STEPS, masks

import tf_terngrad as tt
from tf_terngrad.keras_internals import all_layers


def data(samples=512):
    """The answer at each step is what stood two steps before; where nothing did, nothing."""
    x = np.random.default_rng(0).normal(size=(samples, STEPS, 4)).astype("float32")
    y = np.zeros_like(x)
    y[:, 2:] = x[:, :-2]
    return x, y


def copying(groups):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((STEPS, 4))
    places = layers.Embedding(STEPS, 8)(ops.arange(STEPS))
    h = layers.Dense(8)(inputs) + places
    h = tt.layers.SparseAttention(2, 8, groups=groups, name="attention")(h, h)
    return keras.Model(inputs, layers.Dense(4)(h))


@pytest.mark.parametrize("optimizer", [lambda: keras.optimizers.Adam(1e-2), lambda: keras.optimizers.SGD(0.3, 0.9)])
def test_a_window_is_learned_and_stays(optimizer):
    x, y = data()
    model = copying("offset")
    sparsity = tt.sparsify(model, strength=5e-3, kinds=["offset"])
    model.compile(optimizer(), "mse")
    model.fit(x, y, batch_size=64, epochs=40, verbose=0)
    (mask,) = masks(model)
    window = mask.window.numpy()
    assert window.min() == 0
    assert 0.05 < window.max() <= 0.1
    seen = mask.seen()
    assert seen[:, 2:, :-2].diagonal(axis1=1, axis2=2).any()  # two steps before
    assert seen.mean() < 0.7
    sparsity.release()
    model.fit(x, y, batch_size=64, epochs=2, verbose=0)
    assert not mask.window.numpy()[window == 0].any()
    small = tt.compact(model)
    assert difference(*(outputs_of(each, x[:8])[0] for each in (model, small))) < 1e-5


@pytest.mark.parametrize("optimizer", [lambda: keras.optimizers.Adam(1e-2), lambda: keras.optimizers.SGD(0.3, 0.9)])
def test_what_is_worth_less_than_the_strength_dies_and_what_is_worth_more_stays(optimizer):
    """Only the mask learns: at the end no group that is seen is worth less than the strength."""
    x, y = data()
    model = copying("offset")
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    model.fit(x, y, batch_size=64, epochs=20, verbose=0)
    (mask,) = masks(model)
    for layer in all_layers(model):
        if layer.weights and isinstance(layer, (layers.Dense, layers.EinsumDense, layers.Embedding)):
            layer.trainable = False
    strength = 2e-3
    tt.sparsify(model, strength=strength, kinds=["offset"])
    model.compile(optimizer(), "mse")
    model.fit(x, y, batch_size=64, epochs=25, verbose=0)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(x) - y) ** 2)
    worth, window = -tape.gradient(loss, mask.window.value).numpy(), mask.window.numpy()
    assert 0 < (window == 0).sum() < window.size
    assert worth[window > 0].min() > strength
    assert window[window > 0].min() > 0.05  # what is worth more goes up to its bound, and a step of the penalty down


def test_what_a_constraint_makes_zero_is_dead_too():
    x = np.random.default_rng(0).normal(size=(8, STEPS, 4)).astype("float32")
    inputs = keras.Input((STEPS, 4))
    attend = [tt.layers.SparseAttention(1, 4, groups="head") for _ in range(2)]
    model = keras.Model(inputs, [layer(inputs, inputs) for layer in attend])
    output = model.predict(x, verbose=0)
    for part in all_layers(model):
        part.trainable = part in (model, *masks(model), *attend)
    sparsity = tt.sparsify(model, strength=1e-6, kinds=["gate"])
    model.compile(keras.optimizers.SGD(100.0), ["mse", "mse"])
    model.fit(x, [-each for each in output], verbose=0)  # far below zero, were it not for the constraint
    assert [mask.gate.numpy() for mask in masks(model)] == [0, 0]
    sparsity.strength.assign(0.0)
    model.fit(x, output, verbose=0)
    assert [mask.gate.numpy() for mask in masks(model)] == [0, 0]
