"""Compaction keeps the laws: on random graphs, and on graphs that are hard."""

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
from graphs import check_laws, check_widths, grow, random_members, zero_members
from keras import layers, ops

from tf_terngrad.sparsity.compact import compact
from tf_terngrad.sparsity.structures import structures

RANDOM = st.randoms(use_true_random=False)

@hypothesis.given(RANDOM, st.integers(0, 99))
@hypothesis.settings(max_examples=40)
def test_zeroed_members_leave_and_nothing_else(choices, seed):
    model = grow(choices)
    check_widths(compact(model), random_members(seed))


@hypothesis.given(RANDOM, st.integers(0, 99))
@hypothesis.settings(max_examples=40)
def test_any_zeros_leave_the_outputs_alone(choices, seed):
    model = grow(choices)
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if rng.random() < 0.5 and len(weight.shape) > 1:
            array, axis = np.array(weight.numpy()), rng.integers(-2, 0)
            np.moveaxis(array, axis, 0)[rng.random(array.shape[axis]) < 0.5] = 0
            weight.assign(array)
    zero_members(model, random_members(seed, fraction=0.2))
    check_laws(model, must_vary=False)
