"""Exactly one proximal step an update, however the update is made: by steps without a gradient, against NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from proximal_watch import RATE, STRENGTH, Watch, nothing, weights_of

from tf_terngrad.sparsity.learn import updates
from tf_terngrad.sparsity.sparsify import sparsify

NAMES = ("body", "neck", "head")
X = np.random.default_rng(0).normal(size=(8, 6)).astype("float32")
Y = np.zeros((8, 2), "float32")


def network(cls=keras.Model):
    """The units of the body lie in two layers, those of the neck too; their groups cross in the neck's kernel."""
    keras.utils.set_random_seed(5)
    image = keras.Input((6,))
    body = layers.Dense(5, activation="relu", name="body")(image)
    return cls(image, layers.Dense(2, name="head")(layers.Dense(4, name="neck")(body)))


def sgd(rate=RATE):
    return keras.optimizers.SGD(rate)


def freeze_all_but(model, names):
    for layer in model.layers:
        layer.trainable = layer.name in names


def test_a_step_is_seen():
    """The oracle tells no step, one step and two steps apart."""
    model = network()
    watch = Watch(model)
    with pytest.raises(AssertionError):
        watch.check()
    sparsity = sparsify(model, STRENGTH, optimizer=sgd())
    sparsity.shrink()
    watch.check()
    sparsity.shrink()
    sparsity.shrink()
    with pytest.raises(AssertionError):
        watch.check()


# Several phases with one model, each with other layers that train.

PHASES = {
    "head first": [("head",), ("body",)],
    "body first": [("body",), ("head",), ("body",)],
    "gradual": [("head",), ("neck", "head"), NAMES],
    "overlapping": [("body", "neck"), ("neck", "head"), ("body", "head")],
    "fewer": [NAMES, ("neck",), NAMES],
}
COMPILED = {"graph": {}, "eager": {"run_eagerly": True}, "XLA": {"jit_compile": True}}
TRAININGS = [(phases, way) for phases in PHASES for way in ("graph", "eager")] + [("head first", "XLA")]


@pytest.mark.parametrize("phases, way", TRAININGS)
def test_each_compile_trains_other_layers(phases, way):
    model = network()
    sparsify(model, STRENGTH)
    watch = Watch(model)
    for names in PHASES[phases]:
        freeze_all_but(model, names)
        model.compile(sgd(), nothing, **COMPILED[way])
        watch.expect(names)
        model.fit(X, Y, batch_size=4, verbose=0, callbacks=[watch.callback()])
        model.train_on_batch(X, Y)
        watch.check()
    assert watch.updates == 3 * len(PHASES[phases])


def loop(model, optimizer, variables):
    """An update in a loop of one's own, of some variables."""
    with tf.GradientTape() as tape:
        loss = keras.ops.mean(nothing(None, model(X, training=True)))
    optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))


def loop_over(model, optimizer, variables, graph=True, times=1):
    """A function that makes some updates, each by `loop`."""
    optimizer.build(variables)

    def step():
        for _ in range(times):
            loop(model, optimizer, variables)

    return tf.function(step) if graph else step


@pytest.mark.parametrize("graph", [True, False], ids=["graph", "eager"])
@pytest.mark.parametrize("phases", PHASES.values(), ids=PHASES)
def test_loops_of_ones_own_over_the_variables_of_some_layers(phases, graph):
    model = network()
    sparsify(model, STRENGTH)
    watch = Watch(model)
    for names in phases:
        step = loop_over(model, sgd(), weights_of(model, names), graph)
        watch.expect(names)
        for _ in range(3):
            step()
            watch.check()


@pytest.mark.parametrize("graph", [True, False], ids=["graph", "eager"])
def test_two_optimizers_take_turns_each_with_its_rate(graph):
    model = network()
    sparsify(model, STRENGTH)
    watch = Watch(model)
    turns = [
        (names, rate, loop_over(model, sgd(rate), weights_of(model, names), graph))
        for names, rate in ((("body", "neck"), 0.1), (("head",), 0.05))
    ]
    for names, rate, step in [turns[i] for i in (0, 1, 0, 1, 1, 0, 0)]:
        watch.expect(names, rate)
        step()
        watch.check()


def test_two_updates_in_one_graph_are_two_steps():
    once, twice = network(), network()
    for model, count in ((once, 1), (twice, 2)):
        sparsify(model, STRENGTH)
        step = loop_over(model, sgd(), model.trainable_variables, times=count)
        for _ in range(4 // count):
            step()
    for weight, other in zip(once.weights, twice.weights, strict=True):
        np.testing.assert_allclose(weight, other, rtol=1e-5)


@pytest.mark.skipif(not hasattr(keras.optimizers, "MultiOptimizer"), reason="this Keras has no MultiOptimizer")
@pytest.mark.parametrize("options", COMPILED.values(), ids=COMPILED)
def test_a_multi_optimizer_has_each_part_shrink_at_its_own_rate(options):
    model = network()
    sparsify(model, STRENGTH)
    of_others = keras.optimizers.OptimizerMap(sgd(0.0), {"body/.*": sgd(0.05)})
    model.compile(keras.optimizers.MultiOptimizer(of_others), nothing, **options)
    watch = Watch(model)
    watch.expect(("body",), 0.05)
    for _ in range(3):
        model.train_on_batch(X, Y)
        watch.check()


@pytest.mark.parametrize("eager", [False, True], ids=["graph", "eager"])
def test_layers_freeze_and_thaw_while_one_fit_goes_on(eager):
    model = network()
    sparsify(model, STRENGTH)
    model.compile(sgd(), nothing, run_eagerly=eager)
    watch = Watch(model)
    phases = [NAMES, ("head",), ("body", "neck"), NAMES]

    def set_phase(epoch, logs):
        freeze_all_but(model, phases[epoch])
        model.make_train_function(force=True)
        watch.expect(phases[epoch])

    begin = keras.callbacks.LambdaCallback(on_epoch_begin=set_phase)
    model.fit(X, Y, batch_size=4, epochs=4, verbose=0, callbacks=[begin, watch.callback()])
    assert watch.updates == 8


@pytest.mark.parametrize("place", ["model", "constraint", "optimizer"])
def test_after_an_error_in_the_middle_of_an_update_the_next_one_is_whole(place):
    failing = [False]

    def fail_once(value):
        if failing[0]:
            failing[0] = False
            raise KeyboardInterrupt
        return value

    class Fails(keras.Model):
        def call(self, inputs, training=None):
            return fail_once(super().call(inputs, training=training))

    class FailsInApply(keras.optimizers.SGD):
        def apply(self, grads, trainable_variables=None):
            super().apply(grads, trainable_variables)
            fail_once(None)

    model = network()
    if place == "constraint":
        model.get_layer("neck").kernel.constraint = fail_once
    sparsify(model, STRENGTH)
    if place == "model":
        plain, model.compute_loss = model.compute_loss, lambda *args, **kwargs: fail_once(plain(*args, **kwargs))
    model.compile(FailsInApply(RATE) if place == "optimizer" else sgd(), nothing)
    watch = Watch(model)
    failing[0] = True
    with pytest.raises(KeyboardInterrupt):
        model.train_on_batch(X, Y)
    assert updates.current() is None
    model.make_train_function(force=True)
    watch.expect(NAMES)
    for _ in range(2):
        model.train_on_batch(X, Y)
        watch.check()


OPTIMIZERS = {
    "loss scale": lambda: keras.optimizers.LossScaleOptimizer(sgd()),
    "momentum": lambda: keras.optimizers.SGD(RATE / 2, momentum=0.5),
    "Nesterov": lambda: keras.optimizers.SGD(RATE / 4, momentum=0.75, nesterov=True),
    "schedule": lambda: sgd(keras.optimizers.schedules.ExponentialDecay(RATE, 1000, 1.0)),
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_phases_under_other_optimizers(make):
    model = network()
    sparsify(model, STRENGTH)
    watch = Watch(model)
    for names in PHASES["head first"]:
        freeze_all_but(model, names)
        model.compile(make(), nothing)
        watch.expect(names)
        for _ in range(2):
            model.train_on_batch(X, Y)
            watch.check()


@pytest.mark.parametrize("scaled, given", [(False, False), (True, False), (True, True)])
def test_accumulated_gradients_are_one_update_a_window_in_each_phase(scaled, given):
    model = network()
    watch = Watch(model)
    for names in PHASES["head first"]:
        optimizer = keras.optimizers.SGD(RATE, gradient_accumulation_steps=3)
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer) if scaled else optimizer
        sparsity = sparsify(model, STRENGTH, optimizer=optimizer if given else None)
        freeze_all_but(model, names)
        model.compile(optimizer, nothing)
        for batch in range(6):
            watch.expect(names, steps=int(batch % 3 == 2))
            model.train_on_batch(X, Y)
            watch.check()
        sparsity.release()


class Delegates(keras.optimizers.SGD):
    """Changes the gradients, as those do that clip or add noise, and has Keras apply them."""

    def apply(self, grads, trainable_variables=None):
        super().apply([2 * gradient for gradient in grads], trainable_variables)


class Lookahead(keras.optimizers.Optimizer):
    """Holds another optimizer, as wrappers do that people write."""

    def __init__(self, inner):
        super().__init__(learning_rate=0.0)
        self.wrapped = inner

    def build(self, variables):
        self.wrapped.build(variables)
        super().build(variables)

    def apply(self, grads, trainable_variables=None):
        self.wrapped.apply(grads, trainable_variables)


@pytest.mark.parametrize("make", [lambda: Delegates(RATE), lambda: Lookahead(sgd())], ids=["delegates", "holds"])
@pytest.mark.parametrize("eager", [False, True], ids=["graph", "eager"])
def test_optimizers_with_an_apply_of_their_own(make, eager):
    model = network()
    sparsify(model, STRENGTH)
    watch = Watch(model)
    for names in PHASES["head first"]:
        freeze_all_but(model, names)
        model.compile(make(), nothing, run_eagerly=eager)
        watch.expect(names)
        for _ in range(2):
            model.train_on_batch(X, Y)
            watch.check()


def test_every_way_to_name_the_variables():
    model, optimizer = network(), sgd()
    sparsify(model, STRENGTH)
    variables = model.trainable_variables
    optimizer.build(variables)
    zeros = [keras.ops.zeros_like(variable) for variable in variables]
    watch = Watch(model)
    for update in (
        lambda: optimizer.apply(zeros),
        lambda: optimizer.apply(zeros, iter(variables)),
        lambda: optimizer.apply(grads=zeros, trainable_variables=tuple(variables)),
        lambda: optimizer.apply(zeros[::-1], variables[::-1]),
        lambda: optimizer.apply(zeros, [variables[0], *(variable.value for variable in variables[1:])]),
    ):
        update()
        watch.check()


def test_a_loop_that_calls_the_constraints_itself_shrinks_each_weight_once():
    model = network()
    (body,) = sparsify(model, STRENGTH, kinds=["unit"], include=["body"], optimizer=sgd()).structures
    weight = model.get_layer("body").kernel
    others = [other.numpy() for other in model.weights if other is not weight]
    for _ in range(2):
        expected = weight.numpy() * np.maximum(0, 1 - RATE * STRENGTH / body.norms())
        weight.assign(weight.constraint(weight))
        np.testing.assert_allclose(weight, expected, rtol=1e-5)
    for other, before in zip((w for w in model.weights if w is not weight), others, strict=True):
        np.testing.assert_array_equal(other, before)


def test_an_optimizer_inside_of_another_s_update_ends_first():
    outer, inner = sgd(), sgd()
    with updates.going_on(outer, []):
        with updates.going_on(inner, []) as update:
            assert updates.current() is update and update.optimizer is inner
        assert updates.current().optimizer is outer
    assert updates.current() is None


def test_the_rate_is_that_of_the_first_optimizer_that_has_one():
    plain, scaled = sgd(), keras.optimizers.LossScaleOptimizer(sgd())
    assert updates.with_a_rate(None, plain, scaled) is plain
    assert updates.with_a_rate(scaled, plain) is scaled.inner_optimizer
    assert updates.with_a_rate(None) is None
