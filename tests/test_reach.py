"""How soon a member with a scale of one can leave under Adam: no strength makes it sooner."""

import keras
import numpy as np
import pytest

import tf_terngrad as tt


def updates_until_one_leaves(strength, rate, beta_2, most=100):
    """How many updates it takes until a member of a normalized width is zero."""
    keras.utils.set_random_seed(0)
    norm = [keras.layers.Dense(6, name="width"), keras.layers.RMSNormalization(), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input((4,)), *norm])
    tt.sparsify(model, strength, include=["width"])
    model.compile(keras.optimizers.Adam(rate, beta_2=beta_2), "mse")
    rng = np.random.default_rng(0)
    (width,) = (structure for structure in tt.structures(model) if structure.name == "width")
    for update in range(1, most + 1):
        model.train_on_batch(rng.normal(size=(8, 4)), rng.normal(size=(8, 2)))
        if (width.norms() == 0).any():
            return update
    return most + 1


@pytest.mark.parametrize("rate, beta_2", [(0.05, 0.9), (0.02, 0.95)])
def test_it_takes_the_updates_in_which_adam_reaches_zero_from_one(rate, beta_2):
    reached = np.cumsum(rate * (1 - beta_2 ** np.arange(1, 101)))
    expected = int(np.argmax(reached >= 1)) + 1
    for strength in (3.0, 300.0):  # noise of the gradients takes some of the way
        assert 0.7 * expected <= updates_until_one_leaves(strength, rate, beta_2) <= expected + 2
