"""What goes wrong in one worker ends as an error in all of them: never a hang, never silence."""

import re
import time

import horovod.tensorflow as hvd
import keras
import numpy as np
import pytest
import tensorflow as tf
from workers import WorkersFailed, run_workers

import tf_terngrad as tt

SETTINGS = [{"schedule": "words"}, {"schedule": "bytes"}, {"schedule": "bytes", "share_scales": False}]
SETTINGS += [{"schedule": "shards"}, {}]


def reduce_others(settings, sizes):
    hvd.allreduce(tf.ones(sizes[hvd.rank()]), compression=tt.TernGrad(**settings))


@pytest.mark.parametrize(
    "sizes", [(2000, 3000), (2000, 4000), (2000, 2001), (2000, 1999), ((40, 50), (50, 40))], ids=str
)
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_gradient_of_another_shape_is_an_error_everywhere(settings, sizes):
    with pytest.raises(WorkersFailed) as failed:
        run_workers(reduce_others, settings, sizes)
    assert str(failed.value).count("raised") == 2
    assert "did not return" not in str(failed.value)


def in_a_tape(distributed, gradient):
    """What a distributed tape makes of a gradient."""
    variable = tf.Variable(tf.zeros_like(gradient))
    with tf.GradientTape() as tape:
        target = tf.reduce_sum(variable * gradient)
    return distributed(tape, compression=tt.TernGrad()).gradient(target, [variable])[0]


def by_an_optimizer(gradient):
    """The step of a Keras optimizer."""
    weight = keras.Variable(np.zeros(gradient.shape, "float32"), name="weight")
    tt.distributed.DistributedOptimizer(keras.optimizers.SGD(1.0), tt.TernGrad()).apply([gradient], [weight])
    return weight.value


CALLS = {
    "allreduce": lambda gradient: hvd.allreduce(gradient, compression=tt.TernGrad()),
    "allreduce in a graph": lambda gradient: tf.function(hvd.allreduce)(gradient, compression=tt.TernGrad()),
    "grouped_allreduce": lambda gradient: hvd.grouped_allreduce([tf.ones(9), gradient], compression=tt.TernGrad())[1],
    "Horovod's tape": lambda gradient: in_a_tape(hvd.DistributedGradientTape, gradient),
    "our tape": lambda gradient: in_a_tape(tt.distributed.DistributedGradientTape, gradient),
    "our optimizer": by_an_optimizer,
}


def test_as_many_elements_in_another_shape_are_an_error_everywhere_by_every_call():
    def together():
        errors = {}
        for name, call in CALLS.items():
            with pytest.raises((tf.errors.InvalidArgumentError, ValueError)) as caught:
                call(tf.ones([(40, 50), (50, 40)][hvd.rank()]))
            errors[name] = str(caught.value)
        return errors

    for rank, errors in enumerate(run_workers(together)):
        for name, error in errors.items():
            assert "differ" in error, (name, error)
            assert re.search(["40,? 50", "50,? 40"][rank], error), (name, error)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_on_one_worker_reaches_all_by_every_call(value):
    def together():
        mine = tf.one_hot(7, 3000, on_value=value if hvd.rank() == 1 else 1.0)
        rows = tf.IndexedSlices(tf.reshape(mine, (3, 1000)), tf.range(3) + hvd.rank(), tf.constant([9, 1000]))
        results = {name: call(mine).numpy() for name, call in CALLS.items()}
        return results, hvd.allreduce(rows, compression=tt.TernGrad()).values.numpy()

    for results, rows in run_workers(together):
        for name, result in results.items():
            assert np.isnan(result).all(), name
        assert np.isnan(rows).all(axis=1).tolist() == [False, True, False, False]


def reduce_others_of_one_size(settings):
    """As many elements in all, otherwise shared out."""
    from tf_terngrad.ternary import exchange
    from tf_terngrad.ternary.horovod import HorovodTransport

    parts = [tf.ones(size) for size in [(1500, 2500), (2500, 1500)][hvd.rank()]]
    exchange.average(parts, tt.TernGrad(**settings), HorovodTransport(), 1)


@pytest.mark.parametrize("settings", [{"schedule": name} for name in ("words", "bytes", "shards")], ids=str)
def test_tensors_in_another_order_are_an_error_everywhere(settings):
    with pytest.raises(WorkersFailed, match="same shapes, in the same order") as failed:
        run_workers(reduce_others_of_one_size, settings)
    assert str(failed.value).count("same shapes, in the same order") >= 2


def stop_answering(call, seconds):
    if hvd.rank() == 1:
        time.sleep(seconds)
    CALLS[call](tf.ones(2000))


@pytest.mark.parametrize("call", ["allreduce", "our optimizer"])
def test_a_worker_that_stops_answering_is_named(call):
    """Horovod's guard, with times for a test; by itself it warns after a minute, and waits on."""
    env = {"HOROVOD_STALL_CHECK_TIME_SECONDS": "1", "HOROVOD_STALL_SHUTDOWN_TIME_SECONDS": "3"}
    with pytest.raises(WorkersFailed) as failed:
        run_workers(stop_answering, call, 20, env=env)
    assert "Missing ranks:\n1!: [" in str(failed.value)
    assert "Will shutdown" in str(failed.value)
