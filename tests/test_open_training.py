"""What composites do while they train is kept where they are opened: statistics, losses, dropout."""

import keras
import numpy as np
import pytest
from composite_graphs import around
from composite_styles import Block, ConvBlock, OwnDense, TokenAndPosition
from keras import layers, ops
from laws import check_laws, random_members, zero_members

import tf_terngrad as tt


def test_training_reaches_the_parts():
    model = around((8, 8, 6), lambda x: ConvBlock(8)(x))
    zero_members(model, random_members(1))
    small = tt.compact(model)
    x = np.random.default_rng(0).normal(3, 1, size=(16, 8, 8, 6)).astype("float32")
    np.testing.assert_allclose(small(x, training=True), model(x, training=True), rtol=1e-4, atol=1e-4)
    moved = [weight for weight in small.weights if "moving_mean" in weight.name]
    assert moved and all(np.abs(weight.numpy()).max() > 0.01 for weight in moved)


@pytest.mark.parametrize("regularizer", ["l1", "l2", keras.regularizers.L1L2(0.1, 0.2)])
def test_an_activity_regularizer_adds_the_same_loss(regularizer):
    class Regular(OwnDense):
        def __init__(self):
            super().__init__(8)
            self.activity_regularizer = keras.regularizers.get(regularizer)

    model = around((6,), lambda x: Regular()(x))
    zero_members(model, random_members(1))
    small, x = check_laws(model), np.random.default_rng(0).normal(size=(5, 6))
    assert small.count_params() < model.count_params()
    model(x), small(x)
    np.testing.assert_allclose(sum(small.losses), sum(model.losses), rtol=1e-5)


def test_dropout_inside_is_dropout():
    model = around((5, 6), lambda x: Block(6, rate=0.5)(x))
    zero_members(model, random_members(1))
    small, x = tt.compact(model), np.ones((64, 5, 6), "float32")
    assert np.abs(small(x, training=True) - small(x, training=False)).max() > 1e-2


class Classifier(keras.Model):
    """The model of a tutorial."""

    def __init__(self):
        super().__init__()
        self.embed = TokenAndPosition(7, 20, 8)
        self.blocks = [Block(8), Block(8)]
        self.head = keras.Sequential([layers.Dense(10, "relu"), layers.Dense(3)])

    def call(self, ids, training=False):
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x, training=training)
        return self.head(ops.mean(x, axis=1))


def test_a_subclassed_model_is_trained_as_it_is_and_compacted():
    keras.utils.set_random_seed(0)
    ids = np.random.default_rng(0).integers(0, 20, (64, 7))
    model = Classifier()
    model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(ids, ids[:, 0] % 3, verbose=0)
    penalty = tt.sparsify(model, strength=0.05)
    before = [structure.norms() for structure in penalty.structures]
    model.fit(ids, ids[:, 0] % 3, epochs=9, verbose=0)
    assert all((new.norms() < old).all() for new, old in zip(penalty.structures, before, strict=True))
    zero_members(model, random_members(0))
    small = tt.compact(model)
    assert small.count_params() < 0.8 * model.count_params()
    np.testing.assert_allclose(small(ids), model(ids), rtol=1e-4, atol=1e-5)
    assert small.inputs[0].dtype == "int32"
