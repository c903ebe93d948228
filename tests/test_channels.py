"""Units and channels: ties are an equivalence, values are finite or unknown."""

import hypothesis
import hypothesis.strategies as st
import numpy as np

from tf_terngrad.sparsity.graph.channels import Channels, Edge, Units

PAIRS = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30)


@hypothesis.given(st.lists(PAIRS, max_size=4))
def test_ties_make_the_components_of_a_graph(batches):
    units = Units()
    units.new(20)
    components = [{unit} for unit in range(20)]
    for pairs in batches:
        if pairs:
            units.tie(*np.array(pairs).T)
        for one, other in pairs:
            first, second = (next(c for c in components if unit in c) for unit in (one, other))
            if first is not second:
                components = [c for c in components if c is not first and c is not second] + [first | second]
    found = units.find(np.arange(20))
    for component in components:
        assert {found[unit] for unit in component} == {min(component)}


def test_new_units_are_tied_to_nothing():
    units = Units()
    first, second = units.new(3), units.new(2)
    units.tie(first[:2], first[1:])
    assert units.find(second).tolist() == [3, 4]
    assert len(units) == 5


def test_what_is_not_finite_is_not_known():
    channels = Channels.of(np.arange(4)).with_values([1.0, np.inf, -np.inf, np.nan])
    assert np.isnan(channels.values).tolist() == [False, True, True, True]
    assert np.isnan(channels.unknown().values).all()


def test_channels_are_picked_and_put_side_by_side():
    channels = Channels(np.array([5, 6, 7]), np.array([0.0, 1.0, 2.0]))
    both = Channels.concatenate([channels[::-1], channels[[0]]])
    assert (both.units.tolist(), both.values.tolist(), len(both)) == ([7, 6, 5, 5], [2, 1, 0, 0], 4)


def test_a_tensor_is_zero_if_any_axis_says_so():
    edge = Edge((None, 2, 3))
    assert not edge.is_zero
    edge.axes[1] = Channels.of(np.arange(2))
    edge.axes[2] = Channels(np.arange(3), np.zeros(3))
    assert edge.is_zero
    assert len(edge.followed) == 2
