"""Embeddings that work both ways: the dimensions leave in every matrix that has them, tied or not."""

import keras
import numpy as np
import pytest
from laws import check_widths, randomize

from tf_terngrad import keras_internals


def both_ways(kind, tied, residual):
    tokens = keras.Input((5,), dtype="int32")
    words = kind(20, 8, tie_weights=tied, name="words")
    x = words(tokens)
    hidden = keras.layers.Dense(8, "tanh", name="hidden")(x)
    x = keras.layers.Add()([x, hidden]) if residual else hidden
    return randomize(keras.Model(tokens, words(x, reverse=True)))


@pytest.mark.parametrize("kind", keras_internals.layers("ReversibleEmbedding"))  # none before Keras 3.12
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("seed", range(2))
def test_dimensions_leave_both_matrices(kind, tied, residual, seed):
    rng, dead = np.random.default_rng(seed), {"words": 3, "hidden": 2}  # equal numbers would hide a width of its own
    small = check_widths(both_ways(kind, tied, residual), lambda found: rng.permutation(8)[: dead[found.name]])
    words = small.get_layer("words")
    assert words.output_dim < 8
    if not tied:
        assert words.reverse_embeddings.shape == (words.output_dim, 20)
