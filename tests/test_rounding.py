"""Scales, digits and their means, by the native codec and its TensorFlow twin."""

import numpy as np
import pytest
import tensorflow as tf
from codec_inputs import floats, gradient, lengths

DTYPES = ["float16", "bfloat16", "float32", "float64"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("clip", [None, 2.5, 0.5])
def test_scales_are_the_formula(implementation, dtype, clip):
    cut = [3000, 0, 1, 7, 1992]
    given = gradient(5000, dtype)
    thresholds, scales = implementation.scale(given, lengths(*cut), clip)
    parts = np.split(given.numpy().astype("float64"), np.cumsum(cut)[:-1])
    sigma = np.array([part.std() if len(part) else 0 for part in parts])
    largest = np.array([np.abs(part).max(initial=0) for part in parts])
    mean = np.array([np.abs(part.mean()) if len(part) else 0 for part in parts])
    expected = np.full(len(cut), np.inf) if clip is None else np.maximum(clip * sigma, mean)
    np.testing.assert_allclose(thresholds, expected, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(scales, np.minimum(expected, largest), rtol=1e-6, atol=1e-12)


def test_a_large_mean_does_not_spoil_the_deviation(implementation):
    given = gradient(100_000) * 1e-3 + 1
    thresholds, _ = implementation.scale(given, lengths(100_000), 5000.0)
    assert float(thresholds[0]) == pytest.approx(5000 * given.numpy().astype("float64").std(), rel=1e-3)


@pytest.mark.parametrize("value", [0.0, 0.1, -3.0])
def test_values_that_do_not_differ_are_not_clipped_away(implementation, value):
    given, cut = tf.fill((1001,), value), lengths(1000, 1)
    thresholds, scales = implementation.scale(given, cut, 2.5)
    np.testing.assert_allclose(scales, [abs(value)] * 2, rtol=1e-6)
    codes = implementation.ternarize(given, cut, thresholds, scales, (1, 2), 1)
    assert set(codes.numpy().tolist()) == {int(np.sign(value))}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_makes_its_buckets_scale_infinite_and_its_mean_nan(implementation, bad):
    given = tf.constant([1.0, bad, 2.0, 3.0])
    cut = lengths(2, 2)
    thresholds, scales = implementation.scale(given, cut, 2.5)
    assert np.isinf(scales[0]) and np.isfinite(scales[1])
    data = implementation.encode_bytes(given, cut, thresholds, scales, (1, 2), 1)
    means = implementation.mean_of_bytes(data[None], cut, scales[None], 1, tf.float32)
    words = implementation.encode_words(given, cut, thresholds, scales, (1, 2), 1, 1)
    for mean in (means, implementation.mean_of_words(words, cut, scales, 1, 1, tf.float32)):
        assert np.isnan(mean.numpy()).tolist() == [True, True, False, False]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("levels", [1, 2, 7, 127])
def test_digits_have_the_clipped_gradient_as_their_mean(implementation, dtype, levels):
    size, rounds = 2000, 300
    given, cut = gradient(size, dtype), lengths(1500, 500)
    thresholds, scales = implementation.scale(given, cut, 1.5)
    shared = scales * 1.25
    each = np.repeat(shared.numpy(), cut.numpy())
    limit = np.repeat(thresholds.numpy(), cut.numpy())
    total = np.zeros(size)
    for step in range(rounds):
        codes = implementation.ternarize(given, cut, thresholds, shared, (3, step, 0, 1), levels).numpy()
        assert codes.dtype == np.int8
        assert np.abs(codes).max() <= levels
        total += codes
    expected = np.clip(given.numpy().astype("float64"), -limit, limit)
    error = total / rounds * each / levels - expected
    deviation = 0.5 * each / levels / np.sqrt(rounds)
    assert np.abs(error / deviation).max() < 5
    assert abs(np.mean(error / deviation)) < 5 / np.sqrt(size)


def test_digits_of_other_keys_are_independent(implementation):
    size = 100_000
    given, cut = tf.fill((size,), 0.5), lengths(size)
    keys = [(1, 0, 0, 0), (2, 0, 0, 0), (1, 1, 0, 0), (1, 0, 1, 0), (1, 0, 0, 1), (0, 1, 0, 0), (1, 2**40, 0, 0)]
    drawn = [implementation.ternarize(given, cut, *floats(1.0, 1.0), key, 1).numpy().astype("float64") for key in keys]
    for place, one in enumerate(drawn):
        assert abs(one.mean() - 0.5) < 5 * 0.5 / np.sqrt(size)
        shifted = np.corrcoef(one[:-1], one[1:])[0, 1]
        others = [np.corrcoef(one, other)[0, 1] for other in drawn[place + 1 :]]
        assert np.abs([shifted, *others]).max() < 5 / np.sqrt(size)


def test_the_same_key_gives_the_same_digits_and_the_encoders_pack_them(implementation):
    given, cut = gradient(10_000), lengths(4000, 6000)
    thresholds, scales = implementation.scale(given, cut, 2.5)
    parts, key = (given, cut, thresholds, scales), (7, 8, 9, 10)
    codes = implementation.ternarize(*parts, key, 2)
    np.testing.assert_array_equal(codes, implementation.ternarize(*parts, tf.constant(key, tf.int64), 2))
    np.testing.assert_array_equal(implementation.encode_bytes(*parts, key, 2), implementation.pack_bytes(codes, 2))
    words = implementation.encode_words(*parts, key, 3, 2)
    np.testing.assert_array_equal(words, implementation.pack_words(tf.cast(codes, tf.int32), 3, 2))


def test_zero_gradients_and_zero_scales_give_zero_digits(implementation):
    cut = lengths(100)
    assert not implementation.ternarize(tf.zeros(100), cut, *floats(0.0, 0.0), (1, 2), 1).numpy().any()
    assert not implementation.ternarize(tf.zeros(100), cut, *floats(1.0, 1.0), (1, 2), 1).numpy().any()
    codes = implementation.ternarize(tf.constant([2.0, -2.0]), lengths(2), *floats(np.inf, 2.0), (1, 2), 1)
    assert codes.numpy().tolist() == [1, -1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("levels", [1, 3])
def test_means_are_what_the_digits_say(implementation, dtype, levels):
    workers, cut = 3, lengths(700, 0, 300)
    rng = np.random.default_rng(1)
    each = rng.integers(-levels, levels + 1, (workers, 1000))
    scales = rng.uniform(0.5, 2, (workers, 3)).astype("float32")
    data = tf.stack([implementation.pack_bytes(tf.constant(one, tf.int8), levels) for one in each])
    spread = np.repeat(scales, cut.numpy(), axis=1)
    tolerance = {"float16": 1e-3, "bfloat16": 8e-3}.get(dtype, 1e-6)
    mean = implementation.mean_of_bytes(data, cut, scales, levels, tf.as_dtype(dtype))
    assert mean.dtype.name == dtype
    np.testing.assert_allclose(
        mean.numpy().astype("float64"), (each * spread).mean(0) / levels, rtol=tolerance, atol=tolerance
    )
    added = implementation.add_bytes(data, 1000, levels)
    np.testing.assert_array_equal(implementation.unpack_bytes(added, 1000, workers * levels), each.sum(0))
    of_sums = implementation.mean_of_bytes(
        added[None], cut, scales[:1], tf.constant(workers * levels), tf.as_dtype(dtype)
    )
    words = implementation.sum_bytes(data, 1000, levels)
    np.testing.assert_array_equal(implementation.unpack_words(words, 1000, workers, levels), each.sum(0))
    shared = implementation.mean_of_words(words, cut, scales[0], workers, levels, tf.as_dtype(dtype))
    np.testing.assert_array_equal(of_sums.numpy().astype("float64"), shared.numpy().astype("float64"))
    np.testing.assert_allclose(
        shared.numpy().astype("float64"), each.mean(0) * spread[0] / levels, rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize("size", [1e38, 3e38, 1e-30])
def test_the_largest_scales_round_as_all_do(implementation, size):
    gradient, lengths = tf.constant([size, -size, size, 0.0], tf.float32), tf.constant([4])
    thresholds, scales = implementation.scale(gradient, lengths, None)
    digits = implementation.ternarize(gradient, lengths, thresholds, scales, tf.constant([1, 2], tf.int64))
    assert digits.numpy().tolist() == [1, -1, 1, 0]
    rows = tf.repeat(implementation.pack_bytes(digits)[None], 3, axis=0)
    mean = implementation.mean_of_bytes(rows, lengths, tf.repeat(scales[None], 3, axis=0))
    np.testing.assert_allclose(mean, gradient, rtol=1e-6)
