"""A budget met while training: in every way to train, under every optimizer, on every kind of model."""

import itertools
import logging
import random

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
import tensorflow as tf
from cost_models import GRAPHS, NOTES, shapes
from keras import layers
from laws import check_laws
from test_dead import OPTIMIZERS, X, Y, dead, momentum, network, train
from test_sparsify import WAYS, batches
from training_laws import train as train_any

import tf_terngrad as tt

pytestmark = NOTES


def image_network():
    keras.utils.set_random_seed(5)
    image = keras.Input((4, 4, 2))
    start = layers.Conv2D(8, 3, padding="same", activation="relu", name="start")(image)
    back = layers.Conv2D(8, 3, padding="same", use_bias=False, name="back")(start)
    normal = layers.BatchNormalization(name="normal")(layers.Add(name="sum")([start, back]))
    hidden = layers.Dense(12, activation="relu", name="hidden")(layers.Flatten()(normal))
    return keras.Model(image, layers.Dense(2, name="out")(hidden))


def within(model, whole, low=0.0, **limits):
    """Whether the compact model is within limits, shares of `whole`, and uses as much of them."""
    small = tt.costs(tt.compact(model))
    used = [getattr(small, name) / (share * getattr(whole, name)) for name, share in limits.items()]
    return low <= max(used) <= 1


@pytest.fixture(scope="module")
def by_fit():
    model = image_network()
    tt.sparsify(model, budget=tt.Budget(multiply_adds=0.3), schedule=tt.BudgetSchedule(0.1, 0.6, updates=10))
    WAYS["fit"](model, batches(10))
    return [weight.numpy() for weight in model.weights]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_train_meets_it_with_the_same_weights(by_fit, way):
    model = image_network()
    whole = tt.costs(model)
    tt.sparsify(model, budget=tt.Budget(multiply_adds=0.3), schedule=tt.BudgetSchedule(0.1, 0.6, updates=10))
    WAYS[way](model, batches(10))
    assert within(model, whole, multiply_adds=0.3, low=0.8)
    for weight, expected in zip(model.weights, by_fit, strict=True):
        np.testing.assert_allclose(weight.numpy(), expected, atol=2e-5, err_msg=weight.path)


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=list(OPTIMIZERS))
def test_under_every_optimizer_what_left_is_gone_for_good(make):
    model, optimizer = network(), make()
    whole = tt.costs(model)
    tt.sparsify(model, budget=tt.Budget(multiply_adds=0.3), schedule=tt.BudgetSchedule(0.1, 0.5))
    optimizer.build(model.trainable_variables)
    model.compile(optimizer, "mse")
    seen = []
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(dead(model)))
    train(model, 6, callbacks=[watch])
    assert within(model, whole, multiply_adds=0.3, low=0.85)
    for before, after in itertools.pairwise(seen):
        assert all(members <= after[name] for name, members in before.items())
    assert not any(seen[0].values()) or seen[0] != seen[-1]
    assert seen[-2] == seen[-1]


@pytest.mark.parametrize("kind", GRAPHS)
@hypothesis.given(st.integers(0, 10**6), st.floats(0.3, 0.9))
@hypothesis.settings(max_examples=2)
def test_every_model_is_within_it_after_compact(kind, seed, share):
    model = tt.compact(GRAPHS[kind].grow(random.Random(seed)))
    whole, budget = tt.costs(model, shapes(model)), tt.Budget(multiply_adds=share)
    try:
        tt.sparsify(model, budget=budget, schedule=tt.BudgetSchedule(0.0, 0.7), input_shapes=shapes(model))
    except ValueError as refused:
        assert any(reason in str(refused) for reason in ("can be met", "nothing of this model", "no structure is left"))
        return
    train_any(model, momentum(1e-4), epochs=2)
    small = check_laws(model, must_vary=False)
    assert budget.allows(tt.costs(small, shapes(small)), whole)


def test_of_several_limits_all_hold_and_parts_are_left_alone():
    model = network()
    whole = tt.costs(model)
    sparsity = tt.sparsify(model, budget=tt.Budget(multiply_adds=0.6, parameters=0.5), include=["a"])
    model.compile(momentum(), "mse")
    train(model, 4)
    assert within(model, whole, multiply_adds=0.6, parameters=0.5, low=0.8)
    assert not dead(model)["b"] and dead(model)["a"]
    small = tt.costs(tt.compact(model))
    now = sparsity.budgeted.costs()
    assert (now.multiply_adds, now.parameters) == (small.multiply_adds, small.parameters)


def test_widths_stay_multiples():
    model = network()
    whole = tt.costs(model)
    tt.sparsify(model, budget=tt.Budget(multiply_adds=0.4), round_to=4)
    model.compile(momentum(), "mse")
    train(model, 4)
    small = tt.compact(model)
    assert {small.get_layer(name).units % 4 for name in "ab"} == {0}
    assert 0.15 <= tt.costs(small).multiply_adds / whole.multiply_adds <= 0.4


def test_the_course_is_cubic_between_its_ends():
    sparsity = tt.sparsify(
        network(), budget=tt.Budget(multiply_adds=0.3), schedule=tt.BudgetSchedule(0.2, 0.7, updates=20)
    )
    course = sparsity.budgeted.course
    seen = [[float(part) for part in course.advance(tf.constant(True))] for _ in range(20)]
    assert [bool(due) for due, _ in seen] == [4 < update <= 14 for update in range(1, 21)]
    np.testing.assert_allclose(
        [left for _, left in seen], np.clip(1 - (np.arange(1, 21) - 4) / 10, 0, 1) ** 3, atol=1e-6
    )


@pytest.mark.parametrize(
    ("options", "updates"),
    [
        ({"epochs": 6}, 48),
        ({"epochs": 6, "steps_per_epoch": 4}, 24),
        ({"epochs": 9, "initial_epoch": 3}, 48),
    ],
)
def test_fit_says_how_many_updates_there_will_be(options, updates, caplog):
    model = network()
    sparsity = tt.sparsify(model, budget=tt.Budget(multiply_adds=0.3))
    model.compile(momentum(), "mse")
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(32).repeat(None if "steps_per_epoch" in options else 1)
    with caplog.at_level(logging.WARNING, "tf_terngrad"):
        model.fit(data, verbose=0, shuffle=False, **options)
    assert sparsity.budgeted.course.updates == updates and sparsity.budgeted.is_met
    (said,) = (record.getMessage() for record in caplog.records)
    first, last = round(updates / 10), round(updates * 0.6)
    assert f"{updates} updates in 6 epochs: dense until update {first}, members leave until update {last}" in said


def generated():
    for first in range(0, 256, 32):
        yield X[first : first + 32], Y[first : first + 32]


@pytest.mark.filterwarnings("ignore:Your input ran out of data")  # Keras, of every data set of unknown length
def test_a_generator_shows_its_length_after_an_epoch():
    model = network()
    whole = tt.costs(model)
    sparsity = tt.sparsify(model, budget=tt.Budget(multiply_adds=0.3))
    model.compile(momentum(), "mse")
    data = tf.data.Dataset.from_generator(
        generated, output_signature=(tf.TensorSpec((None, 10)), tf.TensorSpec((None, 1)))
    )
    model.fit(data, epochs=5, verbose=0, shuffle=False)
    assert sparsity.budgeted.course.updates == 40
    assert within(model, whole, multiply_adds=0.3, low=0.85)


def test_accumulated_gradients_count_as_one_update():
    model = network()
    sparsity = tt.sparsify(model, budget=tt.Budget(multiply_adds=0.3))
    model.compile(momentum(gradient_accumulation_steps=2), "mse")
    train(model, 6)
    assert sparsity.budgeted.course.updates == 24 and sparsity.budgeted.is_met


def test_an_interrupted_training_goes_on_where_it_was(tmp_path):
    def stop(epoch, logs):
        if epoch == 2:
            raise KeyboardInterrupt

    def model_with_a_budget():
        model = network()
        sparsity = tt.sparsify(model, budget=tt.Budget(multiply_adds=0.3))
        model.compile(momentum(), "mse")
        return model, sparsity

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup")

    model, _ = model_with_a_budget()
    with pytest.raises(KeyboardInterrupt):
        train(model, 8, callbacks=[backup(), keras.callbacks.LambdaCallback(on_epoch_begin=stop)])
    model, sparsity = model_with_a_budget()
    train(model, 8, callbacks=[backup()])
    assert sparsity.budgeted.course.updates == 64 and int(sparsity.budgeted.course.variables[0].value) == 64
    assert within(model, tt.costs(network()), multiply_adds=0.3, low=0.85)


def test_a_training_that_ends_too_early_says_so(caplog):
    model = network()
    tt.sparsify(model, budget=tt.Budget(multiply_adds=0.3))
    model.compile(momentum(), "mse")
    stop = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: setattr(model, "stop_training", epoch == 1))
    with caplog.at_level(logging.WARNING, "tf_terngrad"):
        train(model, 10, callbacks=[stop])
    assert "ended before its budget was met" in caplog.records[-1].getMessage()
    train(model, 4)
    assert within(model, tt.costs(network()), multiply_adds=0.3, low=0.85)


def test_a_loop_has_to_say_how_long_it_is():
    model = network()
    tt.sparsify(model, budget=tt.Budget(multiply_adds=0.3))
    model.compile(momentum(), "mse")
    with pytest.raises(ValueError, match=r"schedule=tt.BudgetSchedule\(updates=...\)"):
        model.train_on_batch(X, Y)


def test_small_weights_stay_what_they_are():
    model = network()
    tt.sparsify(model, budget=tt.Budget(multiply_adds=0.5))
    model.compile(keras.optimizers.Adam(1e-6), "mse")
    train(model, 2)
    biases = [weight.numpy() for weight in model.weights if weight.name == "bias"]
    assert any((bias != 0).any() and np.abs(bias).max() < 1e-4 for bias in biases)


def test_what_left_counts_as_gone_however_far_an_optimizer_moves_it():
    model, seen = network(), []
    sparsity = tt.sparsify(model, budget=tt.Budget(multiply_adds=0.5), schedule=tt.BudgetSchedule(0, 0.9, updates=20))
    leaving = sparsity.budgeted.leaving

    def watched(squared_norms, *arguments):
        seen.append(int((squared_norms.numpy() == 0).sum()))
        return leaving(squared_norms, *arguments)

    sparsity.budgeted.leaving = watched
    model.compile(keras.optimizers.Adam(0.5), "mse", run_eagerly=True)
    model.fit(X[:40], Y[:40], batch_size=2, verbose=0, shuffle=False)
    assert seen[0] == 0 < seen[-1]
    assert (np.diff(seen) >= 0).all()


def parts(model):
    return [model.get_layer(name).trainable_variables for name in ("a", "b")]


class TwoOptimizers(keras.Model):
    """As in guides on discriminative rates: one optimizer of the class beside the compiled one."""

    def train_step(self, data):
        x, y = data
        first, rest = parts(self)
        rest = [weight for weight in self.trainable_variables if not any(weight is other for other in first)]
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        gradients = tape.gradient(loss, [*first, *rest])
        self.other.apply(gradients[: len(first)], first)
        self.optimizer.apply(gradients[len(first) :], rest)
        return {"loss": loss}


def test_a_step_of_several_optimizers_counts_once():
    model = network()
    model = TwoOptimizers(model.inputs, model.outputs)
    model.other = keras.optimizers.Adam(1e-3)
    sparsity = tt.sparsify(model, budget=tt.Budget(multiply_adds=0.5))
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    costs = []
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: costs.append(sparsity.budgeted.costs().multiply_adds)
    )
    model.fit(X[:40], Y[:40], batch_size=2, verbose=0, callbacks=[watch])  # 20 updates: from 2 to 12
    whole = tt.costs(model).multiply_adds
    assert costs[1] == whole > costs[3]
    assert costs[5] > 0.5 * whole >= costs[11]


def test_a_strength_beside_a_budget_works_too():
    model = network()
    whole = tt.costs(model)
    strength = tt.sparsify(model, strength=1e-3, kinds=["unit"])
    tt.sparsify(model, budget=tt.Budget(multiply_adds=0.3))
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    train(model, 5)
    strength.release()
    assert within(model, whole, multiply_adds=0.3, low=0.5)


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"budget": tt.Budget(parameters=3)}, ValueError, "can be met. With the least that can stay of each"),
        ({"budget": 0.5}, TypeError, "expected `budget` to be a tt.Budget"),
        ({"budget": tt.Budget(parameters=0.5), "strength": 1.0}, ValueError, "one of `strength`, `ratio` and `budget`"),
        ({"budget": tt.Budget(parameters=0.5), "method": "subgradient"}, ValueError, "without a penalty"),
        ({"budget": tt.Budget(parameters=0.5), "schedule": 3}, TypeError, "a tt.BudgetSchedule"),
        ({"strength": 1.0, "schedule": tt.BudgetSchedule()}, ValueError, "`schedule` is that of a budget"),
    ],
)
def test_mistakes_are_refused(arguments, error, sentence):
    model = network()
    before = [weight.constraint for weight in model.weights]
    with pytest.raises(error, match=sentence):
        tt.sparsify(model, **arguments)
    assert [weight.constraint for weight in model.weights] == before


@pytest.mark.parametrize("arguments", [(0.5, 0.5), (0.2, 1.1), (-0.1, 0.5), (1.0, 1.0), (0.1, 0.6, 1)])
def test_schedules_out_of_range_are_refused(arguments):
    with pytest.raises(ValueError, match="BudgetSchedule: expected"):
        tt.BudgetSchedule(*arguments)
