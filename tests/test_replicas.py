"""Replicas of a strategy stay equal, and train as one device with the whole batch: in a process with two devices."""

import json
import pathlib
import sys

import patience
import pytest

PROGRAM = """
import json
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

import keras
import numpy as np
import tf_terngrad as tt

BATCH = 16
x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
y = (x[:, :1] * np.linspace(0, 5, 64)[:, None]).astype("float32")  # the losses of the replicas differ


class OwnStep(keras.Model):
    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": loss}


def network(own_step):
    keras.utils.set_random_seed(3)
    image = keras.Input((4,))
    hidden = keras.layers.Dense(12, activation="relu")(image)
    return (OwnStep if own_step else keras.Model)(image, keras.layers.Dense(1)(hidden))


def by_fit(model, sparsity, strategy):
    model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)


def by_loop(model, sparsity, strategy, graph=True):
    parts = strategy.num_replicas_in_sync

    def replica(x, y):
        with tf.GradientTape() as tape:
            loss = keras.ops.mean(keras.ops.square(model(x, training=True) - y)) / parts
            sparsity.calibrate(loss)
            loss += sum(model.losses) / parts
        gradients = tape.gradient(loss, model.trainable_variables)
        model.optimizer.apply(gradients, model.trainable_variables)

    step = lambda batch: strategy.run(replica, args=batch)
    step = tf.function(step) if graph else step
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)
    for batch in strategy.experimental_distribute_dataset(data):
        step(batch)


WAYS = {
    "fit": (by_fit, {}, False),
    "eager fit": (by_fit, {"run_eagerly": True}, False),
    "own train_step": (by_fit, {}, True),
    "loop": (by_loop, {}, False),
}


def trained(strategy, way, inside, **arguments):
    train, options, own_step = WAYS[way]
    with strategy.scope():
        model = network(own_step)
        model.compile(keras.optimizers.SGD(0.02, momentum=0.5), "mse", **options)
        model.optimizer.build(model.trainable_variables)
        sparsity = tt.sparsify(model, **arguments) if inside else None
    sparsity = sparsity or tt.sparsify(model, **arguments)
    train(model, sparsity, strategy)
    return model, [float(value) for value in values(sparsity.strength)]


def values(variable):
    return [each.numpy() for each in getattr(variable.value, "values", [variable.value])]


def difference(model, other):
    return max(float(np.abs(a - b).max()) for a, b in zip(model.get_weights(), other.get_weights()))


mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])  # one for all: TensorFlow confuses those of several
CASES = [(way, False, {"ratio": 0.4}) for way in WAYS]
CASES += [("fit", True, {"ratio": 0.4}), ("fit", True, {"strength": 0.05})]
METHODS = "proximal", "subgradient"
CASES = [(way, inside, {"method": method, **rest}) for way, inside, rest in CASES for method in METHODS]
budget = {"budget": tt.Budget(multiply_adds=0.5), "schedule": tt.BudgetSchedule(0.1, 0.8, updates=4)}
CASES += [(way, inside, budget) for way in WAYS for inside in (False, True)]
found = {}
for way, inside, arguments in CASES:
    model, strengths = trained(mirrored, way, inside, **arguments)
    single, expected = trained(tf.distribute.get_strategy(), way, False, **arguments)
    apart = max(float(np.abs(np.subtract(*values(v))).max()) for v in model.weights)
    key = f"{way}, {arguments}, {'inside' if inside else 'outside'}"
    used = tt.costs(tt.compact(model)).multiply_adds / 60 if "budget" in arguments else 0
    found[key] = [apart, used, strengths, expected[0], difference(model, single)]
print("FOUND", json.dumps(found))
"""


@pytest.fixture(scope="module")
def found():
    root = str(pathlib.Path(__file__).parents[1])
    done = patience.run([sys.executable, "-c", PROGRAM], cwd=root)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.split("FOUND ")[1])


def test_all_replicas_have_the_same_weights(found):
    assert len(found) == 20
    assert {name: apart for name, (apart, *_) in found.items() if apart} == {}


def test_a_budget_is_met_as_by_one_device(found):
    used = {name: used for name, (_, used, *_) in found.items() if "budget" in name}
    assert len(used) == 8 and all(0.3 <= share <= 0.5 for share in used.values()), used


def test_the_strength_of_a_ratio_is_that_of_one_device_with_the_whole_batch(found):
    for name, (_, _, strengths, expected, _) in found.items():
        assert strengths == pytest.approx([expected] * len(strengths), rel=1e-5), name


def test_the_weights_are_those_of_one_device_with_the_whole_batch(found):
    assert {name: apart for name, (*_, apart) in found.items() if apart > 1e-5} == {}
