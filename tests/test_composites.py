"""The laws over random models of users' composites, weights, Lambdas, ties, functions and frozen parts."""

import random

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from composite_graphs import grow
from laws import (
    check_laws,
    check_widths,
    fresh_inputs,
    outputs_of,
    random_members,
    varies,
    zero,
    zero_members,
)

import tf_terngrad as tt

RANDOM = st.randoms(use_true_random=False)
pytestmark = pytest.mark.filterwarnings("ignore:.*every channel is dead")


def members(model):
    """What each structure is, apart from the names of composites: its kind, size, and where it lies."""
    return sorted((found.kind, found.size, sorted(map(_place, found.slices))) for found in tt.structures(model))


def _place(piece):
    return tuple(piece.variable.shape), piece.axis, piece.role, piece.indices.tolist()


@hypothesis.given(RANDOM, st.integers(0, 99))
@hypothesis.settings(max_examples=6)
def test_zeroed_members_leave_and_nothing_else(choices, seed):
    model = tt.compact(grow(choices))
    hypothesis.assume(all(map(varies, outputs_of(model, fresh_inputs(model, seed=1)))))
    hypothesis.assume([found for found in tt.structures(model) if found.kind != "branch"])
    check_widths(model, random_members(seed))


@hypothesis.given(RANDOM, st.integers(0, 99))
@hypothesis.settings(max_examples=6)
def test_any_zeros_leave_the_outputs_alone(choices, seed):
    model, rng = grow(choices), np.random.default_rng(seed)
    for weight in model.weights:
        if rng.random() < 0.5 and len(weight.shape) > 1:
            axis = int(rng.integers(-2, 0))
            zero(weight, axis, rng.random(weight.shape[axis]) < 0.5)
    zero_members(model, random_members(seed, fraction=0.2))
    check_laws(model, must_vary=False)


@hypothesis.given(st.integers(0, 10**6))
@hypothesis.settings(max_examples=6)
def test_composites_have_the_structures_of_their_parts(seed):
    model, functional = (grow(random.Random(seed), opened=opened) for opened in (False, True))
    assert members(model) == members(functional)
