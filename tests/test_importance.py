"""Scores of members: known ones by formula, others from outside, and what they decide."""

import keras
import numpy as np
import pytest
from keras import layers
from laws import check_laws, sequential, structure, zero

import tf_terngrad as tt
from tf_terngrad.sparsity.importance import scored


def model_with_dead_members():
    """Three of eight hidden units are read; the others are dead, unit 7 the largest of them."""
    model = sequential(keras.Input((5,)), layers.Dense(8, "relu", name="hidden"), layers.Dense(4))
    zero(model.layers[1].kernel, 0, np.arange(3, 8))
    kernel = model.layers[0].kernel.numpy()
    kernel[:, 3:] = np.arange(1, 6)
    model.layers[0].kernel.assign(kernel)
    return model


def kept(model, **options):
    """The hidden units that stay when four of them must."""
    small = tt.compact(model, round_to=4, **options)
    (fate,) = (fate for fate in tt.fates(small) if fate.old is model.layers[0].kernel)
    return fate.kept[1].tolist()


def test_the_norm_is_the_default_and_keeps_the_largest():
    model = model_with_dead_members()
    assert kept(model) == kept(model, scores="norm") == [0, 1, 2, 7]
    found = structure(model, "hidden")
    np.testing.assert_array_equal(scored(found, "norm", "test"), found.norms())


def test_a_score_from_outside_decides():
    model = model_with_dead_members()

    def first(found):
        return -np.arange(found.size)

    assert kept(model, scores=first) == [0, 1, 2, 3]
    check_laws(model, round_to=4, scores=first)


def test_random_scores_are_those_of_their_seed():
    found = structure(model_with_dead_members(), "hidden")
    one, other = tt.importance.Random(1), tt.importance.Random(2)
    assert one(found).shape == (8,)
    np.testing.assert_array_equal(one(found), tt.importance.Random(np.int64(1))(found))
    assert (one(found) != other(found)).all()
    chosen = {tuple(kept(model_with_dead_members(), scores=tt.importance.Random(seed))) for seed in range(12)}
    assert len(chosen) > 2
    with pytest.raises(TypeError, match=r"seed=1\.5"):
        tt.importance.Random(1.5)


@pytest.mark.parametrize("wrong", [lambda found: 1.0, lambda found: np.full(found.size, np.nan)])
def test_a_score_must_give_one_number_a_member(wrong):
    with pytest.raises(ValueError, match=r"one number for each member of 'hidden'"):
        kept(model_with_dead_members(), scores=wrong)
