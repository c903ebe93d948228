"""What sparsify hangs on a model: the strength from a ratio, what was there before, and all of it off again."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from group_oracles import lasso_and_gradient
from keras import layers

from tf_terngrad.sparsity.learn import hooks
from tf_terngrad.sparsity.learn.regularizers import FilterLasso
from tf_terngrad.sparsity.sparsify import METHODS, sparsify
from tf_terngrad.sparsity.structures import structures


class WithOwnLoss(keras.Model):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return 3 * super().compute_loss(x, y, y_pred, sample_weight, training)


class WithOldLoss(keras.Model):
    """As models were written before Keras 3.3."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        return 3 * super().compute_loss(x, y, y_pred, sample_weight)


def network(cls=keras.Model, **arguments):
    keras.utils.set_random_seed(5)
    x = keras.Input((6,))
    hidden = layers.Dense(5, activation="relu", name="hidden", **arguments)(layers.Dense(4, name="first")(x))
    return cls(x, layers.Dense(2, name="out")(hidden))


def compiled(model, **arguments):
    model.compile(keras.optimizers.SGD(0.1), "mse", **arguments)
    return model


def data(seed=0, examples=8):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(examples, 6)).astype("float32"), rng.normal(size=(examples, 2)).astype("float32")


def expected_strength(model, ratio, x, y, factor=1):
    """r CE / ((1 - r) lasso) of a model that has not been trained yet."""
    loss = factor * np.mean((keras.ops.convert_to_numpy(model(x)) - y) ** 2)
    return ratio * loss / ((1 - ratio) * lasso_and_gradient(structures(model))[0])


WAYS = {
    "fit": {},
    "several steps": {"steps_per_execution": 4},
    "XLA": {"jit_compile": True},
    "eager": {"run_eagerly": True},
}


@pytest.mark.parametrize("arguments", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("method", METHODS)
def test_ratio_sets_the_strength_from_the_first_batch_and_leaves_it(method, arguments):
    model, (x, y) = network(), data(examples=40)
    expected = expected_strength(model, 0.3, x[:8], y[:8])
    sparsity = sparsify(model, ratio=0.3, method=method)
    compiled(model, **arguments)
    model.evaluate(x, y, verbose=0)
    assert float(sparsity.strength) == 0
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    np.testing.assert_allclose(sparsity.strength, expected, rtol=1e-5)
    model.fit(*data(1), verbose=0)
    np.testing.assert_allclose(sparsity.strength, expected, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_the_ratio_is_the_share_of_the_penalty(method):
    model, (x, y) = network(), data()
    sparsity = sparsify(model, ratio=0.25, method=method)
    loss = float(np.mean((keras.ops.convert_to_numpy(model(x)) - y) ** 2))
    sparsity.calibrate(loss)
    assert float(sparsity.penalty()) / (loss + float(sparsity.penalty())) == pytest.approx(0.25, rel=1e-5)
    reported = compiled(model).evaluate(x, y, verbose=0)
    share = float(sparsity.penalty()) if method == "subgradient" else 0
    assert reported == pytest.approx(loss + share, rel=1e-5)


@pytest.mark.parametrize("cls", [WithOwnLoss, WithOldLoss])
@pytest.mark.parametrize("before", [True, False])
def test_a_model_with_its_own_compute_loss(cls, before):
    model, (x, y) = network(cls), data()
    expected = expected_strength(model, 0.5, x, y, factor=3)
    if before:
        compiled(model).evaluate(x, y, verbose=0)
    sparsity = sparsify(model, ratio=0.5)
    if not before:
        compiled(model)
    model.evaluate(x, y, verbose=0)
    assert float(sparsity.strength) == 0
    model.train_on_batch(x, y)
    np.testing.assert_allclose(sparsity.strength, expected, rtol=1e-5)
    sparsity.release()
    assert model._compute_loss_has_training_arg == (cls is WithOwnLoss)
    model.train_on_batch(x, y)


def test_a_first_loss_that_is_not_finite_is_passed_over():
    model = network()
    sparsity = sparsify(model, ratio=0.5)
    sparsity.calibrate(float("nan"))
    sparsity.calibrate(float("inf"))
    assert float(sparsity.strength) == 0
    sparsity.calibrate(-2.0)
    assert float(sparsity.strength) == pytest.approx(2.0 / lasso_and_gradient(sparsity.structures)[0], rel=1e-5)


def loop(model, optimizer, calibrate=None):
    x, y = data()
    with tf.GradientTape() as tape:
        loss = keras.ops.mean(keras.ops.square(model(x) - y))
        if calibrate:
            calibrate(loss)
        loss = loss + sum(model.losses)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply(gradients, model.trainable_variables)


@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_a_loop_of_ones_own_has_to_calibrate(method, graph):
    for calibrates in (False, True):
        model, optimizer = network(), keras.optimizers.SGD(0.1)
        expected = expected_strength(model, 0.5, *data())
        sparsity = sparsify(model, ratio=0.5, method=method, optimizer=optimizer)
        optimizer.build(model.trainable_variables)
        step = tf.function(loop) if graph else loop
        if calibrates:
            step(model, optimizer, sparsity.calibrate)
            step(model, optimizer, sparsity.calibrate)
            np.testing.assert_allclose(sparsity.strength, expected, rtol=1e-5)
        else:
            with pytest.raises(ValueError, match=r"call calibrate\(loss\) on the result of sparsify"):
                step(model, optimizer)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("arguments", [{"strength": 0.5}, {"ratio": 0.5}])
def test_release_restores_the_model_even_when_it_has_been_traced(method, arguments):
    model, twin, (x, y) = compiled(network()), compiled(network()), data()
    attributes = set(vars(model))
    first, second = (sparsify(model, **arguments, method=method) for _ in range(2))
    model.fit(x, y, verbose=0)
    model.evaluate(x, y, verbose=0)
    for sparsity in (first, second):
        sparsity.release()
    model.set_weights(twin.get_weights())
    assert all(variable.regularizer is None and variable.constraint is None for variable in model.weights)
    assert set(vars(model)) >= attributes and "compute_loss" not in vars(model)
    assert model.evaluate(x, y, verbose=0) == twin.evaluate(x, y, verbose=0)
    model.fit(x, y, verbose=0)
    twin.fit(x, y, verbose=0)
    for weight, other in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, other)


def test_sparsify_after_a_training_takes_part_in_the_next():
    model, (x, y) = compiled(network()), data()
    model.fit(x, y, verbose=0)
    sparsity = sparsify(model, strength=1e3)
    model.fit(x, y, verbose=0)
    assert not any(structure.norms().any() for structure in sparsity.structures)


def test_release_in_a_callback():
    model, (x, y) = compiled(network()), data()
    sparsity = sparsify(model, strength=1e3)
    release = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: epoch or sparsity.release())
    model.fit(x, y, epochs=2, verbose=0, callbacks=[release])
    assert model.get_layer("out").bias.numpy().any()


@pytest.mark.parametrize("method", METHODS)
def test_each_kind_has_its_own_strength_and_either_can_go_first(method):
    model, (x, y) = network(), data()
    units = sparsify(model, strength=0.25, kinds=["unit"], method=method)
    inputs = sparsify(model, strength=1e4, kinds=["input"], method=method)
    assert float(units.penalty()) == pytest.approx(0.25 * lasso_and_gradient(units.structures)[0], rel=1e-5)
    assert float(inputs.penalty()) == pytest.approx(1e4 * lasso_and_gradient(inputs.structures)[0], rel=1e-5)
    if method == "subgradient":
        assert sum(map(float, model.losses)) == pytest.approx(float(units.penalty() + inputs.penalty()), rel=1e-5)
        units.release()
        assert sum(map(float, model.losses)) == pytest.approx(float(inputs.penalty()), rel=1e-5)
        return
    compiled(model).train_on_batch(x, y)
    assert not inputs.structures[0].norms().any()
    assert all(structure.norms().any() for structure in units.structures)


@pytest.mark.parametrize("method", METHODS)
def test_constraints_and_regularizers_of_the_user_stay(method):
    own = keras.constraints.NonNeg()
    model, (x, y) = network(kernel_constraint=own, kernel_regularizer=FilterLasso(2.0)), data()
    kernel = model.get_layer("hidden").kernel
    regularizer, loss = kernel.regularizer, float(model.losses[0])
    sparsity = sparsify(model, strength=0.5, method=method)
    added = float(sparsity.penalty()) if method == "subgradient" else 0
    assert sum(map(float, model.losses)) == pytest.approx(loss + added, rel=1e-5)
    compiled(model).train_on_batch(x, y)
    assert (kernel.numpy() >= 0).all()
    sparsity.release()
    assert kernel.regularizer is regularizer and kernel.constraint is own
    assert model.get_layer("out").kernel.constraint is None


@pytest.mark.parametrize("method", METHODS)
def test_a_sparsified_model_is_saved_plain(method, tmp_path):
    model, (x, y) = network(), data()
    config, weights = model.get_config(), [weight.path for weight in model.weights]
    sparsity = sparsify(model, ratio=0.5, method=method)
    compiled(model).fit(x, y, verbose=0)
    assert [weight.path for weight in model.weights] == weights
    assert not any(variable is sparsity.strength for variable in model.variables)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    assert model.get_config() == config
    assert all(variable.regularizer is None and variable.constraint is None for variable in loaded.weights)
    assert type(loaded) is type(model) and "compute_loss" not in vars(loaded)
    loaded.fit(x, y, verbose=0)


def test_the_strength_can_change_while_training():
    model, (x, y) = network(), data()
    sparsity = sparsify(model, strength=0.0)
    compiled(model).train_on_batch(x, y)
    assert all(structure.norms().all() for structure in sparsity.structures)
    sparsity.strength.assign(1e4)
    model.train_on_batch(x, y)
    assert not any(structure.norms().any() for structure in sparsity.structures)


def test_a_chain_of_hooks_loses_those_of_one_owner():
    one, other, plain = object(), object(), object()
    chain = hooks.Hook(one, hooks.Hook(other, hooks.Hook(one, plain)))
    left = hooks.without(chain, one)
    assert left.owner is other and left.before is plain
    assert hooks.without(left, other) is plain
