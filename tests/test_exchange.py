"""What an exchange gives: averages, bit-identical on all workers, by every schedule."""

import dataclasses
import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
import virtual_workers
from exchanges import SHAPES, averages, gradients

import tf_terngrad.ternary.exchange as exchange
from tf_terngrad.ternary import partition
from tf_terngrad.ternary.compressor import TernGrad
from tf_terngrad.ternary.layout import digits_per_byte
from tf_terngrad.ternary.schedules import SCHEDULES

SETTINGS = {
    "words": TernGrad(schedule="words"),
    "bytes": TernGrad(schedule="bytes"),
    "shards": TernGrad(schedule="shards"),
    "auto": TernGrad(),
    "private": TernGrad(share_scales=False),
    "levels": TernGrad(schedule="shards", levels=3),
    "sums that no byte holds": TernGrad(schedule="shards", levels=127),
    "buckets": TernGrad(schedule="words", bucket_size=100),
    "many buckets": TernGrad(schedule="bytes", levels=2, bucket_size=1000, share_scales=False),
}


@pytest.fixture(params=SETTINGS.values(), ids=SETTINGS.keys())
def settings(request):
    return request.param


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_every_worker_gets_the_same_bits_in_the_same_shapes(settings, workers):
    first, *others = averages(workers, settings)
    for mean, gradient in zip(first, gradients(0), strict=True):
        assert (mean.shape, mean.dtype) == (gradient.shape, gradient.dtype)
    for other in others:
        for mine, theirs in zip(first, other, strict=True):
            np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_every_float_keeps_its_dtype(settings, dtype):
    (means,) = {
        tuple(mean.dtype.name for mean in means) for means in averages(2, settings, lambda w: gradients(w, dtype))
    }
    assert set(means) == {dtype}


def test_the_average_is_right_on_average(settings):
    """The mean of many exchanges of the same gradients comes as close as its variance lets it.

    Each gradient is there four times, which is as good as four times as many rounds.
    """
    unclipped, workers, rounds = dataclasses.replace(settings, clip=None), 3, 15
    every = [[tf.concat([part] * 4, 0) for part in gradients(worker)] for worker in range(workers)]
    means = [averages(workers, unclipped, every.__getitem__, step)[0] for step in range(rounds)]
    for position in range(len(SHAPES)):
        values = np.array([each[position] for each in every])
        if values.size:
            found = np.mean([mean[position].numpy() for mean in means], axis=0)
            # a digit's standard deviation is at most half a step between levels
            bound = 0.5 * np.abs(values).max() / settings.levels / np.sqrt(workers * rounds)
            assert np.abs(found - values.mean(0)).max() < 5 * bound
            assert np.abs(np.mean(found - values.mean(0))) < 5 * bound / np.sqrt(found.size)


def test_schedules_that_share_scales_agree_to_the_bit():
    first, *others = (averages(4, dataclasses.replace(TernGrad(), schedule=name))[0] for name in SCHEDULES)
    for other in others:
        for mine, theirs in zip(first, other, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_in_one_worker_reaches_every_worker(settings, bad):
    def of(worker):
        first, *others = gradients(worker)
        return [tf.tensor_scatter_nd_update(first, [[299, 19]], [bad]) if worker == 1 else first, *others]

    for means in averages(3, settings, of):
        assert np.isnan(means[0][299, 19])
        assert np.isfinite(means[3]).all()


def test_zero_gradients_stay_zero(settings):
    for means in averages(2, settings, lambda worker: [tf.zeros((100,)), tf.zeros(())]):
        assert not any(mean.numpy().any() for mean in means)


def test_nothing_to_average_needs_no_network():
    assert exchange.average([], TernGrad(), None, 0) == []


def test_steps_and_seeds_draw_other_digits():
    first = averages(2, TernGrad())[0][0].numpy()
    assert (first == averages(2, TernGrad())[0][0].numpy()).all()
    assert (first != averages(2, TernGrad(), step=6)[0][0].numpy()).any()
    assert (first != averages(2, TernGrad(seed=1))[0][0].numpy()).any()


@pytest.mark.parametrize("workers", [2, 4, 8])
@pytest.mark.parametrize("levels", [1, 3])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_what_travels_is_what_the_cost_model_says(schedule, workers, levels):
    size, sent = 100_000, {}

    def send(network):
        settings = TernGrad(schedule=schedule, levels=levels)
        exchange.average([tf.random.normal((size,))], settings, network, 0)
        sent[int(network.rank())] = network.sent()

    virtual_workers.run(workers, send)
    scales = 4 * 2 * (workers - 1) / workers
    expected = SCHEDULES[schedule].bytes(size, workers, levels) + scales
    # shards end where blocks do: the last one is shorter, the others longer
    assert np.mean(list(sent.values())) == pytest.approx(expected, rel=0.02)


def test_shards_cover_everything_once_and_end_with_blocks():
    for workers in (1, 2, 5, 64, 200):
        for size in (0, 1, 319, 8640, 100_000, 5_000_000):
            shards = partition.shard_sizes(size, tf.constant(workers), 1).numpy()
            assert len(shards) == workers
            assert shards.sum() == size
            of_sums = 64 * digits_per_byte(min(workers, 127))
            assert all(shard % 320 == 0 and shard % of_sums == 0 for shard in shards[shards > 0][:-1])


@hypothesis.given(st.integers(0, 10**7), st.integers(1, 300), st.integers(1, 127))
def test_shards_are_balanced(size, workers, levels):
    """No worker sums more than its share, but for less than the block that a shard has to end with."""
    shards = partition.shard_sizes(size, tf.constant(workers), levels).numpy()
    in_bytes, in_sums = (64 * digits_per_byte(most) for most in (levels, min(workers * levels, 127)))
    assert shards.sum() == size
    assert shards.max() < size / workers + math.lcm(in_bytes, in_sums)


def test_more_workers_than_two_bytes_hold_are_refused_before_anything_travels():
    class Crowd:
        size = staticmethod(lambda: tf.constant(257))
        rank = staticmethod(lambda: tf.constant(0))
        maximum = staticmethod(lambda tensor, name: tensor)

    with pytest.raises(tf.errors.InvalidArgumentError, match="at most 32512 for schedule='shards'"):
        exchange.average([tf.ones(10)], TernGrad(schedule="shards", levels=127), Crowd(), 0, "mine")


@pytest.mark.parametrize("settings", [TernGrad(), TernGrad(share_scales=False)], ids=["shared", "private"])
@pytest.mark.parametrize("one, other", [([200, 100, 300], [100, 300, 200]), ([1000, 2000, 1000], [1001, 1998, 1001])])
def test_gradients_in_another_order_are_refused_on_all_workers(settings, one, other):
    def of(network):
        sizes = one if network.rank() == 0 else other
        with pytest.raises(tf.errors.InvalidArgumentError, match="differ"):
            exchange.average([tf.ones(size) for size in sizes], settings, network, 0)

    virtual_workers.run(2, of)


def test_settings_that_differ_are_refused_on_all_workers():
    def of(network):
        with pytest.raises(tf.errors.InvalidArgumentError, match="equal levels"):
            exchange.average([tf.ones(9)], TernGrad(schedule="words", levels=60 + int(network.rank())), network, 0)

    virtual_workers.run(2, of)


def test_buckets_cover_each_tensor_and_never_two():
    lengths = partition.bucket_lengths(tf.constant([5, 0, 6, 2]), 3).numpy().tolist()
    assert lengths == [3, 2, 0, 3, 3, 2]


def test_exchanges_of_other_names_draw_other_random_bits():
    def averages(network):
        gradient, settings = tf.fill([2000], 0.5), TernGrad(clip=None)
        values = [tf.concat([gradient, [1.0]], 0)]
        return [exchange.average(values, settings, network, 1, name)[0].numpy() for name in ("a", "b", "a")]

    for one, other, again in virtual_workers.run(2, averages):
        np.testing.assert_array_equal(one, again)
        assert 0.4 < np.mean(one != other) < 0.8  # of the sums of two: all but 3/8 of them
