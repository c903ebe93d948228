"""The laws over random transformers: heads, dimensions, units and widths leave, and nothing else does."""

import hypothesis
import hypothesis.strategies as st
import pytest
from laws import (
    check_random_members,
    check_random_zeros,
)
from transformer_graphs import grow

RANDOM = st.randoms(use_true_random=False)
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*every channel is dead", "ignore:.*one dead channel is kept", "ignore:.*does not support masking"
)


@hypothesis.given(RANDOM, st.integers(0, 99))
@hypothesis.settings(max_examples=5)
def test_zeroed_members_leave_and_nothing_else(choices, seed):
    check_random_members(grow(choices), seed)


@hypothesis.given(RANDOM, st.integers(0, 99))
@hypothesis.settings(max_examples=5)
def test_any_zeros_leave_the_outputs_alone(choices, seed):
    check_random_zeros(grow(choices), seed)
