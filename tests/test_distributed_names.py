"""What exchanges are called: the same on workers that have done other things before. And what broadcasts need."""

import os
import pathlib
import time

import horovod.tensorflow as hvd
import keras
import numpy as np
import tensorflow as tf
from distributed_training import BATCH, differ, joint_batches, mine_of_all, network
from workers import run_workers

import tf_terngrad as tt
from tf_terngrad.ternary.compressor import TernGrad
from tf_terngrad.ternary.distributed import DistributedGradientTape, DistributedOptimizer, callbacks
from tf_terngrad.ternary.distributed.averager import Averager
from tf_terngrad.ternary.distributed.settings import Settings
from tf_terngrad.ternary.distributed.variables import PIECE

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def averaging(compression=None):
    """A traced function of its own averager, which averages a vector."""
    average, weight = Averager(Settings(compression)), keras.Variable(np.zeros(2000, "float32"), name="weight")
    return tf.function(lambda value: average([tf.fill([2000], value)], [weight])[0][0])


def test_some_workers_train_a_part_and_then_all_of_them_the_whole():
    def together():
        some = hvd.add_process_set([0, 1])
        x, y = (values[hvd.rank() :: 3] for values in joint_batches())

        def fit(workers):
            model = network()
            model.compile(
                DistributedOptimizer(keras.optimizers.SGD(0.1), TernGrad(smallest=1), process_set=workers), LOSS
            )
            model.fit(x, y, batch_size=4, verbose=0, callbacks=[callbacks.BroadcastVariables(0, workers)])
            return model.get_weights()

        return fit(some) if hvd.rank() < 2 else None, fit(None)

    first, second, third = run_workers(together, workers=3, env={"HOROVOD_DYNAMIC_PROCESS_SETS": "1"})
    assert not differ(first[0], second[0])
    assert not differ(first[1], second[1]) and not differ(first[1], third[1])


def test_a_worker_may_have_traced_what_the_others_never_did():
    def together():
        before = averaging() if hvd.rank() else None  # as one of an elastic job that was there before the others
        if before is not None:
            for _ in range(2):
                before.get_concrete_function(tf.TensorSpec((), tf.float32))
        return float(averaging()(float(hvd.rank())))

    assert run_workers(together) == [0.5] * 2


def test_independent_exchanges_in_one_graph_go_in_turn():
    """By one function that is called twice, by several of one averager, and of two; traced before, or now."""

    def together():
        once = averaging()
        other = averaging(TernGrad(clip=None, levels=100))
        weights = [tf.Variable(tf.zeros(2000)) for _ in range(3)]

        def gradient_of(weight, factor):
            with tf.GradientTape() as tape:
                loss = factor * tf.reduce_sum(weight)
            return DistributedGradientTape(tape).gradient(loss, weight)[0]

        nets = [tf.function(lambda factor, weight=weight: gradient_of(weight, factor)) for weight in weights]
        once(0.0)

        @tf.function
        def outer(mine):
            return [once(mine), once(2 * mine), other(3 * mine), *(net((4 + i) * mine) for i, net in enumerate(nets))]

        results = [[float(result) for result in outer(float(1 + hvd.rank()))] for _ in range(10)]
        return np.array(results)

    first, second = run_workers(together)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, [1.5 * np.arange(1, 7)] * 10, rtol=1e-2)


class TwoUpdates(keras.Model):
    """Two networks with an optimizer each, as a GAN has; the second update waits for the first."""

    def __init__(self):
        super().__init__()
        keras.utils.set_random_seed(0)
        self.first, self.second = (keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)]) for _ in range(2))
        self.of_first, self.of_second = (
            DistributedOptimizer(keras.optimizers.SGD(0.1), TernGrad(smallest=1)) for _ in range(2)
        )

    def train_step(self, x):
        for optimizer, net in ((self.of_first, self.first), (self.of_second, self.second)):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((self.second(self.first(x)) - x) ** 2)
            optimizer.apply(tape.gradient(loss, net.trainable_variables), net.trainable_variables)
        return {"loss": loss}


def test_two_exchanges_in_a_step_end_together_where_data_end():
    def together():
        x = np.random.default_rng(hvd.rank()).normal(size=(6 - 2 * hvd.rank(), 8, 4)).astype("float32")
        data = tf.data.Dataset.from_generator(lambda: iter(x), output_signature=tf.TensorSpec((8, 4), tf.float32))
        model = TwoUpdates()
        model.compile(keras.optimizers.SGD())
        model.fit(data, epochs=2, verbose=0)
        return model.get_weights(), [int(optimizer.iterations) for optimizer in (model.of_first, model.of_second)]

    (first, counts), (second, others) = run_workers(together)
    assert not differ(first, second)
    assert counts == others == [8, 8]


def test_a_worker_may_have_built_other_models_before():
    def together():
        if hvd.rank():
            network()
        weights = []
        for make in (keras.optimizers.Adam, keras.optimizers.Lion, lambda: keras.optimizers.SGD(momentum=0.9)):
            model = network()
            given = [callbacks.BroadcastVariables(), tt.callbacks.Reconfigure(every=1)]
            x, y = mine_of_all()
            model.compile(DistributedOptimizer(make(), TernGrad(smallest=1)), LOSS)
            model.fit(x, y, batch_size=BATCH // 2, verbose=0, callbacks=given)
            weights += model.get_weights()
        return weights

    first, second = run_workers(together)
    assert not differ(first, second)


def test_who_waits_is_told_for_what():
    def together():
        said = pathlib.Path(os.readlink("/proc/self/fd/2")).with_name("0.txt")
        while hvd.rank() and "Missing ranks" not in said.read_text():
            time.sleep(0.1)
        tt.distributed.check_replicas([tf.Variable(1.0)])
        return said.read_text()

    for said in run_workers(together, env={"HOROVOD_STALL_CHECK_TIME_SECONDS": "1"}):
        assert "tf_terngrad.replicas" in said and "HorovodAllgather" not in said


def test_broadcasts_take_little_memory_beside_the_variables():
    def together():
        mine = [tf.Variable(tf.fill([2**21], float(hvd.rank() + number))) for number in range(20)]
        before = memory("VmRSS")
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from now on
        tt.distributed.broadcast_variables(mine, root_rank=1)
        return (memory("VmHWM") - before) / sum(variable.numpy().nbytes for variable in mine), [
            (float(tf.reduce_min(variable)), float(tf.reduce_max(variable))) for variable in mine
        ]

    def memory(kind):
        (line,) = [each for each in pathlib.Path("/proc/self/status").read_text().splitlines() if each.startswith(kind)]
        return int(line.split()[1]) * 1024

    for peak, values in run_workers(together):
        assert peak < 0.6
        assert values == [(number + 1.0, number + 1.0) for number in range(20)]


def test_a_broadcast_of_many_kinds_and_of_a_variable_larger_than_a_piece():
    def together():
        rng = np.random.default_rng(hvd.rank())
        large = rng.integers(0, 2**30, PIECE // 2 + 3)
        kinds = ("bfloat16", "uint32", "bool", "float16", "int64")
        mine = [
            tf.Variable(tf.cast(rng.integers(0, 9, shape), kind)) for kind in kinds for shape in ((), (3, 5), (0, 4))
        ]
        mine.append(tf.Variable(large))
        tt.distributed.broadcast_variables(mine)
        return [tf.cast(variable, tf.int64).numpy() for variable in mine], large

    (first, own), (second, _) = run_workers(together)
    np.testing.assert_array_equal(first[-1], own)
    assert not differ(first, second)
