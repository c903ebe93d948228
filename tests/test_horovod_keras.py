"""Horovod's own Keras doors, with Keras 3: what works in our build, and what names what works in its place."""

import functools

import horovod.tensorflow as hvd
import horovod.tensorflow.elastic as elastic
import horovod.tensorflow.keras as horovod_keras
import keras
import numpy as np
import pytest
import tensorflow as tf
from workers import run_workers

DOORS = {
    "DistributedOptimizer": (
        lambda: horovod_keras.DistributedOptimizer(keras.optimizers.Adam()),
        r"tf_terngrad\.distributed\.DistributedOptimizer\(optimizer\)",
    ),
    "BroadcastGlobalVariablesCallback": (
        lambda: horovod_keras.callbacks.BroadcastGlobalVariablesCallback(0),
        r"callbacks\.BroadcastVariables\(\)",
    ),
    "MetricAverageCallback": (horovod_keras.callbacks.MetricAverageCallback, r"callbacks\.AverageMetrics\(\)"),
    "learning-rate callbacks": (
        lambda: horovod_keras.callbacks.LearningRateWarmupCallback(0.1),
        r"ScheduleLearningRate\(\) or WarmUpLearningRate\(\)",
    ),
    **{
        name: (
            functools.partial(lambda name: getattr(horovod_keras.elastic, name)(None), name),
            r"callbacks\.CommitState\(state\)",
        )
        for name in ("CommitStateCallback", "UpdateBatchStateCallback", "UpdateEpochStateCallback")
    },
    "KerasState": (lambda: horovod_keras.elastic.KerasState(network()), r"elastic\.KerasState\(model\)"),
}


def network():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dropout(0.5)])
    model.compile(keras.optimizers.Adam(), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.mark.parametrize("name", DOORS)
def test_what_would_train_apart_is_refused_and_names_what_works(name):
    door, instead = DOORS[name]
    with pytest.raises(ValueError, match=rf"Horovod has no {name} for Keras 3.*Expected .*{instead}"):
        door()


def handed_out(how):
    keras.utils.set_random_seed(hvd.rank())
    for _ in range(hvd.rank()):
        network()  # Keras numbers the layers of the next one differently
    model = network()
    variables = model.variables + model.optimizer.variables

    def hand_out():
        hvd.broadcast_variables(variables, root_rank=0, inplace=how == "in place")

    if how == "graph":
        tf.function(hand_out)()
    elif how != "elastic":
        hand_out()
    else:
        elastic.TensorFlowState(variables=[variable.value for variable in variables]).sync()
    return [np.asarray(variable) for variable in model.weights + model.optimizer.variables]


@pytest.mark.parametrize("how", ["eager", "in place", "graph", "elastic"])
def test_variables_of_keras_are_handed_out(how):
    first, second = run_workers(handed_out, how)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def averaged():
    model, x = network(), tf.ones((1, 3)) * float(hvd.rank() + 1)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(x))
    gradients = hvd.DistributedGradientTape(tape).gradient(loss, model.trainable_variables)
    return [gradient.numpy() for gradient in gradients]


def test_a_tape_takes_variables_of_keras():
    for kernel, bias in run_workers(averaged):
        np.testing.assert_array_equal(kernel, np.full((3, 2), 1.5))
        np.testing.assert_array_equal(bias, np.ones(2))
