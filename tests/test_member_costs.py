"""Costs by member: what a model would cost with fewer members is what the compact model costs."""

import random

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
import tensorflow as tf
from cost_models import GRAPHS, NOTES, shapes
from keras import layers
from laws import random_members, structure, zero_members

import tf_terngrad as tt
from models.lenet import lenet
from tf_terngrad.sparsity.costs import RESOURCES, layer_costs

pytestmark = NOTES


def of_layers(model):
    costs = layer_costs(model, shapes(model))
    return sum(cost.multiply_adds or 0 for cost in costs), model.count_params()


def numbers(total):
    return total.multiply_adds, total.parameters


@pytest.mark.parametrize("kind", GRAPHS)
@hypothesis.given(st.integers(0, 10**6))
@hypothesis.settings(max_examples=4)
def test_predicted_costs_are_those_of_the_compact_model(kind, seed):
    model = tt.compact(GRAPHS[kind].grow(random.Random(seed)))
    costs = tt.costs(model, shapes(model))
    assert numbers(costs) == of_layers(model)
    assert [cost.multiply_adds for cost in costs.layers] == [
        cost.multiply_adds for cost in layer_costs(model, shapes(model))
    ]
    dead = zero_members(model, random_members(seed))
    stay = {each.name: each.size - len(dead.get(each.name, ())) for each in tt.structures(model)}
    assert numbers(costs.of(stay)) == of_layers(tt.compact(model))


def test_a_member_costs_what_its_slices_cost():
    found = {each.name: each for each in tt.costs(lenet()).structures}
    assert found["conv1"].multiply_adds == 24 * 24 * 25 + 8 * 8 * 25 * 50
    assert found["conv1"].parameters == 26 + 25 * 50
    assert found["conv2"].multiply_adds == 8 * 8 * 25 * 20 + 16 * 500
    assert found["conv2"].parameters == 25 * 20 + 1 + 16 * 500
    assert found["dense1"].multiply_adds == 800 + 10
    assert [each.size for each in found.values()] == [20, 50, 500]


def test_it_prints_the_whole_and_each_member():
    assert str(tt.costs(lenet())).splitlines()[:3] == [
        "2,293,000 multiply-adds an example, 431,080 parameters",
        "structure  kind    members  multiply-adds each  parameters each",
        "conv1      filter       20              94,400            1,276",
    ]


def test_a_branch_takes_all_its_layers_along():
    inputs = keras.Input((6, 6, 4))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False)(layers.ReLU()(inputs))
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same", use_bias=False)(x))
    model = keras.Model(inputs, layers.Conv2D(2, 1)(layers.Add(name="add")([x, inputs])))
    branch = structure(model, "add branch")
    costs = tt.costs(model)
    assert numbers(costs.of({branch.name: 0})) == (36 * 4 * 2, 10)
    (found,) = [each for each in costs.structures if each.name == branch.name]
    assert found.multiply_adds == 2 * 36 * 9 * 4 * 8
    assert found.parameters == model.count_params() - 10


def test_a_head_costs_its_scores_too():
    steps = keras.Input((5, 8))
    model = keras.Model(steps, layers.Dense(2)(layers.MultiHeadAttention(4, 3, name="attention")(steps, steps)))
    found = {each.kind: each.multiply_adds for each in tt.costs(model).structures}
    assert found["head"] == 4 * (5 * 8 * 3) + 5 * 5 * 6
    assert found["key"] == 2 * (5 * 8 * 4) + 5 * 5 * 4


def test_a_layer_that_nobody_knows_counts_zero():
    class Own(layers.Layer):
        def build(self, shape):
            self.kernel = self.add_weight(shape=(shape[-1], 3))

        def call(self, x):
            return tf.math.top_k(keras.ops.matmul(x, self.kernel), 2).values

    model = keras.Sequential([keras.Input((4,)), layers.Dense(6), Own()])
    costs = tt.costs(model)
    assert costs.layers[-1].multiply_adds is None
    assert costs.multiply_adds == 24


def test_open_sizes_are_asked_for():
    model = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(4, 3), layers.Conv2D(2, 3)])
    with pytest.raises(ValueError, match="leaves a size open"):
        tt.costs(model)
    assert tt.costs(model, (9, 9, 3)).structures[0].multiply_adds == 49 * 27 + 25 * 18


@pytest.mark.parametrize(
    ("stay", "error", "message"),
    [
        ({"conv3": 1}, ValueError, "expected `stay` to be"),
        ({"conv1": 21}, ValueError, "at most 20"),
        ({"conv1": -1}, ValueError, "at least 0"),
        ({"conv1": 1.5}, TypeError, "conv1"),
    ],
)
def test_numbers_that_cannot_be_are_refused(stay, error, message):
    with pytest.raises(error, match=message):
        tt.costs(lenet()).of(stay)


@pytest.mark.parametrize("kind", GRAPHS)
@hypothesis.given(st.integers(0, 10**6))
@hypothesis.settings(max_examples=3)
def test_terms_sum_to_the_cost_and_depend_on_their_owners_alone(kind, seed):
    model = tt.compact(GRAPHS[kind].grow(random.Random(seed)))
    costs, random_ = tt.costs(model, shapes(model)), np.random.default_rng(seed)
    names, sizes = [each.name for each in costs.structures], [each.size for each in costs.structures]
    counts, others = random_.integers(0, np.array(sizes) + 1), random_.integers(0, np.array(sizes) + 1)
    total = costs.of(dict(zip(names, map(int, counts), strict=True)))
    for name in (each.name for each in RESOURCES.values() if each.at_once):
        terms = costs.terms(name)
        assert sum(term.value(np.append(counts / sizes, 1.0)) for term in terms) == getattr(total, name)
        for term in terms:
            mixed = others.copy()
            mixed[list(term.owners)] = counts[list(term.owners)]
            assert term.value(np.append(mixed / sizes, 1.0)) == term.value(np.append(counts / sizes, 1.0))
            assert list(term.owners) == sorted(set(term.owners))


def test_an_unknown_resource_is_refused():
    with pytest.raises(ValueError, match="expected `resource` to be"):
        tt.costs(lenet()).terms("watts")
    with pytest.raises(AttributeError, match="no attribute 'watts'"):
        _ = tt.costs(lenet()).watts
