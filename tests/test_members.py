"""Units that lie at the same places, by an oracle that looks at one unit at a time."""

import keras
import numpy as np
import pytest
import recurrent_graphs
from graphs import grow
from hard_graphs import MODELS
from hypothesis import given, settings
from hypothesis import strategies as st

import tf_terngrad as tt
from tf_terngrad.sparsity.graph.channels import Units
from tf_terngrad.sparsity.graph.follow import Graph
from tf_terngrad.sparsity.graph.members import find_members


def places_of(graph, unit):
    """Where one unit lies: (id of the variable, axis, positions)."""
    return [
        (key, axis, np.flatnonzero((graph.grids.needed(units) == unit).any(0)).tolist())
        for key, weight in graph.weights.items()
        for axis, units in weight.axes.items()
        if (graph.grids.needed(units) == unit).any()
    ]


def reasons_of(graph, unit):
    """Why one unit is frozen."""
    return tuple(dict.fromkeys(reason for units, reason in graph.frozen if (graph.grids.needed(units) == unit).any()))


def check_members(model):
    """Every unit that lies in a weight is in one group, with its places and reasons; groups are as large as can be."""
    graph = Graph(model)
    members = find_members(graph)
    axes = [units for weight in graph.weights.values() for units in weight.axes.values()]
    lying = {unit for units in axes for unit in graph.grids.needed(units).ravel()}
    assert sorted(unit for group in members for unit in group.units) == sorted(lying)
    assert [group.units[0] for group in members] == sorted(group.units[0] for group in members)
    seen = []
    for group in members:
        for row, unit in enumerate(group.units):
            expected = [(key, axis, indices[row].tolist()) for key, axis, indices in group.lies]
            assert places_of(graph, unit) == expected
            assert reasons_of(graph, unit) == group.reasons
        seen.append((group.reasons, [(key, axis, indices.shape[1]) for key, axis, indices in group.lies]))
    assert all(seen.count(signature) == 1 for signature in seen)


@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask")
@pytest.mark.parametrize(
    "build", [*MODELS.values(), *recurrent_graphs.MODELS.values()], ids=lambda build: build.__name__
)
def test_members_of_hard_models_are_what_the_oracle_says(build):
    check_members(keras.Model(*build()))


@settings(max_examples=20)
@given(st.randoms(use_true_random=False))
def test_members_of_random_models_are_what_the_oracle_says(choices):
    check_members(grow(choices))


def test_a_model_of_which_nothing_is_known_has_no_members():
    class Unknown(keras.layers.Layer):
        def call(self, x):
            return x

    assert find_members(Graph(keras.Sequential([keras.Input((5,)), Unknown()]))) == []


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 3000)), max_size=20), st.integers(1, 7))
def test_units_that_are_tied_are_one_however_many_there_are(ties, steps):
    units = Units()
    assert np.concatenate([units.new(3001 // steps + 1) for _ in range(steps)]).tolist() == list(range(len(units)))
    groups = {unit: {unit} for unit in range(len(units))}
    for first, second in ties:
        units.tie(np.array([first]), np.array([second]))
        joined = groups[first] | groups[second]
        groups |= dict.fromkeys(joined, joined)
    assert units.find(np.arange(len(units))).tolist() == [min(groups[unit]) for unit in range(len(units))]


def test_sums_of_weighed_channels_are_followed_once(monkeypatch):
    followed = []
    monkeypatch.setattr(
        "tf_terngrad.sparsity.structures.Graph", lambda *args, **kwargs: followed.append(1) or Graph(*args, **kwargs)
    )
    layers = keras.layers
    tt.structures(keras.Sequential([keras.Input((6, 6, 3)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(2)]))
    assert len(followed) == 1
