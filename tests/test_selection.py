"""Costs as tensors, and the members that leave: beside sums and orders in NumPy."""

import random

import graphs
import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
import recurrent_graphs
import transformer_graphs
from cost_models import shapes

import tf_terngrad as tt
from models.lenet import lenet
from models.resnet20 import resnet20
from tf_terngrad.sparsity.costs.tables import CostTables
from tf_terngrad.sparsity.learn.selection import Selection
from tf_terngrad.sparsity.rounding import multiples

GRAPHS = {"stock": graphs, "recurrent": recurrent_graphs, "transformers": transformer_graphs}

pytestmark = pytest.mark.filterwarnings("ignore:.*does not support masking")


def tables(costs, numbers, *resources):
    return [CostTables(costs, resource, numbers) for resource in resources]


@pytest.mark.parametrize("kind", GRAPHS)
@hypothesis.given(st.integers(0, 10**6))
@hypothesis.settings(max_examples=4)
def test_costs_as_tensors_are_never_less_than_the_costs_and_hardly_more(kind, seed):
    model = tt.compact(GRAPHS[kind].grow(random.Random(seed)))
    costs, rng = tt.costs(model, shapes(model)), np.random.default_rng(seed)
    numbers = [number for number in range(len(costs.structures)) if rng.random() < 0.8]
    found = [costs.structures[number] for number in numbers]
    stay = [[int(rng.integers(1, each.size + 1)) for each in found] for _ in range(5)]
    for resource in ("multiply_adds", "parameters"):
        (table,) = tables(costs, numbers, resource)
        expected = [
            getattr(costs.of({each.name: n for each, n in zip(found, ns, strict=True)}), resource) for ns in stay
        ]
        if not numbers:
            continue
        given_back = keras.ops.convert_to_numpy(table(keras.ops.array(stay, "float32")))
        assert (given_back >= np.array(expected) * (1 - 1e-5)).all()
        np.testing.assert_allclose(given_back, expected, rtol=2e-2)


@pytest.mark.parametrize("build", [lenet, resnet20])
def test_costs_of_products_of_two_widths_are_exact(build):
    costs = tt.costs(build())
    numbers = [n for n, each in enumerate(costs.structures) if each.kind in ("filter", "unit")]
    rng = np.random.default_rng(0)
    (table,) = tables(costs, numbers, "multiply_adds")
    for _ in range(10):
        stay = {costs.structures[n].name: int(rng.integers(1, costs.structures[n].size + 1)) for n in numbers}
        found = float(table(keras.ops.array([list(stay.values())], "float32"))[0])
        np.testing.assert_allclose(found, costs.of(stay).multiply_adds, rtol=1e-6)


@pytest.fixture(scope="module")
def lenet_costs():
    return tt.costs(lenet())


SIZES = (20, 50, 500)


def ranks(scores, saved):
    """The share of each member of what is left of its structure without those of less score, over what it saves."""
    found = []
    for own, each in zip(np.split(scores, np.cumsum(SIZES)[:-1]), saved, strict=True):
        order = np.argsort(own)
        left = np.cumsum(own[order][::-1])[::-1]
        found.append(np.empty(len(own)))
        found[-1][order] = np.where(own[order] > 0, own[order] / np.maximum(left, 1e-30) / each, 0)
        found[-1][order[-1]] = np.inf
    return np.concatenate(found)


@hypothesis.given(st.integers(0, 10**6), st.floats(0.1, 0.95), st.floats(0.0, 0.5))
@hypothesis.settings(max_examples=8)
def test_those_of_the_least_worth_for_their_cost_leave_and_as_few_as_needed(lenet_costs, seed, share, dead):
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0.5, 1.5, sum(SIZES)) * (rng.random(sum(SIZES)) >= dead)
    names = [each.name for each in lenet_costs.structures]
    owner = np.repeat(np.arange(3), SIZES)
    now = {name: int(np.maximum((scores[owner == n] > 0).sum(), 1)) for n, name in enumerate(names)}
    limit = share * lenet_costs.of(now).multiply_adds
    fewer = [lenet_costs.of(now | {name: now[name] - 1}).multiply_adds for name in names]
    saved = (lenet_costs.of(now).multiply_adds - np.array(fewer)) / limit
    expected, gone = ranks(scores, saved), np.zeros(len(scores), bool)
    for member in np.argsort(expected, kind="stable"):
        stay = {name: int((~gone[owner == n]).sum()) for n, name in enumerate(names)}
        if lenet_costs.of(stay).multiply_adds <= limit:
            break
        gone[member] = True
    selection = Selection(SIZES, tables(lenet_costs, [0, 1, 2], "multiply_adds"))
    leaving = keras.ops.convert_to_numpy(
        selection.leaving(scores, np.array([limit], "float32"), np.zeros(1, "float32") + 1)
    )
    alive = scores > 0
    np.testing.assert_array_equal(leaving[alive], gone[alive])


@hypothesis.given(st.integers(0, 10**6), st.floats(0.1, 0.9), st.sampled_from([1, 4, 8]), st.booleans())
@hypothesis.settings(max_examples=8)
def test_limits_hold_and_widths_are_multiples(lenet_costs, seed, share, multiple, uniform):
    scores = np.random.default_rng(seed).uniform(0.1, 1.0, sum(SIZES))
    costs = tables(lenet_costs, [0, 1, 2], "multiply_adds", "parameters")
    selection = Selection(SIZES, costs, [multiples(size, multiple) for size in SIZES], uniform)
    limits = np.array([share * lenet_costs.multiply_adds, 0.8 * lenet_costs.parameters], "float32")
    leaving = keras.ops.convert_to_numpy(selection.leaving(scores, limits))
    stay = [int(own.sum()) for own in np.split(~leaving, np.cumsum(SIZES)[:-1])]
    total = lenet_costs.of({each.name: n for each, n in zip(lenet_costs.structures, stay, strict=True)})
    assert all(count > 0 and count % multiple == 0 for count in stay)
    if multiple * 20 / 8 < share * 20:  # it can be met with so coarse widths
        assert total.multiply_adds <= limits[0] * (1 + 1e-6) and total.parameters <= limits[1] * (1 + 1e-6)
