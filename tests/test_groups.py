"""Norms, penalty, gradient and step of groups that span variables, against sums over their slices in NumPy."""

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
import small_models
import tensorflow as tf
from group_oracles import lasso_and_gradient, members, shrunk, squared_norm, values

from tf_terngrad.sparsity.learn import penalties
from tf_terngrad.sparsity.learn.groups import Groups
from tf_terngrad.sparsity.structure import Slice, Structure
from tf_terngrad.sparsity.structures import structures


def random_structures(rng):
    """Structures that overlap in every way: on one axis, on crossing axes, and twice at one place."""
    variables = [
        keras.Variable(
            rng.normal(size=rng.integers(4, 9, rng.integers(1, 5))), dtype=rng.choice(["float32", "float64"])
        )
        for _ in range(rng.integers(1, 4))
    ]
    found = []
    for name in "abc"[: rng.integers(1, 4)]:
        size, slices = rng.integers(1, 4), []
        for _ in range(rng.integers(1, 5)):
            variable = variables[rng.integers(len(variables))]
            axis = int(rng.integers(len(variable.shape)))
            positions = rng.permutation(variable.shape[axis])
            multiplicity = rng.integers(1, len(positions) // size + 1)
            indices = positions[: size * multiplicity].reshape(size, multiplicity)
            role = rng.choice(["kernel", "bias", "statistic"], p=[0.6, 0.3, 0.1])
            slices.append(Slice(variable, axis, indices, name, role))
        slices.append(Slice(variables[0], 0, np.arange(size)[:, None], name, "kernel"))
        found.append(Structure(name, "unit", int(size), tuple(slices)))
    return found


def check(found):
    groups = Groups(found)
    arrays = values(found)
    assert groups.count == sum(structure.size for structure in found)
    assert {id(variable) for variable in groups.variables} == set(arrays)
    expected = [squared_norm(group, arrays) for group in members(found)]
    np.testing.assert_allclose(groups.squared_norms(), expected, rtol=1e-5)
    with tf.GradientTape() as tape:
        lasso = keras.ops.sum(penalties.smooth_norms(groups.squared_norms()))
    total, gradients = lasso_and_gradient(found)
    np.testing.assert_allclose(lasso, total, rtol=1e-5)
    for variable, gradient in zip(
        groups.variables, tape.gradient(lasso, [v.value for v in groups.variables]), strict=True
    ):
        np.testing.assert_allclose(gradient, gradients[id(variable)], rtol=1e-4, atol=1e-5)
    threshold = float(np.median(np.sqrt(expected)))
    expected = shrunk(found, threshold)
    groups.scale(penalties.proximal_scale(groups.squared_norms(), threshold))
    for variable in groups.variables:
        np.testing.assert_allclose(variable, expected[id(variable)], rtol=1e-4, atol=1e-5)


@hypothesis.given(st.integers(0, 10**6))
def test_random_slices(seed):
    check(random_structures(np.random.default_rng(seed)))


def tied():
    """One layer called twice in a chain: its kernel's rows and its columns are the same units."""
    image = keras.Input((4,))
    layer = keras.layers.Dense(4, name="tied")
    return keras.Model(image, keras.layers.Dense(2)(layer(layer(keras.layers.Dense(4)(image)))))


@pytest.mark.parametrize("make", [small_models.convolution, small_models.mobile, small_models.residual, tied])
def test_structures_of_models(make):
    check(list(structures(small_models.randomized(make()))))


def test_flatten_has_multiplicities_and_a_branch_overlaps_its_filters():
    found = [*structures(small_models.convolution()), *structures(branched())]
    assert any(piece.indices.shape[1] > 1 for structure in found for piece in structure.slices)
    assert {structure.kind for structure in found} == {"filter", "unit", "branch"}
    check(found)


def branched():
    image = keras.Input((6, 6, 3))
    start = keras.layers.Conv2D(4, 3, padding="same", name="start")(image)
    inside = keras.layers.Conv2D(5, 3, padding="same", activation="relu", name="inside")(start)
    total = start + keras.layers.Conv2D(4, 3, padding="same", name="back")(inside)
    return keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(total)))


def root_of(u, d):
    """The norm after the step in the metric 1 / d, by bisection."""
    if np.sum(np.square(u / d)) <= 1:
        return 0.0
    low, high = 0.0, np.linalg.norm(u)
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if np.sum(np.square(u / (middle + d))) > 1 else (low, middle)
    return low


def in_a_metric(found, pulls, least):
    """The variables' values after the proximal step in a diagonal metric, which finds all norms first."""
    before, after = values(found), values(found)
    for group in members(found):
        parts = [(before[id(v)][where].ravel(), pulls[id(v)][where].ravel()) for v, where in group]
        root = root_of(*map(np.concatenate, zip(*parts, strict=True)))
        for variable, where in group:
            u, d = before[id(variable)][where], pulls[id(variable)][where]
            factor = root / (root + d)
            if id(variable) in least:
                factor = np.maximum(factor, np.minimum(1, least[id(variable)][where] / np.abs(u)))
            after[id(variable)][where] *= factor
    return after


@hypothesis.settings(max_examples=40)
@hypothesis.given(st.integers(0, 10**6), st.sampled_from([0.01, 0.3, 3.0]))
def test_the_step_in_a_metric_is_the_oracle(seed, scale):
    rng = np.random.default_rng(seed)
    found = random_structures(rng)
    groups = Groups(found)
    pulls = {id(v): scale * rng.lognormal(size=v.shape) for v in groups.variables}
    least = {id(v): rng.normal(0.2, 0.4, v.shape) for v in groups.variables if rng.random() < 0.3}
    expected = in_a_metric(found, pulls, least)
    as_tensors = [{key: keras.ops.cast(a, "float32") for key, a in each.items()} for each in (pulls, least)]
    groups.shrink(groups.norms_after(as_tensors[0]), *as_tensors)
    for variable in groups.variables:
        np.testing.assert_allclose(variable, expected[id(variable)], rtol=2e-3, atol=1e-4)


def test_one_pull_for_all_is_the_step_of_a_threshold():
    found = random_structures(np.random.default_rng(5))
    groups, pull = Groups(found), keras.ops.convert_to_tensor(0.3)
    expected = shrunk(found, 0.3)
    pulls = dict.fromkeys(map(id, groups.variables), pull)
    groups.shrink(groups.norms_after(pulls), pulls, {})
    for variable in groups.variables:
        np.testing.assert_allclose(variable, expected[id(variable)], rtol=1e-4, atol=1e-5)


def test_groups_at_most_the_threshold_become_exactly_zero():
    found = random_structures(np.random.default_rng(3))
    groups = Groups(found)
    groups.scale(penalties.proximal_scale(groups.squared_norms(), 1e3))
    assert not any(structure.norms().any() for structure in found)


def test_variables_that_do_not_train_neither_count_nor_move():
    found = random_structures(np.random.default_rng(4))
    groups = Groups(found)
    frozen, before = groups.variables[0], groups.variables[0].numpy()
    frozen.trainable = False
    arrays, expected = values(found), shrunk(found, 0.1)
    np.testing.assert_allclose(groups.squared_norms(), [squared_norm(group, arrays) for group in members(found)], 1e-5)
    groups.scale(penalties.proximal_scale(groups.squared_norms(), 0.1))
    np.testing.assert_array_equal(frozen, before)
    for variable in groups.variables[1:]:
        np.testing.assert_allclose(variable, expected[id(variable)], rtol=1e-4, atol=1e-5)


def test_half_precision_is_summed_in_float32():
    tiny = keras.Variable(np.full((2, 300), 1e-4), dtype="float16")
    groups = Groups([Structure("a", "unit", 2, (Slice(tiny, 0, np.arange(2)[:, None], "a", "kernel"),))])
    exact = 300 * float(np.float16(1e-4)) ** 2
    np.testing.assert_allclose(groups.squared_norms(), [exact, exact], rtol=1e-5)


def test_nan_is_not_taken_for_zero():
    weights = keras.Variable([[1.0, np.nan], [0.1, 0.1]])
    groups = Groups([Structure("a", "unit", 2, (Slice(weights, 0, np.arange(2)[:, None], "a", "kernel"),))])
    groups.scale(penalties.proximal_scale(groups.squared_norms(), 1.0))
    assert np.isnan(weights[0]).all() and not np.any(weights[1])
