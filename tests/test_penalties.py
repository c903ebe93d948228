"""The maths of structured sparsity."""

import keras
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tf_terngrad.sparsity.learn import penalties

QUICK = settings(max_examples=40)
SIZES = st.floats(min_value=1e-3, max_value=100.0)
ENTRIES = SIZES | SIZES.map(lambda size: -size) | st.just(0.0)
MATRICES = arrays.arrays("float64", arrays.array_shapes(min_dims=2, max_dims=3, max_side=4), elements=ENTRIES)
THRESHOLDS = st.floats(min_value=0.0, max_value=50.0)


def axes_of(weights):
    return st.lists(st.sampled_from(range(weights.ndim)), unique=True).map(tuple)


@QUICK
@given(MATRICES, st.data())
def test_norms_and_lasso_are_the_oracles(weights, data):
    axes = data.draw(axes_of(weights))
    groups = oracles.indexed_groups(oracles.indices_like(weights), axes)
    norms = penalties.group_norms(weights, axes).numpy()
    assert norms.shape == tuple(weights.shape[axis] for axis in axes)
    np.testing.assert_allclose(norms.ravel(), [np.linalg.norm(weights.ravel()[group]) for group in groups], rtol=1e-12)
    np.testing.assert_allclose(penalties.group_lasso(weights, axes), oracles.lasso(weights.ravel(), groups), rtol=1e-12)


def test_negative_axes_count_from_the_end():
    weights = np.random.default_rng(0).normal(size=(2, 3, 4))
    np.testing.assert_array_equal(penalties.squared_sums(weights, (-1, 0)), penalties.squared_sums(weights, (2, 0)))


@QUICK
@given(MATRICES, st.tuples(st.integers(1, 6), st.integers(1, 6)))
def test_block_sums_are_the_oracles(weights, block):
    matrix = weights.reshape(weights.shape[0], -1)
    groups = oracles.block_groups(oracles.indices_like(matrix), block)
    expected = [np.sum(matrix.ravel()[group] ** 2) for group in groups]
    np.testing.assert_allclose(np.ravel(penalties.block_squared_sums(matrix, block)), expected, rtol=1e-12)


def test_smooth_norm_has_a_gradient_at_zero():
    import tensorflow as tf

    zero = tf.Variable(np.zeros(3, "float32"))
    with tf.GradientTape() as tape:
        norm = penalties.group_lasso(zero, ())
    assert float(norm) == pytest.approx(1e-4)
    assert tape.gradient(norm, zero).numpy().tolist() == [0, 0, 0]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_summed_in_float32(dtype):
    weights = keras.ops.cast(np.full((64, 2), 1e-3), dtype)
    expected = np.sqrt(64) * float(weights[0, 0])
    np.testing.assert_allclose(penalties.group_norms(weights, (1,)), expected, rtol=1e-6)
    assert float(penalties.smooth_norms(keras.ops.zeros((), dtype))) == pytest.approx(1e-4)


@QUICK
@given(MATRICES, THRESHOLDS, st.data())
def test_proximal_step_is_the_oracle(weights, threshold, data):
    axes = data.draw(axes_of(weights))
    flat, expected = weights.ravel(), np.empty(weights.size)
    for group in oracles.indexed_groups(oracles.indices_like(weights), axes):
        expected[group] = oracles.proximal(flat[group], threshold)
    result = penalties.proximal_step(weights, threshold, axes)
    np.testing.assert_allclose(np.ravel(result), expected, rtol=1e-9, atol=1e-12)


@QUICK
@given(MATRICES, THRESHOLDS)
def test_proximal_step_shortens_groups_by_the_threshold_and_turns_no_sign(weights, threshold):
    result = penalties.proximal_step(weights, threshold, (0,)).numpy()
    before, after = penalties.group_norms(weights, (0,)).numpy(), penalties.group_norms(result, (0,)).numpy()
    np.testing.assert_allclose(after, np.maximum(0, before - threshold), rtol=1e-9, atol=1e-9)
    assert np.all(result * weights >= 0)
    assert np.all(result[before <= threshold] == 0)


@QUICK
@given(MATRICES, THRESHOLDS)
def test_proximal_step_minimizes_its_objective(weights, threshold):
    def objective(candidate):
        return 0.5 * np.sum((candidate - weights) ** 2) + threshold * np.sum(np.linalg.norm(candidate, axis=-1))

    weights = weights.reshape(weights.shape[0], -1)
    best = penalties.proximal_step(weights, threshold, (0,)).numpy()
    for candidate in (weights, 0 * weights, best * 1.01, best * 0.99, best + 1e-2, best - 1e-2):
        assert objective(best) <= objective(candidate) * (1 + 1e-9) + 1e-9


@QUICK
@given(MATRICES, THRESHOLDS, THRESHOLDS)
def test_two_proximal_steps_are_one_of_both_thresholds(weights, first, second):
    twice = penalties.proximal_step(penalties.proximal_step(weights, first, (1,)), second, (1,))
    np.testing.assert_allclose(twice, penalties.proximal_step(weights, first + second, (1,)), rtol=1e-6, atol=1e-9)


@QUICK
@given(MATRICES)
def test_proximal_step_without_threshold_changes_nothing_and_with_a_large_one_leaves_nothing(weights):
    np.testing.assert_array_equal(penalties.proximal_step(weights, 0.0, (0,)), weights)
    dead = penalties.proximal_step(weights, 1e6, (0,))
    assert not np.any(dead)
    np.testing.assert_array_equal(penalties.proximal_step(dead, 1.0, (0,)), dead)


def test_proximal_scale_is_exactly_zero_at_the_threshold_and_keeps_nan():
    scale = penalties.proximal_scale(np.array([0.0, 1.0, 4.0, 16.0, np.inf, np.nan]), 2.0).numpy()
    np.testing.assert_array_equal(scale, [0.0, 0.0, 0.0, 0.5, 1.0, np.nan])
    assert penalties.proximal_scale(0.0, 0.0).numpy() == 0.0


@QUICK
@given(arrays.arrays("float64", (3, 5), elements=ENTRIES), st.integers(0, 10**6), st.sampled_from([0.1, 1.0, 10.0]))
def test_proximal_norms_solve_their_equation(weights, seed, scale):
    pulls = scale * np.random.default_rng(seed).lognormal(size=weights.shape)

    def sums(norms):
        divisors = keras.ops.expand_dims(norms, 1) + pulls
        squares = keras.ops.square(weights / divisors)
        return keras.ops.sum(squares, 1), keras.ops.sum(squares / divisors, 1)

    norms = penalties.proximal_norms(penalties.squared_sums(weights, (0,)), sums, steps=8).numpy()
    left = np.square(weights / (norms[:, None] + pulls)).sum(1)
    dead = np.square(weights / pulls).sum(1) <= 1
    np.testing.assert_array_equal(norms == 0, dead)
    np.testing.assert_allclose(left[~dead], 1, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_proximal_step_and_zero_small_keep_the_type(dtype):
    weights = np.ones((2, 2), dtype)
    assert penalties.proximal_step(weights, 0.1, (1,)).dtype == dtype
    assert penalties.zero_small(weights, 0.1).dtype == dtype


@QUICK
@given(st.floats(0, 0.99), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_strength_from_ratio_makes_the_penalty_that_share_of_the_loss(ratio, data_loss, lasso):
    penalty = penalties.strength_from_ratio(ratio, data_loss, lasso) * lasso
    assert penalty == pytest.approx(ratio * (data_loss + penalty))


@pytest.mark.parametrize("ratio", [1, 1.5, -0.1, float("nan"), float("inf")])
def test_strength_from_ratio_refuses_what_is_no_share(ratio):
    with pytest.raises(ValueError, match=r"strength_from_ratio: expected `ratio` .* below 1\. Received: ratio="):
        penalties.strength_from_ratio(ratio, 1.0, 1.0)


@pytest.mark.parametrize("ratio", ["0.2", None, True])
def test_strength_from_ratio_refuses_what_is_no_number(ratio):
    with pytest.raises(TypeError, match=r"strength_from_ratio: expected `ratio` .* below 1\. Received: ratio="):
        penalties.strength_from_ratio(ratio, 1.0, 1.0)


@QUICK
@given(MATRICES, st.floats(0, 10))
def test_zero_small_keeps_what_is_large_and_is_idempotent(weights, threshold):
    result = penalties.zero_small(weights, threshold).numpy()
    np.testing.assert_array_equal(result, np.where(np.abs(weights) < threshold, 0, weights))
    np.testing.assert_array_equal(penalties.zero_small(result, threshold), result)


def test_zero_small_keeps_nan():
    assert np.isnan(penalties.zero_small(np.array([np.nan]), 1.0).numpy()[0])
