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
    first.names, first.known = {1: "one", "two": 2}, {first.layers[-1]: "last"}
    history = first.fit(x, np.ones((5, 2)), verbose=0)
    optimizer, compiled = first.optimizer, first.metrics
    internals.become(first, second)
    np.testing.assert_array_equal(first(x), expected)
    assert all(mine is theirs for mine, theirs in zip(first.weights, weights, strict=True))
    assert type(first) is type(second) and first is not second
    assert first.optimizer is optimizer and first.history is history and first.compiled
    assert [metric.name for metric in first.metrics] == [metric.name for metric in compiled]
    assert first.note == "a note" and dict(first.names) == {1: "one", "two": 2}
    assert not hasattr(first, "old") and not hasattr(first, "known")
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
if hasattr(keras.optimizers, "MultiOptimizer"):
    OPTIMIZERS["a new one for each weight"] = lambda: keras.optimizers.MultiOptimizer(lambda _: keras.optimizers.Adam())
    OPTIMIZERS["several under a loss scale"] = lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.MultiOptimizer(
            keras.optimizers.OptimizerMap(keras.optimizers.Nadam(), {"hidden/.*": keras.optimizers.Lion()})
        )
    )


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_an_optimizer_is_built_for_other_variables_and_goes_on_counting(make, tmp_path):
    before, after, optimizer = model(3), model(2), make()
    optimizer.build(before.trainable_variables)
    for _ in range(3):
        optimizer.apply([keras.ops.ones(each.shape) for each in before.trainable_variables], before.trainable_variables)
    counters = [each.numpy() for each in optimizer.variables if not each.shape]
    count = len(optimizer.variables)
    assert internals.not_by_weight(optimizer) == []
    olds = dict(zip(map(id, after.trainable_variables), before.trainable_variables, strict=True))
    rebuilt = internals.Rebuilt(optimizer, after.trainable_variables, lambda variable: olds[id(variable)])
    assert [each.numpy() for each in optimizer.variables if not each.shape] == counters
    assert len({id(each) for each in optimizer.variables}) == len(optimizer.variables) == count
    assert {tuple(slot.now.shape) for slot in rebuilt.slots} == {(4, 2), (2,), (2, 2)}
    for slot in rebuilt.slots:
        old = olds[id(slot.variable)]
        assert slot.before.shape == old.shape and slot.now.shape == slot.variable.shape
        assert slot.before.name.endswith(slot.name) and any(slot.now is each for each in slot.optimizer.variables)
    tf.train.Checkpoint(optimizer=optimizer).write(str(tmp_path / "checkpoint"))  # its lists only grow, or this fails
    optimizer.apply([keras.ops.ones(each.shape) for each in after.trainable_variables], after.trainable_variables)


class Rows(keras.optimizers.SGD):
    """An optimizer that keeps a number for each row of a weight."""

    def build(self, variables):
        super().build(variables)
        self.rows = [self.add_variable(each.shape[:1], name="row") for each in variables]


class Around(keras.optimizers.SGD):
    """An optimizer around another one, such as a Lookahead."""

    def __init__(self, inside):
        super().__init__()
        self.fast = inside


def test_what_an_optimizer_keeps_of_other_shapes_or_holds_besides_is_seen():
    weights = model().trainable_variables
    for optimizer, shapes in [(Rows(), {(4,), (3,), (2,)}), (keras.optimizers.Adafactor(), set())]:
        optimizer.build(weights)
        assert {tuple(each.shape) for each in internals.not_by_weight(optimizer)} == shapes
    inside = keras.optimizers.Adam()
    assert internals.unknown_inside(Around(inside)) == [inside]
    assert internals.unknown_inside(keras.optimizers.LossScaleOptimizer(inside)) == []


def test_second_moments_are_factored_anew():
    optimizer, weights = keras.optimizers.Adafactor(), model().trainable_variables
    optimizer.build(weights)
    for _ in range(2):
        optimizer.apply([keras.random.normal(each.shape, seed=1) for each in weights], weights)
    means = [[each.numpy() for each in part] for part in (optimizer._r, optimizer._c)]
    for each in (*optimizer._r, *optimizer._c):
        each.assign(keras.ops.zeros_like(each))
    internals.factor_anew(optimizer)
    for part, expected in zip((optimizer._r, optimizer._c), means, strict=True):
        for mine, theirs in zip(part, expected, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-5)


def test_the_path_of_a_variable_can_be_said():
    variable = keras.Variable([1.0])
    internals.note_path(variable, "outer/hidden/kernel")
    assert variable.path == "outer/hidden/kernel"
