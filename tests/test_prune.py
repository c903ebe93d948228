"""Pruning at once: as few of the least members as a budget asks for, and what cannot be is refused."""

import random

import graphs
import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
import recurrent_graphs
import transformer_graphs
from cost_models import NOTES, shapes
from keras import layers
from laws import check_laws, randomize, sequential, structure

import tf_terngrad as tt
from models.lenet import lenet

GRAPHS = {"stock": graphs, "recurrent": recurrent_graphs, "transformers": transformer_graphs}
pytestmark = NOTES


@pytest.mark.parametrize("kind", GRAPHS)
@hypothesis.given(st.integers(0, 10**6), st.floats(0.3, 0.95), st.sampled_from(["norm", "random"]))
@hypothesis.settings(max_examples=3)
def test_the_compact_model_is_within_the_budget_and_no_member_more_has_left(kind, seed, share, scores):
    model = tt.compact(GRAPHS[kind].grow(random.Random(seed)))
    before, budget = tt.costs(model, shapes(model)), tt.Budget(multiply_adds=share)
    try:
        gone = tt.prune(model, budget, scores, input_shapes=shapes(model))
    except ValueError as refused:
        reasons = ("a budget that can be met", "nothing of this model", "no structure is left")
        assert any(reason in str(refused) for reason in reasons)
        return
    small = check_laws(model, must_vary=False)
    assert tt.costs(small, shapes(small)).multiply_adds <= share * before.multiply_adds
    sizes = {each.name: each.size for each in before.structures}
    left = {name: sizes[name] - len(members) for name, members in gone.items()}
    one_more = [before.of({**left, name: count + 1}) for name, count in left.items() if count < sizes[name]]
    assert not one_more or max(total.multiply_adds for total in one_more) > share * before.multiply_adds


def test_the_least_members_of_the_whole_model_leave():
    model = sequential(keras.Input((6,)), layers.Dense(8, name="a"), layers.Dense(8, name="b"), layers.Dense(3))
    ranks = {name: np.random.default_rng(len(name)).permutation(8) + 1.0 for name in "ab"}
    gone = tt.prune(model, tt.Budget(parameters=0.6), lambda found: ranks[found.name])
    dead, alive = (
        [ranks[name][member] for name in "ab" for member in range(8) if (member in gone[name]) == left]
        for left in (True, False)
    )
    assert dead and max(dead) <= min(alive)
    assert all((structure(model, name).norms()[members] == 0).all() for name, members in gone.items())


def test_the_same_share_of_each_structure():
    model = sequential(keras.Input((6,)), layers.Dense(40, name="a"), layers.Dense(20, name="b"), layers.Dense(3))
    gone = tt.prune(
        model, tt.Budget(multiply_adds=0.4), lambda found: found.norms() ** (1 + len(found.born)), uniform=True
    )
    shares = [len(gone[name]) / structure(model, name).size for name in "ab"]
    assert shares[0] == pytest.approx(shares[1], abs=0.06) and shares[0] > 0.2


def test_of_several_limits_all_hold():
    whole = tt.costs(lenet())
    for budget in (tt.Budget(multiply_adds=0.2, parameters=0.5), tt.Budget(multiply_adds=0.9, parameters=20_000)):
        model = randomize(lenet())
        tt.prune(model, budget)
        small = tt.costs(tt.compact(model))
        assert budget.allows(small, whole)


def test_what_is_zero_already_counts_as_gone():
    model = randomize(lenet())
    structure(model, "dense1").zero(np.arange(400))
    gone = tt.prune(model, tt.Budget(parameters=0.25), lambda found: np.arange(found.size, 0, -1.0), exclude=["conv*"])
    assert not set(gone["dense1"]) & set(range(400))
    assert tt.compact(model).count_params() <= 0.25 * lenet().count_params()
    assert not any(map(len, tt.prune(model, tt.Budget(parameters=0.25)).values()))


def test_a_separable_convolution_of_no_filters_has_a_cost():
    image = keras.Input((6, 6, 3))
    features = layers.SeparableConv2D(8, 3, activation="relu")(layers.SeparableConv2D(6, 3)(image))
    model = randomize(keras.Model(image, layers.Dense(2)(layers.GlobalAveragePooling2D()(features))))
    whole = tt.costs(model).multiply_adds
    tt.prune(model, tt.Budget(multiply_adds=0.5))
    assert 0.4 * whole < tt.costs(tt.compact(model)).multiply_adds <= 0.5 * whole


def test_only_what_is_named():
    model = randomize(lenet())
    gone = tt.prune(model, tt.Budget(parameters=0.5), include=["dense1"])
    assert list(gone) == ["dense1"]
    gone = tt.prune(randomize(lenet()), tt.Budget(multiply_adds=0.5), kinds=["filter"])
    assert list(gone) == ["conv1", "conv2"]


def test_it_trains_on_and_stays_pruned():
    model = randomize(lenet())
    gone = tt.prune(model, tt.Budget(parameters=0.1))
    tt.hold(model)
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = np.random.default_rng(0).normal(size=(32, 28, 28, 1)).astype("float32")
    model.fit(x, np.arange(32) % 10, verbose=0)
    for name, members in gone.items():
        assert not structure(model, name).norms()[members].any()
    assert tt.compact(model).count_params() <= 0.1 * model.count_params()


@pytest.mark.parametrize("optimizer", ["adam", "momentum"])
def test_in_steps_with_training_in_between(optimizer):
    model, whole = randomize(lenet()), tt.costs(lenet())
    x = np.random.default_rng(0).normal(size=(32, 28, 28, 1)).astype("float32")
    moving = keras.optimizers.Adam(1e-2) if optimizer == "adam" else keras.optimizers.SGD(1e-2, momentum=0.9)
    model.compile(moving, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, np.arange(32) % 10, verbose=0)
    gone = {each.name: set() for each in whole.structures if each.kind != "input"}
    for share in (0.7, 0.4, 0.15):
        budget = tt.Budget(multiply_adds=share)
        new = tt.prune(model, budget)
        assert sum(map(len, new.values())) > 0
        for name, members in new.items():
            assert not gone[name] & set(members)
            gone[name] |= set(members)
        tt.hold(model)
        model.fit(x, np.arange(32) % 10, verbose=0)  # neither compiled again nor without momentum
        for name, members in gone.items():
            assert not structure(model, name).norms()[sorted(members)].any()
        small = tt.costs(tt.compact(model))
        assert budget.allows(small, whole)


def test_a_budget_that_cannot_be_met_is_refused_with_what_can():
    model = randomize(lenet())
    before = model.get_weights()
    least = tt.costs(model).of({"conv1": 1, "conv2": 1, "dense1": 1})
    with pytest.raises(ValueError, match=f"costs {least.multiply_adds:,} multiply-adds, {least.parameters:,} par"):
        tt.prune(model, tt.Budget(multiply_adds=least.multiply_adds - 1))
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    tt.prune(model, tt.Budget(multiply_adds=least.multiply_adds))
    assert tt.costs(tt.compact(model)).multiply_adds == least.multiply_adds


@pytest.mark.parametrize("step", [4, 8, 16])
def test_widths_are_multiples_and_within_the_budget(step):
    model = randomize(lenet())
    before = tt.costs(model)
    tt.prune(model, tt.Budget(multiply_adds=0.4), round_to=step)
    small = check_laws(model)
    widths = [small.get_layer("conv1").filters, small.get_layer("conv2").filters, small.get_layer("dense1").units]
    assert not any(width % step for width in widths)
    assert tt.costs(small).multiply_adds <= 0.4 * before.multiply_adds


def test_without_a_budget_widths_are_rounded_down_by_their_least_members():
    model = randomize(lenet())
    worth = {
        found.name: np.random.default_rng(found.size).permutation(found.size) + 1.0 for found in tt.structures(model)
    }
    gone = tt.prune(model, scores=lambda found: worth[found.name], round_to=8)
    assert {name: len(members) for name, members in gone.items()} == {"conv1": 4, "conv2": 2, "dense1": 4}
    for name, members in gone.items():
        np.testing.assert_array_equal(members, np.flatnonzero(worth[name] <= len(members)))
    assert not any(map(len, tt.prune(model, round_to=8).values()))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: tt.Budget(), ValueError, "at least one limit, multiply_adds or parameters"),
        (lambda: tt.Budget(multiply_adds=0.0), ValueError, "above zero"),
        (lambda: tt.Budget(parameters="half"), TypeError, "parameters='half'"),
        (lambda: tt.Budget(parameters=-3), ValueError, "parameters=-3"),
        (lambda: tt.prune(lenet(), 0.5), TypeError, r"a tt\.Budget"),
        (lambda: tt.prune(lenet()), ValueError, "a budget, or widths to round to"),
        (lambda: tt.prune(lenet(), round_to=0), ValueError, "round_to=0"),
        (lambda: tt.prune(lenet(), round_to="fast"), ValueError, "round_to='fast'"),
        (lambda: tt.prune(lenet(), tt.Budget(parameters=0.5), "taste"), ValueError, "prune: expected `scores`"),
        (
            lambda: tt.prune(lenet(), tt.Budget(parameters=0.5), include=["fc"]),
            ValueError,
            "prune: no layer or structure",
        ),
        (lambda: tt.prune(lenet(), tt.Budget(parameters=0.5), uniform=1), TypeError, "uniform=1"),
    ],
)
def test_what_makes_no_sense_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
