"""Recurrent layers keep the laws of compaction: random models, hard ones, and what each cell does with its zeros."""

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
from laws import (
    check_laws,
    check_widths,
    fresh_inputs,
    outputs_of,
    random_members,
    randomize,
    varies,
    zero,
    zero_members,
)
from recurrent_graphs import MODELS, grow

import tf_terngrad as tt

RANDOM = st.randoms(use_true_random=False)
DEAD = pytest.mark.filterwarnings("ignore:.*every channel is dead")


def uneven_members(seed):
    """A function that picks some members of a structure, none or many, never all."""
    rng = np.random.default_rng(seed)
    return lambda found: rng.choice(found.size, rng.integers(0, found.size), replace=False)


# The laws


@DEAD
@hypothesis.given(RANDOM, st.integers(0, 99))
@hypothesis.settings(max_examples=20)
def test_zeroed_members_leave_and_nothing_else(choices, seed):
    model = tt.compact(grow(choices))
    hypothesis.assume(all(map(varies, outputs_of(model, fresh_inputs(model, seed=1)))))
    check_widths(model, random_members(seed))


@DEAD
@hypothesis.given(RANDOM, st.integers(0, 99))
@hypothesis.settings(max_examples=20)
def test_any_zeros_leave_the_outputs_alone(choices, seed):
    model, rng = grow(choices), np.random.default_rng(seed)
    for weight in model.weights:
        if rng.random() < 0.5:
            axis = int(rng.integers(-min(2, len(weight.shape)), 0))
            zero(weight, axis, rng.random(weight.shape[axis]) < 0.5)
    zero_members(model, uneven_members(seed))
    check_laws(model, must_vary=False)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore:.*does not support masking")
def test_hard_graphs(name):
    check_widths(randomize(keras.Model(*MODELS[name]())), uneven_members(4))


@DEAD
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore:.*does not support masking")
def test_hard_graphs_with_every_member_dead(name):
    model = randomize(keras.Model(*MODELS[name]()))
    zero_members(model, lambda found: np.arange(found.size))
    check_laws(model, must_vary=False)
