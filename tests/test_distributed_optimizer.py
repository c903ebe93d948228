"""Keras optimizers among real workers: against one worker with the joint batch, and bit by bit against each other."""

from unittest import mock

import horovod.tensorflow as hvd
import keras
import numpy as np
import pytest
from distributed_training import BATCH, STEPS, differ, joint_batches, mine_of_all, network, trained
from workers import run_workers

import tf_terngrad as tt
from tf_terngrad.ternary import codec
from tf_terngrad.ternary.compressor import TernGrad
from tf_terngrad.ternary.distributed import DistributedOptimizer, callbacks
from tf_terngrad.ternary.horovod import HorovodTransport

OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "clipnorm": lambda: keras.optimizers.SGD(0.5, clipnorm=0.02, weight_decay=0.01, loss_scale_factor=128.0),
    "Adam with EMA": lambda: keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=3),
    "accumulation": lambda: keras.optimizers.SGD(0.5, gradient_accumulation_steps=2, clipvalue=0.01),
    "loss scaling": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.5)),
    "loss scaling with accumulation": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.5, gradient_accumulation_steps=2)
    ),
    "several": lambda: keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(keras.optimizers.SGD(0.1), {".*bias": keras.optimizers.Adam(0.01)})
    ),
}


# The others refuse sparse gradients in Keras, or treat rows that come twice as two gradients; ours come once.
EMBEDDING = {"momentum", "loss scaling"}


def trained_together(name, compression, **compiled):
    optimizer = DistributedOptimizer(OPTIMIZERS[name](), compression)
    return trained(network(name in EMBEDDING), optimizer, mine_of_all(), BATCH // 2, **compiled)


def trained_alone(name):
    return trained(network(name in EMBEDDING), OPTIMIZERS[name](), joint_batches(), BATCH)


def test_two_workers_with_half_the_batch_are_one_with_the_whole():
    def together():
        results = {name: trained_together(name, None) for name in OPTIMIZERS}
        results["eager"] = trained_together("momentum", None, run_eagerly=True)
        results["two steps at once"] = trained_together("momentum", None, steps_per_execution=2)
        return results

    alone = {name: trained_alone(name) for name in OPTIMIZERS}
    alone |= {"eager": alone["momentum"], "two steps at once": alone["momentum"]}
    first, second = run_workers(together)
    for name, weights in first.items():
        assert not differ(weights, second[name]), name
        for ours, theirs in zip(weights, alone[name], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-6, err_msg=name)


def test_ternary_gradients_keep_the_workers_bit_identical():
    def together():
        return {name: trained_together(name, TernGrad(smallest=1)) for name in OPTIMIZERS}

    first, second = run_workers(together)
    for name, weights in first.items():
        assert not differ(weights, second[name]), name
        assert differ(weights, [variable.numpy() for variable in network(name in EMBEDDING).variables]), name
        assert all(np.isfinite(weight).all() for weight in weights)


def test_half_precision_skips_a_step_on_all_workers_if_one_has_no_finite_gradient():
    def together():
        keras.config.set_dtype_policy("mixed_float16")
        try:
            model = network()
            optimizer = DistributedOptimizer(keras.optimizers.SGD(0.1), TernGrad(smallest=1))
            accumulating = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
            DistributedOptimizer(accumulating, TernGrad(smallest=1))
            return [scaled_training(model, one) for one in (optimizer, accumulating)]
        finally:
            keras.config.set_dtype_policy("float32")

    def scaled_training(model, optimizer):
        x, y = mine_of_all()
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        weight = np.ones(len(y))
        weight[BATCH // 2 * hvd.rank() + 1] = np.inf  # in the first batch of one, in the second of the other
        before = model.get_weights()
        model.fit(x[:BATCH], y[:BATCH], sample_weight=weight[:BATCH], batch_size=BATCH // 2, verbose=0, shuffle=False)
        skipped = not differ(model.get_weights(), before)
        model.fit(x, y, batch_size=BATCH // 2, verbose=0)
        return skipped, float(model.optimizer.dynamic_scale), int(model.optimizer.iterations), model.get_weights()

    for first, second in zip(*run_workers(together), strict=True):
        assert not differ(first[-1], second[-1])
        assert first[:-1] == second[:-1]
        skipped, scale, steps = first[:-1]
        assert skipped and scale == 2.0**13
    assert steps == STEPS // 2


def test_a_window_of_accumulation_costs_one_exchange():
    def exchanges(optimizer):
        count = [0]
        original = HorovodTransport.total

        def counted(self, tensor, name):
            count[0] += 1
            return original(self, tensor, name)

        HorovodTransport.total = counted
        try:
            trained(network(), DistributedOptimizer(optimizer), mine_of_all(), BATCH // 2, run_eagerly=True)
        finally:
            HorovodTransport.total = original
        return count[0]

    def together():
        makers = (lambda optimizer: optimizer, keras.optimizers.LossScaleOptimizer)
        return [exchanges(make(keras.optimizers.SGD(0.1, gradient_accumulation_steps=3))) for make in makers]

    assert run_workers(together) == [[STEPS // 3] * 2] * 2


@pytest.mark.parametrize("schedule", ["words", "bytes", "shards"])
def test_the_codec_of_gpus_serves_in_fit_where_keras_has_autograph_off(schedule):
    def together():
        with mock.patch.object(codec, "implementation", lambda: "tensorflow"):
            optimizer = DistributedOptimizer(keras.optimizers.SGD(0.1), TernGrad(smallest=1, schedule=schedule))
            return trained(network(), optimizer, mine_of_all(), BATCH // 2), network().get_weights()

    (first, start), (second, _) = run_workers(together)
    assert not differ(first, second) and differ(first, start)


def test_one_worker_exchanges_nothing():
    def alone():
        keras.utils.set_random_seed(0)
        data = joint_batches()
        distributed = DistributedOptimizer(keras.optimizers.SGD(0.1), TernGrad(smallest=1))
        return [trained(network(True), one, data, BATCH) for one in (distributed, keras.optimizers.SGD(0.1))]

    ((ours, theirs),) = run_workers(alone, workers=1, env={})
    assert not differ(ours, theirs)


def test_a_process_set_trains_by_itself():
    def together():
        some = hvd.add_process_set([0, 2])
        model = network(embeds=True)
        model.layers[-1].bias.assign([hvd.rank()] * 3)
        joined, weights = hvd.rank() != 1, []
        if joined:
            optimizer = DistributedOptimizer(keras.optimizers.SGD(0.1), TernGrad(smallest=1, process_set=some))
            model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
            x, y = (values[hvd.rank() :: 3] for values in joint_batches())
            given = [
                callbacks.BroadcastVariables(2, some),
                callbacks.CheckReplicas(every=2, process_set=some),
                callbacks.AverageMetrics(some),
            ]
            loss = model.fit(x, y, batch_size=4, verbose=0, callbacks=given).history["loss"]
            weights = [*model.get_weights(), loss]
        return weights, model.layers[-1].bias.numpy()

    (first, _), (nothing, bias), (third, _) = run_workers(
        together, workers=3, env={"HOROVOD_DYNAMIC_PROCESS_SETS": "1"}
    )
    assert nothing == [] and bias.tolist() == [1, 1, 1]
    assert len(first) == 6 and not differ(first, third)


def test_all_train_after_some_have_trained_by_themselves():
    def together():
        some = hvd.add_process_set([0, 1])
        if hvd.rank() < 2:
            trained(network(), DistributedOptimizer(keras.optimizers.SGD(0.1), process_set=some), mine_of_all(), BATCH)
        model = network()
        data = [values[hvd.rank() :: 3] for values in joint_batches()]
        return trained(model, DistributedOptimizer(keras.optimizers.SGD(0.1), TernGrad(smallest=1)), data, BATCH)

    first, *others = run_workers(together, workers=3, env={"HOROVOD_DYNAMIC_PROCESS_SETS": "1"})
    assert not any(differ(first, weights) for weights in others)


def test_workers_may_have_made_other_optimizers_before():
    def together():
        for _ in range(hvd.rank()):
            DistributedOptimizer(keras.optimizers.SGD())  # and Keras counts them in the names of its operations
        model = network()
        tt.sparsify(model, ratio=0.1)  # which the workers agree on in a branch, by a function of its own
        trained(model, DistributedOptimizer(keras.optimizers.SGD(), TernGrad()), mine_of_all(), BATCH)
        return model.get_weights()

    first, second = run_workers(together)
    for mine, theirs in zip(first, second, strict=True):
        np.testing.assert_array_equal(mine, theirs)
