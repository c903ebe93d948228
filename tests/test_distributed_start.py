"""How a training on real workers begins: what is handed out, what stays each worker's own, and what is refused."""

import horovod.tensorflow as hvd
import keras
import numpy as np
import pytest
import tensorflow as tf
from workers import run_workers

from tf_terngrad.ternary.compressor import TernGrad
from tf_terngrad.ternary.distributed import DistributedOptimizer, callbacks, check_replicas, exchange_state
from tf_terngrad.ternary.distributed.seeds import stream
from tf_terngrad.ternary.distributed.start import settings_of

schedules = keras.optimizers.schedules


def fit(model, *given, **options):
    rng = np.random.default_rng(hvd.rank())
    data = rng.normal(size=(8, 4)), rng.normal(size=(8, 1))
    return model.fit(*data, batch_size=4, verbose=0, callbacks=list(given), **options)


def dense(optimizer, *layers):
    model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(1)])
    model.compile(DistributedOptimizer(optimizer), "mse")
    return model


def begin_otherwise():
    """What each worker has otherwise, and what all of them are told."""
    one = hvd.rank() == 1
    momentum = keras.optimizers.SGD(0.1, momentum=0.9 - 0.2 * one)
    decay = keras.optimizers.SGD(schedules.CosineDecay(0.1, 16 + hvd.rank()))
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(beta_1=0.9 - 0.2 * one))
    backup = [keras.callbacks.BackupAndRestore("nowhere")]
    metrics = [callbacks.AverageMetrics()]
    return [
        (momentum, [], {}, r"workers \[0\] have SGD: momentum=0.9; workers \[1\] have SGD: momentum=0.7"),
        (decay, [], {}, r"SGD: learning_rate=.*'decay_steps': 16.*'decay_steps': 17"),
        (scaled, [], {}, r"Adam: beta_1=0.9; workers \[1\] have Adam: beta_1=0.7"),
        (None, backup * one, {}, r"BackupAndRestore \(of workers \[1\]\).*callbacks.Checkpoint\(folder\) in its place"),
        (None, backup, {}, r"BackupAndRestore \(of workers \[0, 1\]\).*callbacks.Checkpoint\(folder\) in its place"),
        (None, metrics * one, {}, r"exchange something.*workers \[1\] have AverageMetrics, Broadcast"),
        (
            None,
            [],
            {"initial_epoch": 2 * one},
            r"workers \[0\] have epoch 0; workers \[1\] have epoch 2",
        ),
        (None, [], {"initial_epoch": 9 * one}, r"workers \[0\] have epoch 0; workers \[1\] have none, all being over"),
    ]


def test_a_start_that_differs_is_refused_on_all_workers_before_the_first_step():
    def together():
        for optimizer, given, options, told in begin_otherwise():
            model = dense(optimizer or keras.optimizers.SGD(0.1))
            before = model.get_weights()
            with pytest.raises(ValueError, match=told):
                fit(model, *given, callbacks.BroadcastVariables(), epochs=3, **options)
            assert int(model.optimizer.iterations) == 0, told
            assert hvd.rank() or all(map(np.array_equal, model.get_weights(), before))
        # What differs and is handed out, or does not matter, is no reason.
        fit(dense(keras.optimizers.SGD(0.1 + hvd.rank())), callbacks.BroadcastVariables())
        fit(dense(keras.optimizers.SGD(lambda: 0.1)), callbacks.BroadcastVariables())

    run_workers(together)


def test_settings_are_the_same_text_in_another_process():
    class Halves(schedules.LearningRateSchedule):
        def __call__(self, step):
            return 0.5

    assert settings_of([keras.optimizers.SGD(Halves())]) == ["SGD: settings that cannot be told"]
    by_function = settings_of([keras.optimizers.SGD(lambda: 0.1)])  # Keras writes down its code, if it finds it
    assert "SGD: learning_rate=a function" in by_function or by_function == ["SGD: settings that cannot be told"]
    assert not [line for line in settings_of([keras.optimizers.Adam(0.3)]) if "learning_rate" in line or "name" in line]


def masks_by(model):
    return hvd.allgather_object([layer(tf.ones((2, 64)), training=True).numpy() for layer in model.layers[:2]])


def test_dropout_is_another_on_each_worker_and_goes_on():
    def together(alike):
        keras.utils.set_random_seed(0 if alike else hvd.rank())
        model = dense(keras.optimizers.SGD(0.1), keras.layers.Dropout(0.5), keras.layers.GaussianNoise(1.0))
        states = [variable for variable in model.variables if variable.name == "seed_generator_state"]
        drawn = keras.random.SeedGenerator(1)
        before = [state.numpy().tolist() for state in states]
        given = callbacks.BroadcastVariables()
        fit(model, given)
        after = [state.numpy().tolist() for state in states]
        different = not any(map(np.array_equal, *masks_by(model)))
        everywhere = hvd.allgather_object(float(keras.random.uniform((), seed=None)))
        once_more = [state.numpy().tolist() for state in states]
        fit(model, given)
        again = [state.numpy().tolist() for state in states]
        fit(model, callbacks.BroadcastVariables(same_seeds=True))
        same = all(map(np.array_equal, *masks_by(model)))
        assert different and same and len(set(everywhere)) == 2 and drawn is not None
        assert [seed for seed, _ in again] == [seed for seed, _ in once_more], "a second fit has changed the streams"
        return before, after

    for alike in (True, False):
        for rank, (before, after) in enumerate(run_workers(together, alike)):
            own = [stream(state, rank)[0] if alike and rank else state[0] for state in before]
            assert [seed for seed, _ in after] == own


class Adversaries(keras.Model):
    """Two networks, each with an optimizer of its own."""

    def __init__(self):
        super().__init__()
        self.first = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])
        self.second = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])

    def train_step(self, data):
        x, y = data
        for network, optimizer in [(self.first, self.held["first"]), (self.second, self.other)]:
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(network(x) - y))
            optimizer.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)
        return {"loss": loss}


def test_all_optimizers_of_a_model_are_handed_out():
    def together(compiled, loaded):
        keras.utils.set_random_seed(hvd.rank())
        model = Adversaries()
        model.compile(**compiled)
        optimizers = [DistributedOptimizer(keras.optimizers.Adam(0.1 + hvd.rank()), TernGrad(smallest=1)) for _ in "12"]
        model.held, model.other = {"first": optimizers[0]}, optimizers[1]
        if hvd.rank() == 0 and loaded:  # as from a file that only this worker has
            for optimizer, network in zip(optimizers, [model.first, model.second], strict=True):
                optimizer.build(network.trainable_variables)
                for variable in optimizer.variables[2:]:
                    variable.assign(np.full(variable.shape, 1e-3))
                exchange_state(optimizer).step.assign(7)
        fit(model, callbacks.BroadcastVariables(), epochs=2)
        shared = [*model.variables, *model.other.variables, *model.held["first"].variables]
        check_replicas([*shared, *exchange_state(model.other).variables])
        return int(exchange_state(model.other).step) if loaded else 11

    for compiled, loaded in [({"optimizer": None}, True), ({}, True), ({"optimizer": None}, False)]:
        assert run_workers(together, compiled, loaded) == [11, 11]


def test_optimizers_are_named_where_no_attribute_holds_them():
    def together():
        hidden = DistributedOptimizer(keras.optimizers.SGD(0.1 * (1 + hvd.rank())))

        class Own(keras.Model):
            def train_step(self, data):
                with tf.GradientTape() as tape:
                    loss = tf.reduce_mean(tf.square(self(data[0]) - data[1]))
                hidden.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
                return {"loss": loss}

        x = keras.Input((4,))
        model = Own(x, keras.layers.Dense(1)(x))
        model.compile(optimizer=None)
        fit(model, callbacks.BroadcastVariables(optimizers=hidden))
        check_replicas([*model.variables, *hidden.variables])
        with pytest.raises(TypeError, match="optimizers='adam'"):
            fit(model, callbacks.BroadcastVariables(optimizers="adam"))
        plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        plain.compile(optimizer=None, loss="mse")
        with pytest.raises(ValueError, match="has no optimizer"):
            fit(plain, callbacks.BroadcastVariables())

    run_workers(together)


class Late(keras.Model):
    """Its layers are built by the first batch."""

    def __init__(self):
        super().__init__()
        self.layer, self.last = keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)

    def call(self, x):
        return self.last(self.layer(x))


def test_what_the_first_batch_builds_is_handed_out():
    def together():
        keras.utils.set_random_seed(hvd.rank())
        for make in (Late, lambda: keras.Sequential([keras.layers.Dense(8), keras.layers.Dense(1)])):
            model = make()
            optimizer = DistributedOptimizer(keras.optimizers.Adam(0.1), TernGrad(smallest=1))
            model.compile(optimizer, "mse")
            fit(model, callbacks.BroadcastVariables(), callbacks.CheckReplicas(every=1))
            check_replicas([*model.variables, *optimizer.variables, *exchange_state(optimizer).variables])
            assert len(model.variables) == 4 and int(optimizer.iterations) == 2

    run_workers(together)
