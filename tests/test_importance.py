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


def measured(seed=0):
    """A compiled model with data, and what `Taylor` says of it in batches of 16."""
    keras.utils.set_random_seed(seed)
    model = sequential(keras.Input((5,)), layers.Dense(6, "tanh", name="hidden"), layers.Dense(3, name="answer"))
    model.compile("sgd", "mse")
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(48, 5)).astype("float32"), rng.normal(size=(48, 3)).astype("float32")
    return model, x, y, tt.importance.Taylor(model, x, y, batch_size=16)


def test_taylor_is_the_slope_of_the_loss_towards_zero():
    model, x, y, taylor = measured()
    found, step, weights = structure(model, "hidden"), 1e-3, model.get_weights()
    for member in range(found.size):
        slopes = []
        for first in range(0, 48, 16):
            losses = []
            for scale in (1 + step, 1 - step):
                for piece in found.slices:
                    array = np.moveaxis(piece.variable.numpy(), piece.axis, 0).copy()
                    array[piece.indices[member]] *= scale
                    piece.variable.assign(np.moveaxis(array, 0, piece.axis))
                errors = model(x[first : first + 16]).numpy().astype(np.float64) - y[first : first + 16]
                losses.append(np.square(errors).mean())
                model.set_weights(weights)
            slopes.append(abs(losses[0] - losses[1]) / (2 * step))
        assert taylor(found)[member] == pytest.approx(np.mean(slopes), rel=0.02, abs=1e-4)


def test_taylor_prunes_what_the_loss_does_not_need():
    model, x, y, _ = measured()
    kernel = model.layers[1].kernel.numpy()
    kernel[[1, 4]] = 1e-6  # large members that the loss hardly reads
    model.layers[1].kernel.assign(kernel)
    first = model.layers[0].kernel.numpy()
    first[:, [1, 4]] *= 9
    model.layers[0].kernel.assign(first)
    budget = tt.Budget(multiply_adds=tt.costs(model).of({"hidden": 4}).multiply_adds)
    gone = tt.prune(model, budget, tt.importance.Taylor(model, x, y))
    assert gone["hidden"].tolist() == [1, 4]


def test_taylor_wants_a_compiled_model_and_its_own_structures():
    _, x, y, taylor = measured()
    with pytest.raises(ValueError, match="expected a compiled model"):
        tt.importance.Taylor(sequential(keras.Input((5,)), layers.Dense(3)), x, y)
    other = sequential(keras.Input((5,)), layers.Dense(6, name="another"), layers.Dense(3))
    with pytest.raises(ValueError, match="'another'"):
        taylor(structure(other, "another"))


def test_taylor_takes_inputs_as_fit_does_and_sets_no_strength():
    inputs = [keras.Input((3,)), keras.Input((4,))]
    hidden = [layers.Dense(5, "tanh", name=name)(each) for name, each in zip("ab", inputs, strict=True)]
    model = keras.Model(inputs, layers.Dense(2)(layers.Concatenate()(hidden)))
    sparsity = tt.sparsify(model, ratio=0.5)
    model.compile("sgd", "mse")
    x = [np.random.default_rng(0).normal(size=(20, width)).astype("float32") for width in (3, 4)]
    taylor = tt.importance.Taylor(model, x, np.ones((20, 2), "float32"), batch_size=8)
    assert all((taylor(structure(model, name)) > 0).all() for name in "ab")
    assert sparsity.waits_for_loss
