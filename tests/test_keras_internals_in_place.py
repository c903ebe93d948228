"""The private names by which a model and an optimizer become others in place are in this Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tf_terngrad import keras_internals as internals


def model(units=3, kind=keras.Sequential):
    inputs = keras.Input((4,))
    parts = [layers.Dense(units, name="hidden"), layers.Dense(2, name="out")]
    if kind is keras.Sequential:
        return keras.Sequential([inputs, *parts])
    return kind(inputs, parts[1](parts[0](inputs)))


class Own(keras.Model):
    def extra(self):
        return self.count_params()


@pytest.mark.parametrize("kind", [keras.Sequential, keras.Model, Own])
@pytest.mark.parametrize("other", [keras.Sequential, keras.Model])
def test_a_model_becomes_another_and_keeps_what_training_has_put_on_it(kind, other, tmp_path):
    first, second, x = model(3, kind), model(2, other), np.ones((5, 4), "float32")
    expected, weights = second(x), second.weights
    first.compile("adam", "mse", metrics=["mae"], run_eagerly=True)
    first.note, first.old = "a note", first.layers[-1]
    history = first.fit(x, np.ones((5, 2)), verbose=0)
    optimizer, compiled = first.optimizer, first.metrics
    internals.become(first, second)
    np.testing.assert_array_equal(first(x), expected)
    assert all(mine is theirs for mine, theirs in zip(first.weights, weights, strict=True))
    assert type(first) is type(second) and first is not second
    assert first.optimizer is optimizer and first.history is history and first.compiled
    assert [metric.name for metric in first.metrics] == [metric.name for metric in compiled]
    assert first.note == "a note" and not hasattr(first, "old")
    assert {layer.name for layer in first.layers} >= {"hidden", "out"}
    first.build((None, 4))
    first.save_weights(tmp_path / "w.weights.h5")
    assert first.evaluate(x, np.ones((5, 2)), verbose=0)


OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "averages": lambda: keras.optimizers.Adam(amsgrad=True, use_ema=True, gradient_accumulation_steps=2),
    "a product": keras.optimizers.Nadam,
    "a loss scale": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()),
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_an_optimizer_is_built_for_other_variables_and_goes_on_counting(make, tmp_path):
    before, after, optimizer = model(3), model(2), make()
    optimizer.build(before.trainable_variables)
    for _ in range(3):
        optimizer.apply([keras.ops.ones(each.shape) for each in before.trainable_variables], before.trainable_variables)
    counters = [each.numpy() for each in optimizer.variables if not each.shape]
    count = len(optimizer.variables)
    assert internals.not_by_weight(optimizer) == []
    rebuilt = internals.Rebuilt(optimizer, after.trainable_variables)
    assert [each.numpy() for each in optimizer.variables if not each.shape] == counters
    assert len({id(each) for each in optimizer.variables}) == len(optimizer.variables) == count
    assert {tuple(each.shape) for *_, each in rebuilt.slots} == {(4, 2), (2,), (2, 2)}
    for variable, name, slot in rebuilt.slots:
        old = before.trainable_variables[[each is variable for each in after.trainable_variables].index(True)]
        kept = rebuilt.before(old, name)
        assert kept.shape == old.shape and slot.shape == variable.shape and kept.name.endswith(name)
    tf.train.Checkpoint(optimizer=optimizer).write(str(tmp_path / "checkpoint"))  # its lists only grow, or this fails
    optimizer.apply([keras.ops.ones(each.shape) for each in after.trainable_variables], after.trainable_variables)


def test_what_an_optimizer_keeps_of_other_shapes_is_seen():
    optimizer = keras.optimizers.Adafactor()
    optimizer.build(model().trainable_variables)
    assert {tuple(each.shape) for each in internals.not_by_weight(optimizer)} == {(4,), (3,), (2,), ()}


def test_the_path_of_a_variable_can_be_said():
    variable = keras.Variable([1.0])
    internals.note_path(variable, "outer/hidden/kernel")
    assert variable.path == "outer/hidden/kernel"
