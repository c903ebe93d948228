"""What died stays dead when the penalty goes off, until compaction: momentum, averages, files and phases included."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tf_terngrad as tt
from tf_terngrad.sparsity.sparsify import METHODS

optimizers = keras.optimizers
STRENGTH = 0.065

_rng = np.random.default_rng(0)
X = _rng.normal(size=(256, 10)).astype("float32")
Y = np.sin(X[:, :2].sum(1, keepdims=True)).astype("float32")


def network(activation="relu"):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((10,)),
            layers.Dense(16, activation=activation, name="a"),
            layers.BatchNormalization(name="normal"),
            layers.Dense(12, activation=activation, name="b"),
            layers.Dense(1, name="c"),
        ]
    )


def momentum(rate=0.05, **options):
    return optimizers.SGD(rate, momentum=0.9, **options)


def train(model, epochs, **options):
    model.fit(X, Y, batch_size=32, epochs=epochs, verbose=0, **options)


def dead(model, kinds=("unit",)):
    """Names of structures and their dead members."""
    return {s.name: set(np.flatnonzero(s.norms() == 0)) for s in tt.structures(model) if s.kind in kinds}


def count(found):
    return sum(map(len, found.values()))


def stay(before, model, kinds=("unit",)):
    """All that were dead still are, and they leave."""
    now = dead(model, kinds)
    assert all(members <= now[name] for name, members in before.items())
    small = tt.compact(model)
    for name, members in before.items():
        assert small.get_layer(name).units <= model.get_layer(name).units - len(members)


def sparse(optimizer, epochs=6, **options):
    """A model whose units died in training, all that are dead, and what sparsify put on it."""
    model = network()
    sparsity = tt.sparsify(model, strength=STRENGTH, kinds=["unit"], **options)
    optimizer.build(model.trainable_variables)  # Keras's ScheduleFreeAdamW starts from zeros if `fit` builds it
    model.compile(optimizer, "mse")
    train(model, epochs)
    assert 2 < count(dead(model)) < 28
    return model, sparsity


OPTIMIZERS = {
    "momentum": momentum,
    "Adam": lambda: optimizers.Adam(0.03, beta_2=0.9),
    "RMSprop": lambda: optimizers.RMSprop(0.01, momentum=0.5),
    "Lion": lambda: optimizers.Lion(0.02),
    "accumulation": lambda: momentum(0.1, gradient_accumulation_steps=2),
    "loss scale": lambda: optimizers.LossScaleOptimizer(momentum()),
}
if hasattr(optimizers, "ScheduleFreeAdamW"):
    OPTIMIZERS["ScheduleFree"] = lambda: optimizers.ScheduleFreeAdamW(0.1)


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_saved_model_a_strength_of_zero_and_a_release(make, tmp_path):
    model, sparsity = sparse(make())
    before = dead(model)
    state = [variable.numpy() for variable in model.optimizer.variables]
    model.save(tmp_path / "m.keras")
    for variable, value in zip(model.optimizer.variables, state, strict=True):
        np.testing.assert_array_equal(variable, value)
    loaded = keras.models.load_model(tmp_path / "m.keras")
    train(loaded, 1)
    stay(before, loaded)
    sparsity.strength.assign(0.0)
    train(model, 1)
    stay(before, model)
    sparsity.release()
    train(model, 1)
    stay(before, model)


def test_momentum_would_revive_them():
    """The tests above would fail without what holds."""
    model, sparsity = sparse(momentum())
    before = count(dead(model))
    sparsity.release(revive=True)
    assert all(weight.constraint is None for weight in model.weights)
    train(model, 1)
    assert count(dead(model)) < before


@pytest.mark.parametrize("options", [{"jit_compile": True}, {"run_eagerly": True}], ids=["XLA", "eager"])
def test_another_compile_holds(options):
    model, sparsity = sparse(momentum())
    before = dead(model)
    sparsity.release()
    model.compile(optimizers.Adam(0.01, weight_decay=1e-3), "mse", **options)
    train(model, 1)
    stay(before, model)


@pytest.mark.parametrize("method", METHODS)
def test_a_phase_without_a_penalty_and_one_with_it_again(method):
    model = network()
    sparsity = tt.sparsify(model, strength=STRENGTH, kinds=["unit"], method=method, threshold=3e-2)
    model.compile(momentum(), "mse")
    train(model, 6)
    before = dead(model)
    assert count(before) > 4
    sparsity.release()
    tt.sparsify(model, strength=1e-3, kinds=["unit"])
    model.get_layer("a").trainable = False
    model.compile(momentum(), "mse")
    train(model, 1)
    stay(before, model)


def test_a_loop_of_ones_own():
    optimizer = momentum()
    model, sparsity = sparse(optimizer)
    before = dead(model)
    sparsity.release()

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(X, training=True) - Y))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)

    for _ in range(3):
        step()
    stay(before, model)


def test_weights_that_are_loaded_live():
    """A checkpoint from before they died is not zeroed by what is held."""
    model, sparsity = sparse(momentum())
    sparsity.release()
    twin = network()
    model.set_weights(twin.get_weights())
    for each in (model, twin):
        each.compile(optimizers.SGD(0.01), "mse")
        train(each, 1, shuffle=False)
    for weight, other in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, other)


def test_what_is_zero_from_the_start_lives_while_no_penalty_was_on():
    model = network()
    (units, *_) = (s for s in tt.structures(model) if s.kind == "unit")
    units.zero(np.arange(units.size))
    sparsity = tt.sparsify(model, strength=0.0)
    model.get_layer("b").bias.assign(np.ones(12))
    model.get_layer("a").bias.assign(np.ones(16))  # they live again
    model.compile(momentum(), "mse")
    train(model, 1)
    assert sparsity.groups and not dead(model)["a"]


# Averages of weights

AVERAGES = {
    "at the end": ({}, ()),
    "every five": ({"ema_overwrite_frequency": 5}, ()),
    "swapped": ({}, (keras.callbacks.SwapEMAWeights(swap_on_epoch=True),)),
}


@pytest.mark.parametrize("options, callbacks", AVERAGES.values(), ids=AVERAGES)
def test_averages_of_the_dead_are_zero(options, callbacks):
    model, monitor = network(), tt.callbacks.SparsityMonitor()
    sparsity = tt.sparsify(model, strength=STRENGTH, kinds=["unit"])
    model.compile(momentum(use_ema=True, ema_momentum=0.5, **options), "mse")
    train(model, 6, callbacks=[monitor, *callbacks])
    before = dead(model)
    assert 0 < count(before) == 28 - sum(monitor.live[name] for name in "ab")
    stay(before, model)
    sparsity.release()
    train(model, 1, callbacks=list(callbacks))
    stay(before, model)


def test_averages_of_the_living_are_averages():
    """Against the average of the weights of a twin that keeps none; what dies in between is zero."""
    models = []
    for options in ({}, {"use_ema": True, "ema_momentum": 0.5}):
        model = network()
        tt.sparsify(model, strength=1e-3, kinds=["unit"])
        model.compile(momentum(**options), "mse")
        models.append(model)
    twin, model = models
    kernels = []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: kernels.append(twin.get_layer("a").kernel.numpy())
    )
    train(twin, 1, shuffle=False, callbacks=[note])
    train(model, 1, shuffle=False)
    expected = kernels[0]
    for kernel in kernels[1:]:
        expected = 0.5 * expected + 0.5 * kernel
    np.testing.assert_allclose(model.get_layer("a").kernel, expected, atol=1e-3)  # Keras averages before the step


# Files


def test_weights_alone(tmp_path):
    model, _ = sparse(momentum())
    before = dead(model)
    model.save_weights(tmp_path / "m.weights.h5")
    other = network()
    other.load_weights(tmp_path / "m.weights.h5")
    other.compile(momentum(), "mse")
    train(other, 2)
    stay(before, other)


def test_hold_keeps_what_has_gradients_of_its_own(tmp_path):
    """Input features at zero: the next example that shows one moves it, unless the loaded model is told to hold."""
    model = network()
    tt.sparsify(model, strength=0.1, kinds=["input"])
    model.compile(momentum(), "mse")
    train(model, 6)
    before = dead(model, ["input"])
    assert 0 < count(before) < 10
    model.save(tmp_path / "m.keras")
    for holds in (False, True):
        loaded = keras.models.load_model(tmp_path / "m.keras")
        sparsity = tt.hold(loaded) if holds else None
        train(loaded, 1)
        left = dead(loaded, ["input"])
        assert (left == before) == holds
    sparsity.release(revive=True)
    train(loaded, 1)
    assert count(dead(loaded, ["input"])) < count(before)


def test_hold_on_a_model_in_which_nothing_is_dead_puts_nothing_on_it():
    model = network()
    tt.hold(model)
    assert all(weight.constraint is None for weight in model.weights)


# While the penalty is on

NAMES = ("Adam", "RMSprop", "Lion", "Adagrad")


@pytest.mark.parametrize("make", [momentum, *(getattr(optimizers, name) for name in NAMES)], ids=["momentum", *NAMES])
def test_the_dead_leave_zero_by_a_gradient_beyond_the_strength_and_by_none_below(make):
    """One weight whose gradient is chosen: an optimizer's average of it has to be above the strength."""
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1, use_bias=False)])
    tt.sparsify(model, strength=1.0, kinds=["input"])
    (weight,) = model.trainable_variables
    weight.assign([[0.0]])
    optimizer = make()
    optimizer.build([weight])

    @tf.function
    def steps(size):
        for _ in tf.range(150):
            optimizer.apply([tf.fill((1, 1), size)], [weight])

    for size, leaves in ((0.99, False), (1.5, True)):
        steps(tf.constant(size))
        assert bool(weight.numpy().any()) == leaves


def test_the_dead_of_a_schedule_that_ends_at_zero_stay():
    """The velocity has the learning rates of earlier updates in it."""
    model = network()
    tt.sparsify(model, strength=STRENGTH, kinds=["unit"])
    rate = optimizers.schedules.CosineDecay(0.05, 10 * 8)
    model.compile(optimizers.SGD(rate, momentum=0.9), "mse")
    monitor = tt.callbacks.SparsityMonitor()
    history = model.fit(X, Y, batch_size=32, epochs=10, verbose=0, callbacks=[monitor]).history["units"]
    assert history[-1] <= min(history) < 24
