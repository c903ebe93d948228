"""What a distributed optimizer refuses, and what its graph looks like."""

import sys

import horovod.tensorflow as hvd
import keras
import numpy as np
import pytest
import tensorflow as tf
import virtual_workers
from distributed_training import BATCH, mine_of_all, network, trained
from workers import run_workers

from tf_terngrad.ternary.compressor import TernGrad
from tf_terngrad.ternary.distributed import DistributedOptimizer
from tf_terngrad.ternary.distributed.averager import Averager
from tf_terngrad.ternary.distributed.settings import Settings
from tf_terngrad.ternary.horovod import horovod


def ancestors(operation):
    found, left = set(), [operation]
    while left:
        current = left.pop()
        if current not in found:
            found.add(current)
            left += [tensor.op for tensor in current.inputs] + list(current.control_inputs)
    return found


def test_the_last_layers_wait_for_the_gradients_of_the_first_only_to_share_scales():
    def waits(compression, fusion_bytes):
        model = network()
        average = Averager(Settings(compression, fusion_bytes=fusion_bytes))
        first, last = [], []

        @tf.function
        def step(x):
            with tf.GradientTape() as tape:
                target = tf.reduce_sum(model(x) ** 2)
            gradients = tape.gradient(target, model.trainable_variables)
            means = average(gradients, model.trainable_variables)
            first.append(gradients[0].op)
            last.append(means[-1].op)
            return means

        step.get_concrete_function(tf.TensorSpec((4, 6)))
        return first[0] in ancestors(last[0])

    def together():
        compressions = (None, TernGrad(smallest=1, share_scales=False), TernGrad(smallest=1))
        return [[waits(compression, fusion_bytes) for fusion_bytes in (1, 2**20)] for compression in compressions]

    assert run_workers(together) == [[[False, True], [False, True], [True, True]]] * 2


def variables_of(*shapes):
    return [keras.Variable(np.zeros(shape, "float32"), name="weight") for shape in shapes]


MISMATCHES = [
    lambda rank: (variables_of([(2, 6), (3, 4)][rank]), DistributedOptimizer(keras.optimizers.SGD())),
    lambda rank: (
        variables_of((2, 6)),
        DistributedOptimizer(keras.optimizers.SGD(), [None, TernGrad(smallest=99)][rank]),
    ),
    lambda rank: (variables_of(*[(2, 6)] * (2 - rank)), DistributedOptimizer(keras.optimizers.SGD())),
]


def test_gradients_that_are_not_alike_are_an_error_on_all_workers():
    def together():
        errors = []
        for make in MISMATCHES:
            model, optimizer = make(hvd.rank())
            with pytest.raises(ValueError) as caught:
                optimizer.apply([tf.zeros(variable.shape) for variable in model], model)
            errors.append(str(caught.value))
        return errors

    first, second = run_workers(together)
    assert first == second
    shapes, settings, number = first
    assert "workers [0] have weight: float32 (2, 6) as floats; workers [1] have weight: float32 (3, 4)" in shapes
    assert "workers [0] have compression=None" in settings and "workers [1] have compression={'clip'" in settings
    assert "workers [1] have nothing" in number


@pytest.mark.parametrize("run", [lambda step: step, tf.function], ids=["eager", "graph"])
def test_a_gradient_that_one_worker_lacks_in_a_later_step_is_an_error_on_all_workers(run):
    def together():
        average = Averager(Settings(TernGrad(smallest=1)))
        weights = variables_of((2000,), (3,))

        @run
        def step(lacks):
            return average([tf.ones(2000), None if lacks else tf.ones(3)], weights)[0]

        for _ in range(2):
            step(False)
        with pytest.raises((ValueError, tf.errors.InvalidArgumentError)) as caught:
            step(hvd.rank() == 1)
        return str(caught.value)

    for message in run_workers(together):
        assert "workers [0] have weight: float32 (3,) as digits; workers [1] have weight: no gradient" in message


def test_a_worker_that_comes_later_joins_those_that_have_averaged_before():
    def together():
        average = Averager(Settings(TernGrad(smallest=1)))
        (weight,) = variables_of((2000,))

        def step(value):
            return average([tf.fill([2000], value)], [weight])[0][0]

        before = tf.function(step)
        before(1.0)
        after = tf.function(step) if hvd.rank() else before  # as a new worker, which has traced nothing
        return float(after(3.0))

    assert run_workers(together) == [3.0] * 2


def test_patterns_that_fit_no_variable_are_refused():
    def together():
        model, (part, whole) = network(), [keras.optimizers.SGD(), keras.optimizers.SGD()]
        DistributedOptimizer(part, TernGrad(), exclude=["*/biass", "*/kernel"])
        with pytest.raises(ValueError) as caught:
            trained(model, part, mine_of_all(), BATCH)
        DistributedOptimizer(whole, TernGrad(), exclude=["*/bias"])
        whole.build(model.trainable_variables)
        whole.apply([tf.zeros(model.trainable_variables[0].shape)], model.trainable_variables[:1])  # a kernel alone
        return str(caught.value), [variable.path for variable in model.trainable_variables]

    for message, paths in run_workers(together):
        assert "exclude=['*/biass'] fits no variable" in message
        assert all(path in message for path in paths)


def test_xla_is_refused():
    def together():
        messages = []
        model = network()
        with pytest.raises(ValueError, match="jit_compile=False") as caught:
            trained(model, DistributedOptimizer(keras.optimizers.SGD()), mine_of_all(), BATCH, jit_compile=True)
        messages.append(str(caught.value))
        (weight,) = variables_of((3,))
        optimizer = DistributedOptimizer(keras.optimizers.SGD())
        with pytest.raises(ValueError, match="jit_compile=False") as caught:
            tf.function(lambda: optimizer.apply([tf.ones((3,))], [weight]), jit_compile=True)()
        return [*messages, str(caught.value)]

    for messages in run_workers(together):
        assert all("XLA" in message for message in messages)


def refusals():
    wrapped = DistributedOptimizer(keras.optimizers.SGD())
    with pytest.raises(ValueError, match="distributed already"):
        DistributedOptimizer(wrapped)
    with pytest.raises(ValueError, match="distributed already"):
        DistributedOptimizer(keras.optimizers.LossScaleOptimizer(wrapped))
    (variable,) = variables_of((3,))
    variable.overwrite_with_gradient = True
    with pytest.raises(ValueError, match="float8"):
        wrapped.apply([tf.zeros((3,))], [variable])


def test_what_cannot_be_distributed_is_refused(monkeypatch):
    run_workers(refusals)
    for wrong in (keras.optimizers.SGD, "adam", None, object()):
        with pytest.raises(TypeError, match="instance of a Keras 3 optimizer"):
            DistributedOptimizer(wrong)
    for wrong in (TernGrad, "terngrad"):
        with pytest.raises(TypeError, match=r"such as TernGrad\(\)"):
            DistributedOptimizer(keras.optimizers.SGD(), wrong)
    with pytest.raises(TypeError, match="process_set='all'"):
        DistributedOptimizer(keras.optimizers.SGD(), process_set="all")
    with pytest.raises(RuntimeError, match="not initialized"):
        DistributedOptimizer(keras.optimizers.SGD())
    monkeypatch.setitem(sys.modules, "horovod.tensorflow", None)
    horovod.cache_clear()
    with pytest.raises(ModuleNotFoundError, match="build_horovod"):
        DistributedOptimizer(keras.optimizers.SGD())
    with pytest.raises(TypeError, match=r"such as TernGrad\(\)"):
        DistributedOptimizer(keras.optimizers.SGD(), "terngrad")
    horovod.cache_clear()


def test_what_keras_refuses_or_leaves_alone_is_left_to_it_before_anything_travels():
    def of(network):
        optimizer = DistributedOptimizer(keras.optimizers.SGD(), process_set=network)
        gradient, variable = tf.ones(3), keras.Variable(np.ones(3, "float32"))
        optimizer.apply([], [variable])
        with pytest.raises(ValueError, match="must already be built"):
            optimizer.apply([gradient])
        with pytest.raises(ValueError, match=r"Expected a gradient for each of 1 variables. Received: 2"):
            optimizer.apply([gradient, gradient], [variable])
        assert network.sent() == 0
        optimizer.apply([gradient], [variable])
        return network.sent()

    assert all(sent > 0 for sent in virtual_workers.run(2, of))
