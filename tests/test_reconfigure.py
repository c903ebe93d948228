"""A model that becomes smaller while it trains: it trains on as it would have with the dead weights in place."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from reconfiguring import Zeroing, assert_same, compiled, images, network, trained

import tf_terngrad as tt

OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "AdamW with averages": lambda: keras.optimizers.AdamW(0.02, use_ema=True, ema_overwrite_frequency=4),
    "accumulated gradients": lambda: keras.optimizers.SGD(0.3, momentum=0.5, gradient_accumulation_steps=3),
    "Nadam": lambda: keras.optimizers.Nadam(0.02),
    "a schedule": lambda: keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.03, 6), amsgrad=True),
    "a loss scale": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.RMSprop(0.01, momentum=0.5, centered=True), dynamic_growth_steps=5
    ),
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_training_goes_on_as_if_nothing_had_left(make, doubles):
    runs = []
    for callbacks in ([Zeroing()], [Zeroing(), tt.callbacks.Reconfigure(every=1)]):
        model, optimizer = network(), make()
        compiled(model, optimizer)
        runs.append((model, trained(model, *callbacks), optimizer))
    (whole, expected, its), (model, history, optimizer) = runs
    assert [each["epoch"] for each in callbacks[1].gone] == [1, 2]
    assert model.optimizer is optimizer and model.count_params() < whole.count_params()
    assert_same(model, whole, rtol=1e-6)
    assert history.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(history[name], expected[name], rtol=1e-5, err_msg=name)
    counters = [each.numpy() for each in its.variables if not each.shape]
    assert counters == [each.numpy() for each in optimizer.variables if not each.shape]


def step_of(model, optimizer):
    """A step of a loop of one's own."""
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = loss_of(y, model(x, training=True))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    return step


def test_a_loop_of_ones_own_calls_it_between_steps(doubles):
    runs = []
    for shrinks in (False, True):
        model, optimizer = network(), keras.optimizers.Adam(0.02)
        step = step_of(model, optimizer)
        losses = [float(step(*images())) for _ in range(2)]
        tt.structures(model)[0].zero([0, 3])
        tt.hold(model)
        if shrinks:
            assert tt.reconfigure(model, optimizer)
        step = step_of(model, optimizer)
        losses += [float(step(*images())) for _ in range(2)]
        runs.append((model, losses))
    (whole, expected), (model, losses) = runs
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    assert model.get_layer("stem").filters == 6
    assert_same(model, whole, rtol=1e-6)


def test_what_left_once_leaves_another_model_that_was_built_alike():
    model, other = network(), network()
    tt.structures(model)[0].zero([0, 3])
    gone = json.loads(json.dumps(tt.reconfigure(model)))
    assert gone == [{"stem": [0, 3]}]
    assert tt.reconfigure(other, gone=gone) == gone
    other.set_weights(model.get_weights())
    x, _ = images()
    np.testing.assert_allclose(other(x), model(x), atol=1e-6)


def test_fates_tell_of_the_last_time_what_became_of_each_variable():
    model = network()
    before = model.weights
    tt.structures(model)[0].zero([2])
    tt.reconfigure(model)
    found = {id(fate.old): fate for fate in tt.fates(model)}
    kernel = found[id(before[0])]
    assert kernel.new is model.get_layer("stem").kernel and kernel.kept[3].tolist() == [0, 1, 3, 4, 5, 6, 7]
    assert all(fate.new.path == fate.old.path for fate in found.values() if fate.new is not None)
