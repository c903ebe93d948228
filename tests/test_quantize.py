"""Gradients as digits and digits as bytes, one at a time: the public functions."""

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

import tf_terngrad as tt
from tf_terngrad.ternary import quantize


def gradient(*shape):
    return tf.constant(np.random.default_rng(0).normal(size=shape), tf.float32)


def test_codes_have_the_gradients_shape_and_the_scale_its_clipped_maximum():
    given = gradient(30, 4, 5)
    codes, scale = tt.ternarize(given, clip=1.0, seed=(1, 2))
    assert (codes.shape, codes.dtype, scale.shape) == (given.shape, tf.int8, ())
    assert set(np.unique(codes)) == {-1, 0, 1}
    assert float(scale) == pytest.approx(given.numpy().std(), rel=1e-6)
    assert (np.sign(given) * codes.numpy() >= 0).all()


def test_a_shared_scale_is_used_and_given_back():
    given = gradient(100_000)
    codes, scale = tt.ternarize(given, clip=None, scale=20.0, seed=(1, 2))
    assert float(scale) == 20.0
    assert np.abs(codes.numpy()).mean() == pytest.approx(np.abs(given.numpy()).mean() / 20, rel=0.05)


def test_what_is_clipped_becomes_one_for_sure():
    given = np.array([1.0, -1.0] * 50 + [100.0], np.float32)
    codes, scale = tt.ternarize(tf.constant(given), clip=0.1, seed=(3, 4))
    assert float(scale) == pytest.approx(0.1 * given.std(), rel=1e-5)
    assert float(scale) < 1
    assert codes.numpy().tolist() == np.sign(given).tolist()


def test_a_mean_beyond_the_clip_is_the_threshold_in_its_place():
    given = np.array([1.0] * 99 + [100.0], np.float32)
    _, scale = tt.ternarize(tf.constant(given), clip=0.1, seed=(3, 4))
    assert float(scale) == pytest.approx(given.mean(), rel=1e-5)
    assert given.mean() > 0.1 * given.std()


@hypothesis.given(st.lists(st.integers(-1, 1), max_size=1000), st.booleans())
@hypothesis.settings(deadline=None, max_examples=100)
def test_unpack_is_the_inverse_of_pack(codes, matrix):
    shaped = tf.reshape(tf.constant(codes, tf.int8), (-1, 1) if matrix else (-1,))
    wire = tt.pack(shaped)
    assert (wire.dtype, len(wire)) == (tf.uint8, -(-len(codes) // 5))
    assert tt.unpack(wire, len(codes)).numpy().tolist() == codes


def test_a_tensor_can_be_the_seed_and_change_inside_a_graph():
    ternarize = tf.function(lambda given, seed: tt.ternarize(given, seed=seed)[0])
    given = gradient(1000)
    first, second = (ternarize(given, tf.constant([7, step], tf.int64)) for step in (0, 1))
    assert (first.numpy() != second.numpy()).any()
    np.testing.assert_array_equal(first, tt.ternarize(given, seed=(7, 0))[0])


@pytest.mark.parametrize("clip", [0, -1.0, float("nan"), float("inf"), "2.5", True])
def test_a_clip_that_is_not_positive_is_refused(clip):
    with pytest.raises(TypeError if clip in ("2.5", True) else ValueError, match=r"ternarize: .*clip="):
        tt.ternarize(gradient(3), clip=clip, seed=(1, 2))


@pytest.mark.parametrize("levels", [0, 128, 1.0, True, None])
def test_levels_that_digits_cannot_have_are_refused(levels):
    with pytest.raises(ValueError if levels in (0, 128) else TypeError, match=r"ternarize: .*levels="):
        tt.ternarize(gradient(3), seed=(1, 2), levels=levels)


@pytest.mark.parametrize(
    ("scale", "error", "message"),
    [
        (-1.0, tf.errors.InvalidArgumentError, "0 or more. Received: scale = -1"),
        (float("nan"), tf.errors.InvalidArgumentError, "0 or more. Received: scale = nan"),
        ([1.0, 2.0], ValueError, r"scalar.*shape \(2,\)"),
        (tf.ones((1,)), ValueError, r"scalar.*shape \(1,\)"),
        ("1", TypeError, "scale='1'"),
        (True, TypeError, "scale=True"),
    ],
)
def test_a_scale_that_no_gradients_share_is_refused(scale, error, message):
    with pytest.raises(error, match=message):
        tt.ternarize(gradient(3), scale=scale, seed=(1, 2))


def test_a_scale_in_a_graph_is_checked_when_it_runs():
    scaled = tf.function(lambda scale: tt.ternarize(gradient(3), scale=scale, seed=(1, 2))[1])
    assert float(scaled(tf.constant(7.0))) == 7
    with pytest.raises(tf.errors.InvalidArgumentError, match="Expected a scale of 0 or more"):
        scaled(tf.constant(-7.0))


def test_numpys_numbers_are_taken():
    given = gradient(100)
    found = tt.ternarize(given, np.float64(1.5), np.float32(9), seed=np.array([1, 2]), levels=np.int8(3))
    codes, _ = tt.ternarize(given, 1.5, 9.0, seed=(1, 2), levels=3)
    np.testing.assert_array_equal(found[0], codes)
    for size in (np.int64(100), tf.constant(100)):
        np.testing.assert_array_equal(tt.unpack(tt.pack(codes, np.int64(3)), size, np.int64(3)), codes)


@pytest.mark.parametrize(
    ("size", "error", "message"),
    [
        (-1, ValueError, "at least 0.*size=-1"),
        (3.0, TypeError, "size=3.0"),
        ("3", TypeError, "size='3'"),
        (True, TypeError, "size=True"),
        (None, TypeError, "size=None"),
        ([3], TypeError, "size="),
        (tf.constant([3]), TypeError, r"size of int32, shape \(1,\)"),
        (tf.constant(3.0), TypeError, "size of float32"),
        (6, tf.errors.InvalidArgumentError, "6 digits take 2 bytes"),
        (tf.constant(-1), tf.errors.InvalidArgumentError, "0 or more"),
    ],
)
def test_a_size_that_bytes_cannot_have_is_refused(size, error, message):
    with pytest.raises(error, match=message):
        tt.unpack(tt.pack(tf.constant([1, 0, -1])), size)


@pytest.mark.parametrize("seed", [(1,), (1, 2, 3, 4, 5), (), 7, np.ones((2, 2), int), "seed"])
def test_a_seed_of_another_size_is_refused(seed):
    with pytest.raises(ValueError, match=r"ternarize: expected `seed` to be two to four integers.*Received: seed="):
        tt.ternarize(gradient(3), seed=seed)


@pytest.mark.parametrize("seed", [None, object(), np.ones(2), np.ones(2, bool), ["a", "b"], np.array(["a", "b"])])
def test_a_seed_of_what_are_no_integers_is_refused(seed):
    with pytest.raises(TypeError, match=r"ternarize: expected `seed(\[0\])?` to be .*integer.*Received: seed"):
        tt.ternarize(gradient(3), seed=seed)


def test_the_parts_of_a_seed_may_be_tensors_and_have_64_bits():
    given = gradient(100)
    expected = tt.ternarize(given, seed=np.array([3, 2**40]))[0]
    for seed in ([3, 2**40], (tf.constant(3, tf.int16), 2**40), tf.constant([3, 2**40])):
        np.testing.assert_array_equal(tt.ternarize(given, seed=seed)[0], expected)


def test_what_is_not_of_floats_is_refused():
    with pytest.raises(TypeError, match="int32"):
        tt.ternarize(tf.constant([1, 2]), seed=(1, 2))
    with pytest.raises(TypeError, match="float32"):
        tt.pack(gradient(3))
    with pytest.raises(TypeError, match="int64"):
        tt.unpack(tf.constant([1], tf.int64), 1)


def test_lengths_that_miss_the_gradients_size_are_refused():
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
        quantize.scale(gradient(5), lengths=tf.constant([2, 2]))
    thresholds, scales = quantize.scale(gradient(5), lengths=tf.constant([2, 3]))
    assert thresholds.shape == scales.shape == (2,)
