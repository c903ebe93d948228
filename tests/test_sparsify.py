"""Training with sparsify, against a plain twin whose weights NumPy shrinks; the same in every way to train."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from group_oracles import lasso_and_gradient, shrunk
from keras import layers

from tf_terngrad.sparsity.compact import compact
from tf_terngrad.sparsity.sparsify import sparsify
from tf_terngrad.sparsity.structures import structures

STEPS, RATE, STRENGTH = 5, 0.1, 2.4


def network():
    """Dense and convolutional, with a residual branch, batch norm and a flatten."""
    keras.utils.set_random_seed(5)
    image = keras.Input((4, 4, 2))
    start = layers.Conv2D(3, 3, padding="same", activation="relu", name="start")(image)
    back = layers.Conv2D(3, 3, padding="same", use_bias=False, name="back")(start)
    total = layers.Add(name="sum")([start, back])
    normal = layers.BatchNormalization(name="normal")(total)
    hidden = layers.Dense(6, activation="relu", name="hidden")(layers.Flatten()(normal))
    return keras.Model(image, layers.Dense(2, name="out")(hidden))


def batches(count=STEPS):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(count, 8, 4, 4, 2)), rng.normal(size=(count, 8, 2))
    return list(zip(x.astype("float32"), y.astype("float32"), strict=True))


def by_fit(model, data, optimizer=None, **compile_arguments):
    x, y = map(np.concatenate, zip(*data, strict=True))
    model.compile(optimizer or keras.optimizers.SGD(RATE), "mse", **compile_arguments)
    model.fit(x, y, batch_size=len(data[0][0]), shuffle=False, verbose=0)


def by_loop(model, data, optimizer=None, graph=False, jit_compile=None):
    optimizer = optimizer or keras.optimizers.SGD(RATE)
    model.compile(optimizer)
    optimizer.build(model.trainable_variables)

    def step(x, y):
        with tf.GradientTape() as tape:
            loss = keras.ops.mean(keras.ops.square(model(x, training=True) - y)) + sum(model.losses)
        optimizer.apply_gradients(
            zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True)
        )

    step = tf.function(step, jit_compile=jit_compile) if graph else step
    for x, y in data:
        step(x, y)


WAYS = {
    "fit": by_fit,
    "eager loop": by_loop,
    "graph loop": lambda model, data: by_loop(model, data, graph=True),
    "compiled loop": lambda model, data: by_loop(model, data, graph=True, jit_compile=True),
    "several steps": lambda model, data: by_fit(model, data, steps_per_execution=4),
    "XLA": lambda model, data: by_fit(model, data, jit_compile=True),
    "eager fit": lambda model, data: by_fit(model, data, run_eagerly=True),
}


def assign(arrays, found):
    for structure in found:
        for piece in structure.penalized:
            piece.variable.assign(arrays[id(piece.variable)])


def proximal_twin(twin, data, optimizer, step_size):
    """Trains without sparsify; after batch k the groups shrink by step_size(k), in NumPy."""
    found = structures(twin)
    twin.compile(optimizer, "mse")
    for k, (x, y) in enumerate(data):
        twin.train_on_batch(x, y)
        assign(shrunk(found, step_size(k)), found)
    return twin.get_weights()


def subgradient_twin(twin, data, strength, threshold):
    """Gradient descent by hand: the penalty's gradient and the threshold come from NumPy."""
    found = structures(twin)
    for x, y in data:
        with tf.GradientTape() as tape:
            loss = keras.ops.mean(keras.ops.square(twin(x, training=True) - y))
        gradients = tape.gradient(loss, [v.value for v in twin.trainable_variables])
        penalty = lasso_and_gradient(found)[1]
        for variable, gradient in zip(twin.trainable_variables, gradients, strict=True):
            moved = variable.numpy() - RATE * (gradient.numpy() + strength * penalty.get(id(variable), 0))
            if id(variable) in penalty:
                moved[np.abs(moved) < threshold] = 0
            variable.assign(moved)
    return twin.get_weights()


def assert_same(weights, expected, tolerance=2e-5):
    for weight, other in zip(weights, expected, strict=True):
        np.testing.assert_allclose(weight, other, rtol=1e-3, atol=tolerance)


@pytest.fixture(scope="module")
def expected():
    proximal = proximal_twin(network(), batches(), keras.optimizers.SGD(RATE), lambda _: RATE * STRENGTH)
    return {"proximal": proximal, "subgradient": subgradient_twin(network(), batches(), STRENGTH, 0.02)}


@pytest.mark.parametrize("method", ["proximal", "subgradient"])
@pytest.mark.parametrize("train", WAYS.values(), ids=WAYS)
def test_every_way_to_train_gives_the_weights_of_the_twin(expected, method, train):
    model = network()
    sparsify(model, strength=STRENGTH, method=method, threshold=0.02)
    train(model, batches())
    assert_same(model.get_weights(), expected[method])


def test_the_twins_have_zeros_and_more(expected):
    for weights in expected.values():
        kernel = weights[-4]
        assert 0 < (kernel == 0).sum() < kernel.size


def falling(step):
    return RATE * 0.5**step


def schedule():
    return keras.optimizers.schedules.ExponentialDecay(RATE, 1, 0.5)


def constant(step):
    return RATE


OPTIMIZERS = {
    "momentum": (lambda: keras.optimizers.SGD(RATE, momentum=0.75), lambda k: 4 * RATE),
    "plain": (lambda: keras.optimizers.SGD(RATE), constant),
    "schedule": (lambda: keras.optimizers.SGD(schedule()), falling),
    "accumulation": (
        lambda: keras.optimizers.SGD(schedule(), gradient_accumulation_steps=2),
        lambda k: falling(k) * (k % 2),
    ),
    "loss scale": (
        lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(RATE, momentum=0.5)),
        lambda k: 2 * RATE,
    ),
}


@pytest.mark.parametrize("make, rate", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_the_step_follows_the_optimizer(make, rate):
    strength = 0.1
    expected = proximal_twin(network(), batches(), make(), lambda k: strength * rate(k))
    model = network()
    sparsify(model, strength=strength)
    by_fit(model, batches(), make(), steps_per_execution=2)
    assert_same(model.get_weights(), expected, 5e-5)


def half_precision():
    keras.utils.set_random_seed(5)
    hidden = layers.Dense(6, activation="relu", dtype="mixed_float16")
    return keras.Sequential([keras.Input((4, 4, 2)), layers.Flatten(), hidden, layers.Dense(2, dtype="float32")])


def test_mixed_precision_and_steps_that_overflow():
    data = batches()
    data[2] = (data[2][0] * np.inf, data[2][1])
    twin, model = half_precision(), half_precision()
    twin.compile(keras.optimizers.SGD(RATE), "mse")
    expected = proximal_twin(twin, data[:2] + data[3:], keras.optimizers.SGD(RATE), lambda _: RATE * STRENGTH)
    sparsify(model, strength=STRENGTH)
    by_fit(model, data, keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(RATE), initial_scale=2.0**8))
    assert_same(model.get_weights(), expected, 1e-3)


def test_the_optimizer_of_a_loop_is_taken_before_the_compiled_one(expected):
    model, optimizer = network(), keras.optimizers.SGD(RATE)
    model.compile(keras.optimizers.SGD(99.0))
    sparsify(model, strength=STRENGTH, optimizer=optimizer)
    for x, y in batches():
        with tf.GradientTape() as tape:
            loss = keras.ops.mean(keras.ops.square(model(x, training=True) - y))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(list(gradients), model.trainable_variables)
    assert_same(model.get_weights(), expected["proximal"])


def test_compact_takes_out_exactly_the_groups_that_became_zero():
    model = network()
    sparsify(model, strength=1.0, kinds=["filter", "unit"])
    by_fit(model, batches(12))
    dead = {s.name: int((s.norms() == 0).sum()) for s in structures(model) if s.kind != "branch"}
    small = compact(model)
    assert 0 < dead["hidden"] < 6
    assert small.get_layer("hidden").units == 6 - dead["hidden"]
    assert {s.name: s.size for s in structures(small) if s.kind != "branch"} == {
        s.name: s.size - dead[s.name] for s in structures(model) if s.kind != "branch"
    }
    x = batches(1)[0][0]
    np.testing.assert_allclose(small(x), model(x), atol=1e-5)


@pytest.mark.parametrize("used, unused", [("left", "right"), ("right", "left")])
def test_an_output_without_a_loss_does_not_stop_the_step(used, unused):
    image = keras.Input((4,))
    hidden = layers.Dense(5, name="hidden")(image)
    model = keras.Model(image, [layers.Dense(2, name="left")(hidden), layers.Dense(2, name="right")(hidden)])
    sparsity = sparsify(model, strength=1e4, kinds=["unit"])
    model.compile(keras.optimizers.SGD(RATE), {used: "mse", unused: None})
    x = np.ones((8, 4), "float32")
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        model.train_on_batch(x, {used: x[:, :2], unused: None})
    assert not sparsity.structures[0].norms().any()


def test_frozen_layers_stay_and_the_rest_trains():
    for method in ("proximal", "subgradient"):
        model = network()
        sparsity = sparsify(model, strength=STRENGTH, method=method)
        for name in ("start", "out"):
            model.get_layer(name).trainable = False
        before = model.get_layer("start").get_weights()
        by_fit(model, batches())
        assert_same(model.get_layer("start").get_weights(), before, 0)
        assert sparsity.lasso() < sparsify(network(), strength=0.0).lasso()


def test_a_model_that_does_not_train_at_all_is_left_alone():
    for method in ("proximal", "subgradient"):
        model = network()
        sparsify(model, strength=STRENGTH, method=method)
        model.trainable = False
        before = model.get_weights()
        model.compile(keras.optimizers.SGD(RATE), "mse")
        x, y = batches(1)[0]
        with pytest.warns(UserWarning, match="does not have any trainable weights"):
            model.train_on_batch(x, y)
        assert not any(map(float, model.losses))
        assert_same(model.get_weights(), before, 0)


def test_a_proximal_step_without_an_optimizer_says_what_is_missing():
    model = network()
    sparsify(model, strength=STRENGTH)
    kernel = model.get_layer("hidden").kernel
    with pytest.raises(ValueError, match=r"compile model 'functional.*', or .*optimizer of your own loop"):
        kernel.constraint(kernel)


def test_a_loop_shrinks_at_the_rate_of_its_own_optimizer_and_not_of_the_compiled_one(expected):
    model = network()
    sparsify(model, strength=STRENGTH)
    optimizer = keras.optimizers.SGD(RATE)
    model.compile(keras.optimizers.SGD(99.0))
    for x, y in batches():
        with tf.GradientTape() as tape:
            loss = keras.ops.mean(keras.ops.square(model(x, training=True) - y))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
    assert_same(model.get_weights(), expected["proximal"])


def names(**arguments):
    return [s.name for s in sparsify(network(), strength=1.0, **arguments).structures]


def test_kinds_and_names_choose():
    everything = ["start", "hidden", "sum branch"]
    assert names() == everything
    assert names(kinds=["unit"]) == names(include=["hidden"]) == names(include=["h*"]) == ["hidden"]
    assert names(exclude=["s*"]) == names(kinds=("unit", "filter"), exclude=("start",)) == ["hidden"]
    assert names(include=["*"], exclude=["* branch"]) == everything[:2]
    assert sparsify(network(), strength=1.0).groups == 3 + 6 + 1


def test_every_printed_name_chooses_its_structure():
    image = keras.Input((6,))
    wide = layers.Dense(8, name="wide")(image)
    model = keras.Model(image, layers.Dense(1)(wide[:, :3]) + layers.Dense(1)(wide[:, 3:]))
    assert {"wide[0:3]", "wide[3:8]"} <= {structure.name for structure in structures(model)}
    for structure in structures(model):
        assert [s.name for s in sparsify(model, strength=1.0, include=[structure.name]).structures] == [structure.name]


class Subclass(keras.Model):
    def call(self, inputs):
        return inputs


def unbuilt():
    return keras.Sequential([layers.Dense(2)])


ONE_OF = "sparsify: expected one of `strength`, `ratio` and `budget`"
REFUSED = {
    "no strength": (network, {}, ValueError, ONE_OF),
    "both": (network, {"strength": 1.0, "ratio": 0.2}, ValueError, ONE_OF),
    "negative": (network, {"strength": -1.0}, ValueError, "sparsify: expected `strength`.*Received: strength=-1.0"),
    "no Boolean": (network, {"strength": True}, TypeError, "strength=True"),
    "ratio as text": (network, {"ratio": "0.2"}, TypeError, "ratio='0.2'"),
    "threshold as text": (network, {"strength": 1.0, "threshold": "1"}, TypeError, "threshold='1'"),
    "NaN": (network, {"strength": float("nan")}, ValueError, "strength=nan"),
    "no number": (network, {"strength": "1e-3"}, TypeError, "strength='1e-3'"),
    "ratio of one": (network, {"ratio": 1.0}, ValueError, "sparsify: expected `ratio`.*below 1"),
    "negative ratio": (network, {"ratio": -0.1}, ValueError, "sparsify: expected `ratio`.*-0.1"),
    "NaN ratio": (network, {"ratio": float("nan")}, ValueError, "ratio=nan"),
    "threshold": (network, {"strength": 1.0, "threshold": -1}, ValueError, "threshold=-1"),
    "kind": (
        network,
        {"strength": 1.0, "kinds": ["filters"]},
        ValueError,
        "sparsify: expected `kinds`.*'branch'.*'filters'",
    ),
    "kind as text": (network, {"strength": 1.0, "kinds": "unit"}, TypeError, "`kinds` to be a list"),
    "method": (network, {"strength": 1.0, "method": "prox"}, ValueError, "'proximal', 'subgradient'.*method='prox'"),
    "name": (network, {"strength": 1.0, "include": ["hiden"]}, ValueError, r"'hiden'.*start \(filter\), hidden"),
    "excluded name": (network, {"strength": 1.0, "exclude": ["hiden*"]}, ValueError, "matches 'hiden"),
    "nothing that can leave": (
        lambda: keras.Sequential([keras.Input((2, 3)), layers.Dense(4, name="out")]),
        {"strength": 1.0},
        ValueError,
        "nothing of this model can be removed.*tt.register_rule.*Frozen: out: 4 frozen",
    ),
    "nothing left": (network, {"strength": 1.0, "exclude": ["*"]}, ValueError, "no structure is left.*Frozen: out"),
    "optimizer": (
        network,
        {"strength": 1.0, "optimizer": "sgd"},
        TypeError,
        "sparsify: expected `optimizer`.*optimizer='sgd'",
    ),
    "no model": (lambda: "lenet", {"strength": 1.0}, TypeError, "Expected a Keras model"),
    "unbuilt": (unbuilt, {"strength": 1.0}, ValueError, "not built"),
    "subclass": (Subclass, {"strength": 1.0}, ValueError, "subclass"),
}


@pytest.mark.parametrize("make, arguments, error, sentence", REFUSED.values(), ids=REFUSED)
def test_mistakes_are_refused_before_anything_is_put_on_the_model(make, arguments, error, sentence):
    model = make()
    with pytest.raises(error, match=sentence):
        sparsify(model, **arguments)
    if make is network:
        assert all(variable.constraint is None and variable.regularizer is None for variable in model.weights)
