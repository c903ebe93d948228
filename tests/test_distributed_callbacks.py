"""What workers share beside gradients: the initial state, metrics, learning rates, and a look at whether they drift."""

import horovod.tensorflow as hvd
import keras
import numpy as np
import pytest
import tensorflow as tf
from workers import run_workers

import tf_terngrad as tt
from tf_terngrad.ternary.compressor import TernGrad
from tf_terngrad.ternary.distributed import DistributedOptimizer, broadcast_variables, callbacks, check_replicas
from tf_terngrad.ternary.distributed.agreement import parties

EXAMPLES = 16


def model_of_this_worker(optimizer):
    """Weights, BatchNorm statistics, seeds and optimizer state that are another on each worker."""
    keras.utils.set_random_seed(hvd.rank())
    layers = [
        keras.layers.Dense(8),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(1, name="head"),
    ]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(optimizer, "mse", metrics=["mae"])
    for variable in model.non_trainable_variables:
        if variable.dtype == "float32":
            variable.assign(variable + hvd.rank() + 0.5)
    return model


def data_of_this_worker():
    rng = np.random.default_rng(hvd.rank())
    return rng.normal(size=(EXAMPLES, 4)), rng.normal(size=(EXAMPLES, 1))


def values_of(model):
    """All but the state of the dropout's random numbers, which each worker has of its own."""
    variables = [*model.variables, *model.optimizer.variables]
    return [variable.numpy() for variable in variables if variable.name != "seed_generator_state"]


class Watch(keras.callbacks.Callback):
    """Notes the state before the first batch, the rate of each batch and the logs of each epoch."""

    def __init__(self):
        super().__init__()
        self.state, self.rates, self.logs = None, [], []

    def on_train_batch_begin(self, batch, logs=None):
        self.state = self.state or values_of(self.model)
        self.rates.append(float(self.model.optimizer.learning_rate))

    def on_epoch_end(self, epoch, logs=None):
        self.logs.append(dict(logs))


def fit(model, *given, epochs=1):
    model.fit(*data_of_this_worker(), batch_size=4, epochs=epochs, callbacks=list(given), verbose=0)
    return model


@pytest.mark.parametrize("root", [0, 1])
def test_training_begins_with_the_whole_state_of_one_worker(root):
    def together(root):
        model = model_of_this_worker(keras.optimizers.Adam(0.01 * (1 + hvd.rank())))
        fit(model)  # apart: each has moments of its own now
        DistributedOptimizer(model.optimizer, TernGrad(smallest=1))
        before, watch = values_of(model), Watch()
        fit(model, callbacks.BroadcastVariables(root), watch)
        return before, watch.state, [variable.numpy() for variable in model.trainable_variables]

    workers = run_workers(together, root)
    (_, state, weights), (_, other_state, other_weights) = workers
    for value, other, should, not_this in zip(state, other_state, workers[root][0], workers[1 - root][0], strict=True):
        np.testing.assert_array_equal(value, should)
        np.testing.assert_array_equal(other, should)
        assert not np.array_equal(should, not_this) or should == EXAMPLES // 4  # iterations
    for ours, theirs in zip(weights, other_weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("option", [{"epochs": 1}, {"steps_per_epoch": 1}])
def test_workers_with_other_numbers_of_epochs_or_batches_are_refused(option):
    def apart(option):
        model = model_of_this_worker(DistributedOptimizer(keras.optimizers.SGD(0.1)))
        mine = {name: value + hvd.rank() for name, value in option.items()}
        with pytest.raises(ValueError, match=r"workers \[0\] have 1 .* Give every worker as many examples"):
            model.fit(*data_of_this_worker(), batch_size=2, callbacks=[callbacks.BroadcastVariables()], **mine)

    run_workers(apart, option)


def test_an_optimizer_is_built_to_be_broadcast():
    def together():
        model = model_of_this_worker(DistributedOptimizer(keras.optimizers.SGD(0.1 * (1 + hvd.rank()), momentum=0.5)))
        fit(model, callbacks.BroadcastVariables())
        return float(model.optimizer.learning_rate)

    assert run_workers(together) == [pytest.approx(0.1)] * 2


def test_variables_of_any_type_are_broadcast():
    def together():
        kinds = ["bfloat16", "float16", "float64", "int8", "uint32", "bool", "complex64"]
        variables = [tf.Variable(tf.cast([hvd.rank(), 1 - hvd.rank()], kind)) for kind in kinds]
        variables += [tf.Variable(float(hvd.rank())), tf.Variable(tf.zeros((0, 3)))]
        broadcast_variables(variables, root_rank=1)
        with pytest.raises(ValueError, match=r"one of 0, 1\..*root_rank=2"):
            broadcast_variables(variables, root_rank=2)
        with pytest.raises(ValueError, match=r"weight: .*float32.* \(2,\); workers \[1\] have weight: .* \(3,\)"):
            broadcast_variables([tf.Variable(tf.zeros((2 + hvd.rank(),)), name="weight")])
        return [tf.cast(variable, tf.float32).numpy().tolist() for variable in variables]

    assert run_workers(together) == [[[1, 0]] * 7 + [1, []]] * 2


def test_a_model_that_would_train_apart_is_refused():
    def together():
        model = model_of_this_worker(keras.optimizers.SGD())
        with pytest.raises(ValueError, match=r"tt\.distributed\.DistributedOptimizer\(optimizer\)"):
            fit(model, callbacks.BroadcastVariables())

    run_workers(together)


def test_metrics_become_the_averages_of_all_workers():
    def together():
        x, y = data_of_this_worker()

        def watched(shared):
            in_front, behind = Watch(), Watch()
            keras.utils.set_random_seed(hvd.rank())  # dropout draws the same in both trainings
            model = model_of_this_worker(DistributedOptimizer(keras.optimizers.SGD()))
            given = [in_front, *shared, behind]
            history = model.fit(x, y, validation_data=(x, y), epochs=2, callbacks=given, verbose=0).history
            assert in_front.logs == behind.logs
            return behind.logs, history

        (own, _), (averaged, history) = watched([]), watched([callbacks.AverageMetrics()])
        return own, averaged, history

    (own, averaged, history), (others, others_averaged, _) = run_workers(together)
    assert averaged == others_averaged and own != others
    for epoch in range(2):
        assert set(averaged[epoch]) == {"loss", "mae", "val_loss", "val_mae"}
        for name, value in averaged[epoch].items():
            assert value == pytest.approx((own[epoch][name] + others[epoch][name]) / 2)
            assert history[name][epoch] == value


def test_logs_of_other_names_are_refused():
    def together():
        with pytest.raises(ValueError, match=r"\['loss'\], \['accuracy'\]"):
            callbacks.AverageMetrics().on_epoch_end(0, {["loss", "accuracy"][hvd.rank()]: 1.0})

    run_workers(together)


def test_replicas_that_drift_end_the_training_of_all():
    def together():
        class Drift(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                if hvd.rank() == 1 and batch == 2:
                    bias = self.model.layers[-1].bias
                    bias.assign(bias + 1e-7)

        batches = []
        count = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda batch, logs: batches.append(batch))
        for drifts in (False, True):
            model = model_of_this_worker(DistributedOptimizer(keras.optimizers.SGD(), TernGrad(smallest=1)))
            given = [callbacks.BroadcastVariables(), *[Drift()] * drifts, callbacks.CheckReplicas(every=2), count]
            try:
                fit(model, *given)
            except RuntimeError as error:
                return drifts, str(error), batches

    for drifts, message, batches in run_workers(together):
        assert drifts and batches == [0, 1, 2, 3] * 2
        assert "head/bias is not the same on workers [0] and workers [1]" in message


def test_parties_are_told_apart():
    assert parties([5, 7, 5, 5]) == {5: [0, 2, 3], 7: [1]}
    with pytest.raises(ValueError, match="every=0"):
        callbacks.CheckReplicas(every=0)


def test_the_learning_rate_warms_up_from_one_workers_to_that_of_all():
    def together():
        model = model_of_this_worker(DistributedOptimizer(keras.optimizers.SGD(0.2)))
        watch = Watch()
        fit(model, callbacks.WarmUpLearningRate(0.2, warmup_epochs=2), watch, epochs=3)
        return watch.rates, [logs["learning_rate"] for logs in watch.logs]

    for rates, of_epochs in run_workers(together):
        batches = EXAMPLES // 4
        warming = [0.1 + 0.1 * (batch + 1) / (2 * batches) for batch in range(2 * batches)]
        np.testing.assert_allclose(rates, warming + [0.2] * batches, rtol=1e-6)
        np.testing.assert_allclose(of_epochs, [0.15, 0.2, 0.2], rtol=1e-6)


def plain_model(rate=0.5):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


def rates(schedule, epochs=4, rate=0.5):
    watch = Watch()
    plain_model(rate).fit(
        np.ones((4, 2)), np.ones(4), batch_size=2, epochs=epochs, callbacks=[schedule, watch], verbose=0
    )
    return watch.rates


def test_a_schedule_multiplies_the_initial_rate():
    schedule = callbacks.ScheduleLearningRate
    assert rates(schedule(0.25, 0.5, start_epoch=1, end_epoch=3)) == [0.5, 0.5, 0.25, 0.25, 0.125, 0.125, 0.125, 0.125]
    assert rates(schedule(1.0, lambda epoch: 1 + epoch, staircase=False), epochs=2) == [1.0, 1.5, 2.0, 2.5]


def test_rates_that_cannot_be_set_are_refused():
    decay = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    with pytest.raises(TypeError, match="schedule"):
        rates(callbacks.ScheduleLearningRate(0.1, 0.5), rate=decay)
    with pytest.raises(ValueError, match="warmup_epochs=0"):
        callbacks.WarmUpLearningRate(0.1, warmup_epochs=0)
    stream = tf.data.Dataset.from_tensors((np.ones((2, 2)), np.ones(2))).repeat(3).filter(lambda x, y: True)
    with pytest.raises(ValueError, match="steps_per_epoch"):
        plain_model().fit(stream, shuffle=False, callbacks=[callbacks.WarmUpLearningRate(0.1)], verbose=0)


def test_sparse_training_with_ternary_gradients_is_the_same_on_all_workers():
    def together():
        keras.utils.set_random_seed(0)
        hidden = keras.layers.Dense(24, activation="relu", name="hidden")
        model = keras.Sequential([keras.Input((4,)), hidden, keras.layers.Dense(1)])
        tt.sparsify(model, strength=0.3)
        model.compile(DistributedOptimizer(keras.optimizers.SGD(0.1), TernGrad(smallest=1)), "mse")
        x = np.random.default_rng(hvd.rank()).normal(size=(64, 4))
        given = [callbacks.BroadcastVariables(), callbacks.CheckReplicas(every=20)]
        model.fit(x, 3 * np.maximum(x[:, :1], 0), batch_size=8, epochs=5, callbacks=given, verbose=0)
        small = tt.compact(model)
        return model.get_weights(), small.get_layer("hidden").units, small.get_weights()

    (weights, units, compact), (other_weights, other_units, other_compact) = run_workers(together)
    assert 0 < units < 24 and units == other_units
    for ours, theirs in zip([*weights, *compact], [*other_weights, *other_compact], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_one_worker_needs_no_exchange():
    def alone():
        model = model_of_this_worker(DistributedOptimizer(keras.optimizers.SGD(), TernGrad(smallest=1)))
        given = [callbacks.BroadcastVariables(), callbacks.AverageMetrics(), callbacks.CheckReplicas(every=1)]
        fit(model, *given)
        check_replicas(model.variables)
        return hvd.size()

    assert run_workers(alone, workers=1, env={}) == [1]
