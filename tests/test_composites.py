"""Composites have the structures of their parts, in random models of them, under names that stay."""

import random

import hypothesis
import hypothesis.strategies as st
import pytest
from composite_graphs import Residual, around, grow

import tf_terngrad as tt

pytestmark = pytest.mark.filterwarnings("ignore:.*every channel is dead")


def members(model):
    """What each structure is, apart from the names of composites: its kind, size, and where it lies."""
    return sorted((found.kind, found.size, sorted(map(_place, found.slices))) for found in tt.structures(model))


def _place(piece):
    return tuple(piece.variable.shape), piece.axis, piece.role, piece.indices.tolist()


@hypothesis.given(st.integers(0, 10**6))
@hypothesis.settings(max_examples=6)
def test_composites_have_the_structures_of_their_parts(seed):
    model, functional = (grow(random.Random(seed), opened=opened) for opened in (False, True))
    assert members(model) == members(functional)


def test_names_of_structures_are_the_same_each_time():
    model = around((6,), Residual(8, 6, name="block"))
    names = [found.name for found in tt.structures(model)]
    assert names == [found.name for found in tt.structures(model)]
    assert names == ["input_layer", "front", "block/dense", "block/add branch"]
    assert tt.sparsify(model, 1e-3, include=["block/add branch"]).groups == 1
