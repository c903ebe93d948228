"""One contract for every schedule, the package's and one from outside; and the registry that knows them by name."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import virtual_workers
from exchanges import averages, gradients
from small_training import classification

import tf_terngrad as tt
from tf_terngrad.ternary import exchange
from tf_terngrad.ternary.cost import Link
from tf_terngrad.ternary.schedules import AUTOMATIC, SCHEDULES, choose, schedule_of


class Sums(tt.Schedule):
    """Digits as float32, added by one allreduce: as simple, and as large, as it gets. Nothing but public."""

    name = "float sums"
    largest_sum = 2**24

    def run(self, load):
        digits = tf.cast(load.digits(), tf.float32)
        return load.mean(load.transport.total(digits, f"{load.name}.sums"))

    def bytes(self, size, workers, levels=1):
        return 2 * (workers - 1) / workers * 4 * size


SUMS = Sums()
ALL = {**SCHEDULES, "auto": AUTOMATIC, SUMS.name: SUMS}


@pytest.fixture(params=ALL.values(), ids=ALL.keys())
def schedule(request):
    return request.param


@pytest.fixture
def registered():
    yield tt.register_schedule(SUMS)
    del SCHEDULES[SUMS.name]


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("levels", [1, 3, 127])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_worker_gets_the_average_of_the_same_digits(schedule, workers, levels, dtype):
    """That of bytes with shared scales is the oracle: its digits are unpacked one by one."""
    settings = tt.TernGrad(schedule=schedule, levels=levels, bucket_size=500)
    first, *others = averages(workers, settings, lambda worker: gradients(worker, dtype))
    oracle = averages(workers, dataclasses.replace(settings, schedule="bytes"), lambda w: gradients(w, dtype))[0]
    for mean, wanted, gradient in zip(first, oracle, gradients(0, dtype), strict=True):
        assert (mean.shape, mean.dtype) == (gradient.shape, gradient.dtype)
        largest = np.abs(wanted).max(initial=0)
        np.testing.assert_allclose(mean, wanted, atol=largest * (1e-6 if dtype == "float32" else 2e-3))
    for other in others:
        for mine, theirs in zip(first, other, strict=True):
            np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_in_one_worker_reaches_every_worker(schedule, bad):
    def of(worker):
        first, *others = gradients(worker)
        return [tf.tensor_scatter_nd_update(first, [[299, 19]], [bad]) if worker == 1 else first, *others]

    for means in averages(3, tt.TernGrad(schedule=schedule), of):
        assert np.isnan(means[0][299, 19])
        assert np.isfinite(means[3]).all()


def test_the_digits_of_all_ones_and_all_minus_ones_never_carry(schedule):
    for sign in (1.0, -1.0):
        for (mean,) in averages(5, tt.TernGrad(schedule=schedule, clip=None), lambda worker: [tf.fill([999], sign)]):  # noqa: B023
            np.testing.assert_array_equal(mean, np.full(999, sign))


def test_what_is_sent_is_what_it_says(schedule):
    size, workers, sent = 100_000, 4, []

    def send(network):
        exchange.average([tf.random.normal((size,))], tt.TernGrad(schedule=schedule), network, 0)
        sent.append(network.sent())

    virtual_workers.run(workers, send)
    scales = 4 * (1 + 4) * 2 * (workers - 1) / workers
    # shards end where blocks do: the last one is shorter, the others longer
    assert np.mean(sent) == pytest.approx(schedule.bytes(size, workers) + scales, rel=0.02)


def test_its_costs_are_numbers_that_grow(schedule):
    for workers in (2, 8, 200):
        times = [schedule.seconds(size, workers, 1, Link(rate=1e8)) for size in (1000, 100_000, 10_000_000)]
        assert times == sorted(times) and times[0] > 0
        assert schedule.steps(workers) >= 1 and schedule.exchanges(workers) >= 1


def test_more_than_it_holds_is_refused_before_anything_travels(schedule):
    if schedule.largest_sum == np.inf:
        assert schedule.holds(10**6, 127)
        return

    class Crowd(virtual_workers.VirtualTransport):
        def size(self):
            return tf.constant(int(schedule.largest_sum) // 127 + 1)

        def maximum(self, tensor, name):
            return tensor

    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"at most {schedule.largest_sum} for schedule="):
        exchange.average([tf.ones(10)], tt.TernGrad(schedule=schedule, levels=127), Crowd(None, 0), 0)


def test_private_scales_need_a_schedule_that_carries_them(schedule):
    if not schedule.private_scales:
        with pytest.raises(ValueError, match="scales of each worker's own need schedule='bytes'"):
            tt.TernGrad(schedule=schedule, share_scales=False)
        return
    settings = tt.TernGrad(schedule=schedule, share_scales=False, clip=None)
    for (mean,) in averages(3, settings, lambda worker: [tf.fill([2000], 1.0 + worker)]):
        np.testing.assert_allclose(mean, 2.0, rtol=1e-6)


def test_a_schedule_from_outside_trains(schedule):
    """Four workers, each with its part of the examples: the loss falls, and their weights stay alike to the bit."""
    x, y = classification()

    def train(network):
        rank = int(network.rank())
        weights = tf.Variable(tf.zeros((5, 3)))
        losses = []
        for step in range(30):
            with tf.GradientTape() as tape:
                logits = tf.cast(x[rank::4], tf.float32) @ weights
                loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y[rank::4], logits))
            (mean,) = exchange.average(
                [tape.gradient(loss, weights)], tt.TernGrad(schedule=schedule, smallest=1), network, step
            )
            weights.assign_sub(0.5 * mean)
            losses.append(float(loss))
        return losses, weights.numpy()

    (losses, weights), *others = virtual_workers.run(4, train)
    assert losses[-1] < 0.75 * losses[0]
    for _, theirs in others:
        np.testing.assert_array_equal(weights, theirs)


def test_the_name_of_a_registered_schedule_is_what_is_kept(registered):
    given = tt.TernGrad(schedule=SUMS)
    assert given == tt.TernGrad(schedule="float sums") and given.schedule == "float sums"
    assert json.loads(json.dumps(given.get_config()))["schedule"] == "float sums"
    assert keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(given)) == given
    assert tt.TernGrad(schedule=SCHEDULES["words"]) == tt.TernGrad(schedule="words")
    assert eval(repr(given), {"TernGrad": tt.TernGrad}) == given


def test_one_that_nobody_knows_serves_and_its_name_cannot_be_loaded():
    given = tt.TernGrad(schedule=SUMS)
    assert schedule_of(given.schedule) is SUMS and given.get_config()["schedule"] == "float sums"
    with pytest.raises(ValueError, match=r"'auto'.*schedule='float sums'.*register_schedule"):
        tt.TernGrad.from_config(given.get_config())


def test_the_automatic_one_takes_a_registered_one_where_it_costs_least():
    class Free(Sums):
        name = "free"
        codec = travel = 0.0

        def bytes(self, size, workers, levels=1):
            return 0.0

    before = choose(10**6, 4)
    signature = AUTOMATIC.signature
    free = tt.register_schedule(Free())
    try:
        assert choose(10**6, 4) is free is not before
        assert AUTOMATIC.signature != signature  # workers that have not registered it are told
    finally:
        del SCHEDULES["free"]
    assert choose(10**6, 4) is before


def test_what_cannot_be_registered_is_refused():
    class Words(Sums):
        name = "words"

    for wrong in (Words(), type("Auto", (Sums,), {"name": "auto"})()):
        with pytest.raises(ValueError, match="a name of its own"):
            tt.register_schedule(wrong)
        with pytest.raises(ValueError, match="a name of its own"):
            tt.TernGrad(schedule=wrong)
    for wrong in (Sums, "words", None):
        with pytest.raises(TypeError, match="register_schedule"):
            tt.register_schedule(wrong)
    for wrong in (Sums, None, 3):
        with pytest.raises(TypeError, match="schedule="):
            tt.TernGrad(schedule=wrong)
