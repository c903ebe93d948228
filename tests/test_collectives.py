"""Training by TensorFlow's own collectives: real workers that TF_CONFIG names. Their exchanges: see test_transport."""

import functools
import json
import os
import signal
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import test_lockstep as lockstep
from workers import WorkersFailed, run_workers

import tf_terngrad as tt
from tf_terngrad.ternary import collectives
from tf_terngrad.ternary.distributed import callbacks

run = functools.partial(run_workers, by="tensorflow")


def without_horovod(folder):
    """What a program does where Horovod is not installed; it goes on where it was left."""
    sys.modules["horovod"] = None
    keras.utils.set_random_seed(lockstep.rank())
    model = lockstep.network(seed=lockstep.rank())
    optimizer = tt.distributed.DistributedOptimizer(keras.optimizers.Adam(0.01), tt.TernGrad(smallest=1))
    model.compile(optimizer, "mse", metrics=[keras.metrics.AUC()])
    x, y = lockstep.examples()
    given = [callbacks.BroadcastVariables(), callbacks.AverageMetrics(), callbacks.Checkpoint(folder)]
    curves = [
        model.fit(x, y > 0, batch_size=lockstep.BATCH, epochs=epochs, verbose=0, callbacks=given).history
        for epochs in (2, 4)
    ]
    tt.distributed.check_replicas(model.variables + model.optimizer.variables)
    return curves, [weight.numpy() for weight in model.weights], int(model.optimizer.iterations)


def test_all_there_is_for_fit_without_horovod(tmp_path):
    (curves, weights, updates), second = run(without_horovod, tmp_path)
    assert (curves, updates) == (second[0], 4 * lockstep.BATCHES) and len(curves[1]["loss"]) == 2
    for one, other in zip(weights, second[1], strict=True):
        np.testing.assert_array_equal(one, other)


def in_a_loop():
    """Some steps by a tape in a graph, with averages as floats."""
    model, optimizer = lockstep.network(), keras.optimizers.SGD(0.1)
    x, y = lockstep.examples()

    @tf.function(autograph=False)
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x) - y) ** 2)
        tape = tt.distributed.DistributedGradientTape(tape)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)

    for number in range(lockstep.BATCHES):
        step(x[number * lockstep.BATCH :][: lockstep.BATCH], y[number * lockstep.BATCH :][: lockstep.BATCH])
    return [weight.numpy() for weight in model.weights]


def test_a_loop_gives_what_it_gives_on_horovod():
    first, second = run(in_a_loop)
    for one, other, of_horovod in zip(first, second, run_workers(in_a_loop)[0], strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(one, of_horovod)  # of two workers, sums have one order


def test_one_that_stops_or_has_less_data_ends_the_epoch_for_all():
    first, second = run(lockstep.stopped, 2, 1)
    lockstep.require_same(first, second)
    assert (first["updates"], first["epochs"]) == (lockstep.BATCHES + 3, 2)
    first, second = run(lockstep.uneven, [callbacks.AverageMetrics()])
    lockstep.require_same(first, second)
    assert (first["updates"], first["epochs"]) == (3 * lockstep.FEW, 3)
    first, second = run(lockstep.early, "before")
    lockstep.require_same(first, second, "curves")


def test_the_others_hear_of_an_error():
    first, second = run(lockstep.failing, "batch")
    assert "This worker ends, for another one has failed. worker 1: OSError: disk full" in first["error"]
    assert "OSError: disk full" in second["error"]


def told_apart(other):
    """Workers whose gradients have other shapes."""
    variable = tf.Variable(tf.zeros(3 + other * lockstep.rank()))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(variable)
    tt.distributed.DistributedGradientTape(tape).gradient(loss, variable)


def test_gradients_that_differ_are_refused_on_all():
    with pytest.raises(WorkersFailed) as failed:
        run(told_apart, 1)
    assert str(failed.value).count("The gradients must be the same on all workers. The first that differs: ") == 2


def heard():
    """What a worker hears, in `fit`, of one that its cluster has ended."""
    end = lockstep.At(lambda model: os.kill(os.getpid(), signal.SIGTERM), 2)
    raise AssertionError(f"heard: {lockstep.fitted([end])['error']}")


def test_sigterm_ends_a_worker_and_is_an_error_on_the_others():
    with pytest.raises(WorkersFailed) as failed:
        run_workers(heard, by="tensorflow", env={"TF_CPP_MIN_LOG_LEVEL": "3"})
    assert "AssertionError: heard: " in str(failed.value) and "Collective ops is aborted" in str(failed.value)
    assert f"died with exit code {-signal.SIGTERM}" in str(failed.value)


@pytest.fixture(autouse=True)
def nothing_is_known_of_the_cluster():
    collectives._place.cache_clear()
    yield
    collectives._place.cache_clear()


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}']
)
def test_what_names_no_worker_is_refused(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match=r"TF_CONFIG.*Received: "):
        tt.distributed.init()


def test_begun_too_late(monkeypatch):
    """As here, where tests have run much; nothing listens at the addresses."""
    cluster = {"cluster": {"worker": ["localhost:1", "localhost:2"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    tf.ones(1) + 1
    with pytest.raises(RuntimeError, match=r"run something before.*Call it behind the imports"):
        tt.distributed.init()
    assert not collectives.started()


def test_it_is_not_taken_before_it_has_begun():
    with pytest.raises(RuntimeError, match=r"tt\.distributed\.init\(\)"):
        tt.distributed.CollectiveTransport().ready()
