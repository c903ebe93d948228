"""Depth under a budget: branches of residual sums leave whole, all of them if need be, alone or beside widths."""

import random

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
from keras import layers

import tf_terngrad as tt

X, Y = np.random.default_rng(0).normal(size=(64, 6)).astype("float32"), np.zeros((64, 2), "float32")


def residual(units=(8, 8, 8, 8), width=8, seed=0):
    """x + branch(x) for a hidden layer of each of these sizes, with a normalization whose shift would be left over."""
    keras.utils.set_random_seed(seed)
    x = keras.Input((6,), name="x")
    stream = layers.Dense(width, name="stem")(x)
    for number, count in enumerate(units):
        hidden = layers.Dense(count, activation="relu", name=f"hidden{number}")(stream)
        back = layers.BatchNormalization(name=f"normal{number}")(layers.Dense(width, name=f"back{number}")(hidden))
        stream = layers.Add(name=f"sum{number}")([stream, back])
    return keras.Model(x, layers.Dense(2, name="out")(stream))


def depth(model):
    return sum(layer.name.startswith("sum") for layer in model.layers)


def shrunk(model, small, whole, share):
    """That a compact model gives what the trained one does, within a share of what the whole one cost."""
    np.testing.assert_allclose(small.predict(X, verbose=0), model.predict(X, verbose=0), atol=1e-5)
    return tt.costs(small).multiply_adds <= share * whole


def trained(model, budget, **options):
    tt.sparsify(model, budget=budget, **options)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    model.fit(X, Y, batch_size=8, epochs=3, verbose=0)
    return tt.compact(model)


@pytest.mark.parametrize(("share", "left"), [(0.8, 3), (0.56, 2), (0.35, 1), (0.112, 0)])
def test_as_few_branches_leave_as_the_budget_asks_for(share, left):
    model = residual()
    whole = tt.costs(model).multiply_adds
    small = trained(model, tt.Budget(multiply_adds=share), kinds=["branch"])
    assert shrunk(model, small, whole, share)
    assert depth(small) == left
    assert all(layer.units == 8 for layer in small.layers if layer.name.startswith(("hidden", "back")))


def test_beside_widths_the_branches_leave_that_are_worth_least():
    model = residual()
    for name in ("hidden1", "back1", "normal1"):
        layer = model.get_layer(name)
        layer.set_weights([0.01 * weight for weight in layer.get_weights()])
    whole = tt.costs(model).multiply_adds
    small = trained(model, tt.Budget(multiply_adds=0.5), kinds=["unit", "branch"], exclude=["stem"])
    assert shrunk(model, small, whole, 0.5)
    kept = {layer.name: layer.units for layer in small.layers if layer.name.startswith("hidden")}
    assert set(kept) == {"hidden0", "hidden2", "hidden3"}
    assert max(kept.values()) < 8


@hypothesis.given(st.integers(0, 10**6), st.floats(0.15, 0.9))
@hypothesis.settings(max_examples=5)
def test_at_once_they_leave_in_the_order_of_their_worth_for_their_cost(seed, share):
    rng = random.Random(seed)
    model = residual([rng.randint(2, 12) for _ in range(4)], seed=seed)
    costs, structures = tt.costs(model), {each.name: each for each in tt.structures(model) if each.kind == "branch"}
    taken = tt.prune(model, tt.Budget(multiply_adds=share), scores=lambda each: np.ones(each.size), kinds=["branch"])
    assert set(taken) == set(structures)
    small = tt.compact(model)
    assert shrunk(model, small, costs.multiply_adds, share)
    cost = {each.name: each.multiply_adds for each in costs.structures}
    gone = [cost[name] for name, members in taken.items() if members.size]
    stay = [cost[name] for name, members in taken.items() if not members.size]
    room = share * costs.multiply_adds - tt.costs(small).multiply_adds
    assert all(each > room for each in gone)  # none could stay
    assert depth(small) == len(stay)


def test_one_branch_may_leave():
    model = residual([8])
    whole = tt.costs(model).multiply_adds
    assert depth(trained(model, tt.Budget(multiply_adds=0.5), kinds=["branch"])) == 0
    assert tt.costs(tt.compact(model)).multiply_adds == whole - 2 * 64


def test_what_cannot_be_met_is_told_with_what_is_left_without_branches():
    with pytest.raises(ValueError, match="the model costs 64 multiply-adds"):
        tt.sparsify(residual(), budget=tt.Budget(multiply_adds=50), kinds=["branch"])


def test_the_shrinking_model_meets_it_too():
    model = residual()
    whole = tt.costs(model).multiply_adds
    tt.sparsify(model, budget=tt.Budget(multiply_adds=0.35), kinds=["unit", "branch"])
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse")
    model.fit(X, Y, batch_size=8, epochs=6, verbose=0, callbacks=[tt.callbacks.Reconfigure(every=1)])
    assert shrunk(model, tt.compact(model), whole, 0.35)
