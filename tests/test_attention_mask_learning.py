"""How attention's learnable mask learns: what is worth less than the strength dies, and the rest stays."""

import keras
import numpy as np
import pytest
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


OPTIMIZERS = {"Adam": lambda: keras.optimizers.Adam(1e-2), "momentum": lambda: keras.optimizers.SGD(0.1, 0.9)}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_window_is_learned_and_stays(optimizer):
    x, y = data()
    model = copying("offset")
    sparsity = tt.sparsify(model, strength=5e-3, kinds=["offset"])
    model.compile(OPTIMIZERS[optimizer](), "mse")
    model.fit(x, y, batch_size=64, epochs=60, verbose=0)
    (mask,) = masks(model)
    window = mask.window.numpy()
    assert mask.seen()[:, 2:, :-2].diagonal(axis1=1, axis2=2).any()  # two steps before
    assert mask.seen().mean() < 0.7
    sparsity.release()
    model.fit(x, y, batch_size=64, epochs=2, verbose=0)
    assert (window == 0).any() and not mask.window.numpy()[window == 0].any()
    small = tt.compact(model)
    assert difference(*(outputs_of(each, x[:8])[0] for each in (model, small))) < 1e-5


def only_the_mask_learns(model, optimizer, strength, epochs):
    """A copying model that is trained: its loss then, and what becomes of it."""
    x, y = data()
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    model.fit(x, y, batch_size=64, epochs=20, verbose=0)
    before = model.evaluate(x, y, batch_size=512, verbose=0)
    for layer in all_layers(model):
        if layer.weights and isinstance(layer, (layers.Dense, layers.EinsumDense, layers.Embedding)):
            layer.trainable = False
    tt.sparsify(model, strength=strength, kinds=["offset"])
    model.compile(optimizer, "mse")
    model.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
    return before, lambda: model.evaluate(x, y, batch_size=512, verbose=0)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_is_worth_less_than_the_strength_dies_and_what_is_worth_more_stays(optimizer):
    """Worth is what the loss rises by without a group; batches differ, so around the strength either may happen."""
    model, strength = copying("offset"), 1e-2
    before, loss = only_the_mask_learns(model, OPTIMIZERS[optimizer](), strength, epochs=40)
    (mask,) = masks(model)
    window, after = mask.window.numpy(), loss()
    assert 0 < (window == 0).sum() < window.size
    assert after < before  # what was in the way is gone
    for number in range(window.size):
        turned = window.copy()
        turned[number] = 0.0 if window[number] else 0.1
        mask.window.assign(turned)
        worth = (loss() - after) * (1 if window[number] else -1)
        assert worth < 4 * strength if window[number] == 0 else worth > 0
    assert (window.reshape(2, -1)[:, list(mask.kinds).index(2)] > 0.05).all()


def test_a_group_that_attention_goes_through_alone_is_not_taken_for_worthless():
    """Where a share is near one, the loss has no slope: only without the group it is seen what that costs."""
    x, y = data()
    model = copying("offset")
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    model.fit(x, y, batch_size=64, epochs=80, verbose=0)
    before = model.evaluate(x, y, verbose=0)
    tt.sparsify(model, strength=5e-3, kinds=["offset"])
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    model.fit(x, y, batch_size=64, epochs=80, verbose=0)
    (mask,) = masks(model)
    assert mask.seen()[:, 2:, :-2].diagonal(axis1=1, axis2=2).all()
    assert mask.seen().mean() < 0.5
    assert model.evaluate(x, y, verbose=0) < before + 0.05


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
