"""Real workers whose model becomes smaller while it trains: all of them in the same step, to the same network."""

import horovod.tensorflow as hvd
import keras
import numpy as np
import pytest
import tensorflow as tf
from reconfiguring import Zeroing, compiled, images, network
from workers import run_workers

import tf_terngrad as tt
from tf_terngrad.ternary.horovod import HorovodTransport

OPTIMIZERS = {
    "accumulation": lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=2),
    "a loss scale": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.05), initial_scale=4.0),
}


def momentum():
    return keras.optimizers.SGD(0.05, momentum=0.9)


class Counting(HorovodTransport):
    """Counts the bytes of digits and floats that this worker gives, not what the workers tell one another besides."""

    def __init__(self):
        super().__init__()
        self.bytes = tf.Variable(0, dtype=tf.int64)

    def total(self, tensor, name):
        self._count(tensor, name)
        return super().total(tensor, name)

    def gather(self, tensor, name):
        self._count(tensor, name)
        return super().gather(tensor, name)

    def _count(self, tensor, name):
        if name.startswith("tf_terngrad.gradients"):
            self.bytes.assign_add(tf.size(tensor, tf.int64) * tensor.dtype.size)


def trained(make, compression, reconfigures):
    """The weights of a worker, its statistics, what left, and the bytes that it sent in each epoch."""
    model, transport, sent = network(), Counting(), []
    optimizer = tt.distributed.DistributedOptimizer(make(), compression, process_set=transport)
    compiled(model, optimizer, run_eagerly=False, jit_compile=False)
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: sent.append(int(transport.bytes)))
    reconfigure = tt.callbacks.Reconfigure(every=1)
    callbacks = [tt.distributed.callbacks.BroadcastVariables(), Zeroing(), note]
    callbacks += [reconfigure] if reconfigures else []
    data = [part[hvd.rank() :: 2] for part in images()]
    model.fit(*data, batch_size=8, epochs=3, shuffle=False, verbose=0, callbacks=callbacks)
    small = model if reconfigures else tt.compact(model)
    weights = [weight.numpy() for weight in small.trainable_weights]
    statistics = [weight.numpy() for weight in small.non_trainable_weights]
    return weights, statistics, reconfigure.gone, np.diff([0, *sent]).tolist()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_workers_shrink_alike_stay_bit_identical_and_exchange_less(name):
    def together():
        return trained(OPTIMIZERS[name], tt.TernGrad(smallest=1), True)

    (weights, statistics, gone, sent), (others, other_statistics, other_gone, _) = run_workers(together)
    assert gone == other_gone and [each["epoch"] for each in gone] == [1, 2]
    assert any(not np.array_equal(*pair) for pair in zip(statistics, other_statistics, strict=True))
    for mine, theirs in zip(weights, others, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert sent[0] > 1.5 * sent[1] > 2 * sent[2] > 0


def test_workers_train_on_as_they_would_have_with_the_dead_weights():
    def together():
        runs = (trained(momentum, None, reconfigures) for reconfigures in (False, True))
        return [weights for weights, *_ in runs]

    for whole, smaller in run_workers(together):
        for expected, mine in zip(whole, smaller, strict=True):
            np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-6)


def test_workers_of_which_one_has_lost_other_members_are_refused():
    def together():
        model = network()
        model.compile(tt.distributed.DistributedOptimizer(keras.optimizers.SGD()), "mse")
        tt.structures(model)[0].zero([hvd.rank()])
        before = model.count_params()
        with pytest.raises(ValueError, match=r"What tt.reconfigure takes out must be the same.*stem: \[0\] left"):
            tt.reconfigure(model)
        return model.count_params() == before

    assert run_workers(together) == [True, True]
