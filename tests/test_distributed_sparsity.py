"""A strength from a ratio among real workers, each with other data: one for all, as of one worker with all data."""

import horovod.tensorflow as hvd
import keras
import numpy as np
import pytest
import tensorflow as tf
from workers import run_workers

import tf_terngrad as tt
from tf_terngrad.sparsity.sparsify import METHODS

STEPS, BATCH, RATIO = 4, 16, 0.5


def network():
    keras.utils.set_random_seed(3)
    hidden = keras.layers.Dense(12, activation="relu", name="hidden")
    return keras.Sequential([keras.Input((4,)), hidden, keras.layers.Dense(1)])


def data_of(rank):
    """The workers' losses differ: one has larger targets than the other."""
    x = np.random.default_rng(rank).normal(size=(STEPS * BATCH, 4)).astype("float32")
    return x, (1 + 2 * rank) * np.maximum(x[:, :1], 0)


def by_fit(model, sparsity, make, **options):
    model.compile(tt.distributed.DistributedOptimizer(make(), tt.TernGrad(smallest=1)), "mse", **options)
    model.fit(*data_of(hvd.rank()), batch_size=BATCH, shuffle=False, verbose=0)


def by_loop(model, sparsity, make, taped, graph, of=lambda variable: variable):
    """A loop of one's own, averaging in the tape or in the optimizer."""
    optimizer = make() if taped else tt.distributed.DistributedOptimizer(make(), tt.TernGrad(smallest=1))
    optimizer.build(model.trainable_variables)
    model.compile(optimizer)

    def step(x, y):
        with tf.GradientTape() as tape:
            loss = keras.ops.mean(keras.ops.square(model(x, training=True) - y))
            sparsity.calibrate(loss)
            loss += sum(model.losses)
        if taped:
            tape = tt.distributed.DistributedGradientTape(tape, tt.TernGrad(smallest=1))
        gradients = tape.gradient(loss, [of(variable) for variable in model.trainable_variables])
        optimizer.apply(gradients, model.trainable_variables)

    step = tf.function(step) if graph else step
    for x, y in tf.data.Dataset.from_tensor_slices(data_of(hvd.rank())).batch(BATCH):
        step(x, y)


WAYS = {
    "fit": by_fit,
    "eager fit": lambda *given: by_fit(*given, run_eagerly=True),
    "several steps": lambda *given: by_fit(*given, steps_per_execution=2),
    "optimizer in a graph": lambda *given: by_loop(*given, taped=False, graph=True),
    "optimizer": lambda *given: by_loop(*given, taped=False, graph=False),
    "tape in a graph": lambda *given: by_loop(*given, taped=True, graph=True),
    "tape": lambda *given: by_loop(*given, taped=True, graph=False),
    "tape of TensorFlow's variables": lambda *given: by_loop(
        *given, taped=True, graph=True, of=lambda variable: variable.value
    ),
}
OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.02, momentum=0.5),
    "accumulation": lambda: keras.optimizers.SGD(0.02, gradient_accumulation_steps=2),
    "loss scaling": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.02), initial_scale=4.0),
}
TRAININGS = {name: (train, OPTIMIZERS["momentum"]) for name, train in WAYS.items()}
TRAININGS |= {name: (by_fit, make) for name, make in OPTIMIZERS.items()}


def trained(name, method):
    """The strength and the weights after some steps."""
    train, make = TRAININGS[name]
    model = network()
    sparsity = tt.sparsify(model, ratio=RATIO, method=method)
    train(model, sparsity, make)
    return float(sparsity.strength), model.get_weights()


@pytest.mark.parametrize("method", METHODS)
def test_workers_with_other_data_have_one_strength_and_the_same_weights(method):
    def together():
        return {name: trained(name, method) for name in TRAININGS}

    model = network()
    sparsity = tt.sparsify(model, ratio=RATIO)
    losses = [np.mean((model.predict(x[:BATCH], verbose=0) - y[:BATCH]) ** 2) for x, y in map(data_of, range(2))]
    sparsity.calibrate(np.mean(losses))
    first, second = run_workers(together)
    for name, (strength, weights) in first.items():
        assert strength == second[name][0], name
        assert strength == pytest.approx(float(sparsity.strength), rel=1e-5), name
        for mine, theirs in zip(weights, second[name][1], strict=True):
            np.testing.assert_array_equal(mine, theirs, err_msg=name)


def test_from_workers_with_other_data_the_same_members_leave_for_a_budget():
    def together():
        found = {}
        for name, (train, make) in TRAININGS.items():
            model = network()
            schedule = tt.BudgetSchedule(0, 1, updates=2)
            sparsity = tt.sparsify(model, budget=tt.Budget(multiply_adds=0.5), schedule=schedule)
            train(model, sparsity, make)
            found[name] = tt.costs(tt.compact(model)).multiply_adds, model.get_weights()
        return found

    first, second = run_workers(together)
    for name, (cost, weights) in first.items():
        assert 20 <= cost <= 30, name
        for mine, theirs in zip(weights, second[name][1], strict=True):
            np.testing.assert_array_equal(mine, theirs, err_msg=name)


def test_a_strength_that_was_set_stays_and_all_of_three_workers_have_it():
    def together():
        model = network()
        sparsity = tt.sparsify(model, ratio=RATIO)
        strengths = []
        note = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: strengths.append(float(sparsity.strength))
        )
        model.compile(tt.distributed.DistributedOptimizer(keras.optimizers.SGD(0.01)), "mse")
        model.fit(*data_of(hvd.rank()), batch_size=BATCH, epochs=5, callbacks=[note], verbose=0)
        return strengths

    first, *others = run_workers(together, workers=3)
    assert others == [first] * 2
    assert len(set(first)) == 1 and first[0] > 0


def test_a_first_loss_that_is_not_finite_on_one_worker_sets_the_strength_of_none():
    def together():
        model = network()
        sparsity = tt.sparsify(model, ratio=RATIO)
        optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.01), initial_scale=4.0)
        model.compile(tt.distributed.DistributedOptimizer(optimizer), "mse")
        strengths = []
        for step in range(3):
            x, y = (values[:BATCH] for values in data_of(hvd.rank()))
            model.train_on_batch(x, y * np.inf if step == hvd.rank() else y)
            strengths.append(float(sparsity.strength))
        return strengths, model.get_weights()

    (strengths, weights), (others, other_weights) = run_workers(together)
    assert strengths == others
    assert strengths[:2] == [0, 0] and strengths[2] > 0
    for mine, theirs in zip(weights, other_weights, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_workers_of_which_one_has_no_strength_to_set_are_refused():
    def together():
        model = network()
        for ratio in (0.1, 0.2):
            sparsity = tt.sparsify(model, ratio=ratio)
            if hvd.rank() == 0:
                sparsity.release()
        model.compile(tt.distributed.DistributedOptimizer(keras.optimizers.SGD()), "mse")
        with pytest.raises(tf.errors.InvalidArgumentError) as caught:
            model.train_on_batch(*data_of(0))
        return str(caught.value)

    for message in run_workers(together):
        assert "[0] have 0 strengths to set by the first batch; workers [1] have 2" in message


def test_a_tape_asks_for_the_calibration_before_its_gradients():
    def together():
        model = network()
        tt.sparsify(model, ratio=RATIO)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(tf.ones((2, 4))))
        with pytest.raises(ValueError, match="with a distributed tape, before its gradients"):
            tt.distributed.DistributedGradientTape(tape).gradient(loss, model.trainable_variables)

    run_workers(together)


def test_workers_under_adam_have_the_same_dead_and_hold_the_same():
    def together():
        model = network()
        sparsity = tt.sparsify(model, strength=0.1, kinds=["unit"])
        adam = keras.optimizers.Adam(0.05, beta_2=0.9, use_ema=True, ema_momentum=0.5)
        model.compile(tt.distributed.DistributedOptimizer(adam, tt.TernGrad(smallest=1)), "mse")
        model.fit(*data_of(hvd.rank()), batch_size=BATCH, epochs=12, shuffle=False, verbose=0)
        dead = sparsity.structures[0].norms() == 0
        sparsity.release()
        model.fit(*data_of(hvd.rank()), batch_size=BATCH, epochs=2, shuffle=False, verbose=0)
        return dead, sparsity.structures[0].norms() == 0, model.get_weights()

    (dead, later, weights), (other_dead, _, other_weights) = run_workers(together)
    assert 0 < dead.sum() < dead.size
    np.testing.assert_array_equal(dead, other_dead)
    assert later[dead].all()
    for mine, theirs in zip(weights, other_weights, strict=True):
        np.testing.assert_array_equal(mine, theirs)
