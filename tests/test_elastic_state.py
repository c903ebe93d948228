"""Elastic jobs with Keras 3: what was committed goes on, by the workers that there are."""

import elastic_jobs
import keras
import numpy as np
import pytest
from workers import run_workers

from tf_terngrad.ternary.distributed import callback_states

HEAD = """
import os, signal, sys, time, zlib

import horovod.tensorflow as hvd
import keras
import numpy as np
import tensorflow as tf

import tf_terngrad as tt

hvd.init()
me = os.environ["HOROVOD_HOSTNAME"]
parts = [keras.Input((8,)), keras.layers.Dense(32, "relu"), keras.layers.Dropout(0.1), keras.layers.Dense(1)]
model = keras.Sequential(parts)
optimizer = tt.distributed.DistributedOptimizer(keras.optimizers.Adam(1e-3), compression=tt.TernGrad(smallest=1))


@tf.function
def sum_of_ones():
    return hvd.allreduce(tf.ones(3000), op=hvd.Sum, compression=tt.TernGrad())[-1]


def die():
    os.kill(os.getpid(), signal.SIGKILL)
"""

LOOP = """
@tf.function
def train_step(x):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(x, training=True) - tf.reduce_sum(x, 1, keepdims=True)) ** 2)
    optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)


@tt.distributed.elastic.run
def train(state):
    while state.batch < 9:
        if state.batch == 5 and me == "127.0.0.1":
            die()
        train_step(tf.random.normal([16, 8]))
        state.batch += 1
        state.sums.append(float(sum_of_ones()))
        if state.batch % 3 == 0:
            state.commit()


state = tt.distributed.elastic.KerasState(model, optimizer, sums=[])
train(state)
print("END", state.sums, int(optimizer.iterations), flush=True)
"""

FIT = """
model.compile(optimizer, "mse")
x = np.random.default_rng(0).normal(size=(480, 8)).astype("float32")
state = tt.distributed.elastic.KerasState(model, sums=[])


class Fate(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        if (state.epoch, batch) == (1, 4) and hvd.size() == 4 and hvd.rank() in (1, 3):
            die()  # a neighbour of each that is left, which then notices it at once
        if state.epoch == 2 and hvd.size() == 2 and hvd.rank() == 0 and os.path.exists(sys.argv[2]):
            os.replace(sys.argv[2], sys.argv[1])
            while state._hosts._host_messages.empty():  # until the launcher has told of the new host
                time.sleep(0.1)

    def on_train_batch_end(self, batch, logs=None):
        if int(optimizer.iterations) > len(state.sums):  # a batch that was not left out
            tt.distributed.check_replicas(model.trainable_variables)
            state.sums.append(float(sum_of_ones()))


@tt.distributed.elastic.run
def train(state):
    mine, early = x[hvd.rank() :: hvd.size()], keras.callbacks.EarlyStopping("loss", patience=99)
    callbacks = [
        tt.distributed.callbacks.CommitState(state, every=3),  # takes the last place by itself
        tt.distributed.callbacks.BroadcastVariables(),
        tt.distributed.callbacks.AverageMetrics(),
        Fate(),
        early,
    ]
    history = model.fit(mine, mine.sum(1), 8, epochs=4, verbose=0, shuffle=False, callbacks=callbacks)
    print("END", hvd.size(), history.epoch, early.best == min(history.history["loss"]), flush=True)


train(state)
weights = [variable.numpy().tobytes() for variable in model.trainable_variables]
print("HAS", state.sums, int(optimizer.iterations), zlib.crc32(b"".join(weights)), flush=True)
"""


def told(lines, word):
    return [line.partition(word)[2] for line in lines if line.startswith(word)]


def test_a_loop_goes_on_where_it_was_committed_when_a_worker_is_killed(tmp_path):
    lines = elastic_jobs.run(tmp_path, HEAD + LOOP, elastic_jobs.NAMES[:2])
    assert told(lines, "END ") == [f"{[2.0] * 3 + [1.0] * 6} 9"]


def test_fit_goes_on_when_two_of_four_workers_are_killed_and_one_comes(tmp_path):
    names = elastic_jobs.NAMES
    lines = elastic_jobs.run(tmp_path, HEAD + FIT, names[:4], names, least=2)
    assert told(lines, "END ") == ["3 [0, 1, 2, 3] True"] * 3
    has = told(lines, "HAS ")
    assert len(has) == 3 and len(set(has)) == 1
    sums, _, rest = has[0].partition("] ")
    sums = [float(each) for each in sums.strip("[").split(", ")]
    assert len(sums) == int(rest.split()[0])
    assert sums[:18] == [4.0] * 18 and sums[18] == 2.0  # 15 batches of the first epoch, three that were committed
    assert set(sums[18:48]) >= {2.0} and sums[-20:] == [3.0] * 20


def test_what_callbacks_remember_is_given_to_those_of_another_worker():
    def callbacks():
        early = keras.callbacks.EarlyStopping("loss", patience=3, restore_best_weights=True)
        return [keras.callbacks.ReduceLROnPlateau("loss"), early, keras.callbacks.EarlyStopping("loss", verbose=1)]

    leaders, others = callbacks(), callbacks()[:2]
    others[1].verbose = 1
    before = callback_states.remembered(leaders)
    leaders[1].best, leaders[1].wait, leaders[1].best_weights = 0.5, 2, [np.ones(3)]
    leaders[0].cooldown_counter = 4
    known = callback_states.changed(before, callback_states.remembered(leaders))
    leaders[1].best_weights[0][:] = 7  # what was told is a copy
    callback_states.remind(others, known)
    assert (others[1].best, others[1].wait, others[1].verbose) == (0.5, 2, 1)
    np.testing.assert_array_equal(others[1].best_weights, [np.ones(3)])
    assert others[0].cooldown_counter == 4


def refusals():
    import horovod.tensorflow as hvd

    import tf_terngrad as tt

    elastic, told = tt.distributed.elastic, []
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    for refused in (
        lambda: elastic.KerasState(keras.Sequential([keras.layers.Dense(1)]), keras.optimizers.SGD()),
        lambda: elastic.KerasState(model, [keras.optimizers.SGD(), keras.optimizers.SGD()]),
        lambda: hvd.elastic.run(lambda state: None)(elastic.KerasState(model)),
        lambda: tt.distributed.callbacks.CommitState(model),
    ):
        with pytest.raises((TypeError, ValueError, RuntimeError)) as caught:
            refused()
        told.append(str(caught.value))
    state = elastic.KerasState(model, seen=[])
    state.epoch = 3
    state.seen.append(1)
    state.restore()  # to the beginning, also what was changed in place
    return told, (state.epoch, state.seen)


def test_a_state_refuses_what_it_cannot_keep():
    (told, kept), _ = run_workers(refusals)
    for error, expected in zip(
        told, ("is built", "are built", "tt.distributed.elastic.run", "KerasState"), strict=True
    ):
        assert expected in error
    assert kept == (0, [])
