"""Widths that the hardware likes: multiples, or the steps of the latency; within the budget, and none used in vain."""

import random

import graphs
import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
from cost_models import NOTES, shapes
from keras import layers
from laws import check_laws, randomize, sequential
from test_dead import X, Y, momentum, train

import tf_terngrad as tt
from models.lenet import lenet
from tf_terngrad.sparsity.costs import RESOURCES
from tf_terngrad.sparsity.costs.resources import Resource, Term
from tf_terngrad.sparsity.rounding import at_most, fastest, multiples, nearest

pytestmark = NOTES


def steps(count, step, slope=0.0):
    """Milliseconds at each width from zero on, that rise at each `step`."""
    widths = np.arange(count + 1)
    return np.ceil(widths / step) + slope * widths


@hypothesis.given(st.integers(2, 70), st.integers(1, 8), st.floats(0.01, 100), st.floats(0, 5))
@hypothesis.settings(max_examples=60)
def test_auto_allows_the_edges_of_steps_and_no_other_width(step, count, height, others):
    times = height * steps(step * count, step) + others
    np.testing.assert_array_equal(fastest(times), step * np.arange(1, count + 1))


@hypothesis.given(st.integers(1, 300), st.floats(0.01, 10), st.floats(0, 5))
@hypothesis.settings(max_examples=20)
def test_auto_allows_all_widths_where_each_member_costs_the_same(size, slope, others):
    np.testing.assert_array_equal(fastest(slope * np.arange(size + 1) + others), np.arange(1, size + 1))


@pytest.mark.parametrize(
    ("times", "widths"),
    [
        (steps(50, 16), [16, 32, 48]),  # the last two cost as much as sixteen
        (steps(62, 16), [16, 32, 48, 62]),  # the last fourteen cost little more each than the others
        (np.ones(21), [20]),  # none is faster
        (np.maximum(steps(96, 16), 3), [48, 64, 80, 96]),  # nothing to win below
        (np.arange(65) + 20.0 * (np.arange(65) % 16 > 0), [16, 32, 48, 64]),  # slower between multiples
        (steps(40, 16, slope=5.0), np.arange(1, 41)),  # the steps are small beside what each member costs
    ],
)
def test_auto_leaves_out_what_is_hardly_faster(times, widths):
    np.testing.assert_array_equal(fastest(times), widths)


@hypothesis.given(st.integers(1, 99), st.integers(1, 20), st.integers(0, 99))
def test_rounded_widths_are_allowed_and_near(size, step, count):
    widths, count = multiples(size, step), min(count, size)
    down, near = at_most(widths, count), nearest(widths, count)
    assert down <= near <= count
    assert down in widths if count >= widths[0] else down == count
    assert max((width for width in widths if width <= count), default=count) == down
    above = min((width for width in widths if width > count), default=np.inf)
    assert near == (count if above - count <= count - down else down)


@pytest.fixture
def in_steps(monkeypatch):
    """In place of a latency that is measured: each structure costs in steps of 16, but "b" in steps of 6."""

    def terms(sizes):
        return [
            Term((number,), lambda shares, n=number, s=each: float(np.ceil(shares[n] * s.size / width_of(s))) + 0.1)
            for number, each in enumerate(sizes.structures)
        ]

    def width_of(structure):
        return 6 if structure.name == "b" else 16

    monkeypatch.setitem(RESOURCES, "latency", Resource("latency", terms, "{} ms".format, at_once=False))


def two_layers():
    keras.utils.set_random_seed(0)
    return randomize(
        sequential(
            keras.Input((10,)),
            layers.Dense(50, activation="relu", name="a"),
            layers.Dense(30, activation="relu", name="b"),
            layers.Dense(1),
        )
    )


def living(model):
    return {each.name: int((each.norms() != 0).sum()) for each in tt.structures(model) if each.kind != "input"}


@pytest.mark.parametrize("kind", ["parameters", "latency", "multiply_adds"])
def test_auto_ends_at_the_steps_of_the_table_within_the_budget(in_steps, kind):
    model, budget = two_layers(), tt.Budget(**{kind: 0.6})
    whole = tt.costs(model)
    tt.prune(model, budget, round_to="auto")
    counts = living(model)
    assert counts["a"] in (16, 32, 48) and counts["b"] in (6, 12, 18, 24, 30) and counts != {"a": 16, "b": 6}
    assert budget.allows(whole.of(counts), whole)


def test_auto_rounds_down_to_the_steps_without_a_budget(in_steps):
    model = two_layers()
    gone = tt.prune(model, round_to="auto")
    assert {name: len(members) for name, members in gone.items()} == {"a": 2, "b": 0}
    assert not any(map(len, tt.prune(model, round_to="auto").values()))


def test_a_training_ends_at_allowed_widths_within_a_latency(in_steps):
    model, budget = two_layers(), tt.Budget(latency=0.7)
    whole = tt.costs(model)
    tt.sparsify(model, budget=budget, round_to="auto")
    model.compile(momentum(), "mse")
    train(model, 3)
    counts = living(model)
    assert counts["a"] in (16, 32, 48) and counts["b"] in (6, 12, 18, 24, 30)
    assert budget.allows(whole.of(counts), whole) and whole.of(counts).latency >= 0.5 * whole.latency


def test_a_sweep_takes_it_too(in_steps):
    model = two_layers()
    model.compile(momentum(), "mse")

    def trained(model):
        model.fit(X, Y, batch_size=32, verbose=0)
        return 0.0

    found = tt.sweep(model, [tt.Budget(multiply_adds=0.7), tt.Budget(multiply_adds=0.4)], trained, round_to="auto")
    widths = [[point.model.get_layer(name).units for name in "ab"] for point in found.points]
    assert all(a in (16, 32, 48) and b in (6, 12, 18, 24, 30) for a, b in widths) and widths[0] != widths[1]


@hypothesis.given(st.integers(0, 10**6), st.floats(0.4, 0.95), st.sampled_from([2, 3, 4]), st.booleans())
@hypothesis.settings(max_examples=4)
def test_widths_are_multiples_within_the_budget_and_no_block_more_has_left(seed, share, step, uniform):
    model = tt.compact(graphs.grow(random.Random(seed)))
    before, budget = tt.costs(model, shapes(model)), tt.Budget(multiply_adds=share)
    for each in tt.structures(model):  # one is dead already, as behind another training
        if each.least and each.size > step:
            each.zero([0])
    alive = {each.name: int((each.norms() != 0).sum()) for each in tt.structures(model)}
    try:
        gone = tt.prune(model, budget, round_to=step, uniform=uniform, input_shapes=shapes(model))
    except ValueError as refused:
        reasons = ("a budget that can be met", "nothing of this model", "no structure is left")
        assert any(reason in str(refused) for reason in reasons)
        return
    left = alive | {name: alive[name] - len(members) for name, members in gone.items()}
    sizes = {each.name: each.size for each in before.structures}
    for name in gone:
        assert left[name] % step == 0 or sizes[name] < step or left[name] == alive[name] < step
    assert budget.allows(before.of(left), before)
    for name, members in gone.items():
        wider = left[name] + (step if sizes[name] >= step else 1)
        if len(members) >= wider - left[name] and wider <= sizes[name]:
            assert not budget.allows(before.of({**left, name: wider}), before)
    check_laws(model, must_vary=False)


def test_nearest_leaves_what_compact_rounds_up():
    model = randomize(lenet())
    for each, dead in zip(tt.structures(model), (1, 3, 50), strict=False):  # of 20, 50 and 500 live 19, 47 and 450
        each.zero(np.arange(dead))
    gone = tt.prune(model, round_to=8, rounding="nearest")
    assert {name: len(members) for name, members in gone.items()} == {"conv1": 3, "conv2": 0, "dense1": 2}
    small = tt.compact(model, round_to=8)
    assert [small.get_layer(name).filters for name in ("conv1", "conv2")] == [16, 48]
    assert small.get_layer("dense1").units == 448


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: tt.prune(lenet(), round_to=8, rounding="up"), ValueError, "one of 'down', 'nearest'"),
        (lambda: tt.prune(lenet(), rounding="nearest"), ValueError, "a budget, or widths to round to"),
        (lambda: tt.prune(lenet(), tt.Budget(parameters=0.5), round_to=8, rounding="nearest"), ValueError, "no budget"),
        (lambda: tt.prune(lenet(), round_to=8.0), TypeError, "round_to=8.0"),
        (lambda: tt.sparsify(lenet(), strength=1.0, round_to=8), ValueError, "is that of a budget"),
        (lambda: tt.sparsify(lenet(), budget=tt.Budget(parameters=0.5), round_to="fast"), ValueError, "'auto'"),
        (lambda: tt.sparsify(lenet(), budget=tt.Budget(parameters=0.5), round_to=0), ValueError, "at least 1"),
        (lambda: tt.prune(lenet(), tt.Budget(parameters=0.01), round_to=16), ValueError, "with round_to=16, the model"),
    ],
)
def test_what_makes_no_sense_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
