"""The strength means the same under every optimizer: where each of them ends, against a solver that is none of them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from convex import INPUTS, OUTPUTS, STRENGTH, USEFUL, X, Y, descend, network, solve, violation

import tf_terngrad as tt
from tf_terngrad.sparsity.learn import metrics

STEPS = 2000
optimizers = keras.optimizers


def falling(rate):
    """For optimizers that step as far at the optimum as elsewhere."""
    return optimizers.schedules.PolynomialDecay(rate, STEPS, rate / 1000)


def no_decay(**arguments):
    """Muon without the weight decay that it has by itself; the one of its Adam came with Keras 3.12."""
    muon = optimizers.Muon(falling(0.03), weight_decay=None, **arguments)
    muon.adam_weight_decay = None
    return muon


OPTIMIZERS = {
    "SGD": lambda: optimizers.SGD(0.1),
    "momentum": lambda: optimizers.SGD(0.01, momentum=0.9),
    "momentum, rate falls": lambda: optimizers.SGD(falling(0.05), momentum=0.9),
    "Nesterov": lambda: optimizers.SGD(0.01, momentum=0.9, nesterov=True),
    "Adam": lambda: optimizers.Adam(0.01),
    "AMSGrad": lambda: optimizers.Adam(0.01, amsgrad=True),
    "AdamW": lambda: optimizers.AdamW(0.01, weight_decay=0.0),
    "Nadam": lambda: optimizers.Nadam(0.01),
    "Adamax": lambda: optimizers.Adamax(0.01),
    "RMSprop": lambda: optimizers.RMSprop(falling(0.01)),
    "RMSprop, momentum": lambda: optimizers.RMSprop(falling(0.003), momentum=0.9),
    "RMSprop, centered": lambda: optimizers.RMSprop(falling(1e-3), centered=True, epsilon=1e-3),
    "Adagrad": lambda: optimizers.Adagrad(0.1),
    "Adadelta": lambda: optimizers.Adadelta(3.0),
    "Ftrl": lambda: optimizers.Ftrl(0.1),
    "Lamb": lambda: optimizers.Lamb(falling(0.03)),
    "Lion": lambda: optimizers.Lion(falling(0.01)),
    "Adafactor": lambda: optimizers.Adafactor(falling(0.2)),
    "accumulation": lambda: optimizers.Adam(0.02, gradient_accumulation_steps=2),
    "loss scale": lambda: optimizers.LossScaleOptimizer(optimizers.Adam(0.01)),
    "loss scale factor": lambda: optimizers.Adam(0.01, loss_scale_factor=64.0),
    "clipped": lambda: optimizers.Adam(0.01, clipvalue=1.0),
    "averages": lambda: optimizers.Adam(0.01, use_ema=True),
}
if tuple(map(int, keras.__version__.split(".")[:2])) >= (3, 13):  # before, Muon fails with TensorFlow
    OPTIMIZERS |= {"Muon": no_decay, "Muon's Adam": lambda: no_decay(exclude_layers=["dense"])}
if hasattr(optimizers, "ScheduleFreeAdamW"):
    OPTIMIZERS |= {
        "ScheduleFree": lambda: optimizers.ScheduleFreeAdamW(0.05),
        "ScheduleFree, warm-up": lambda: optimizers.ScheduleFreeAdamW(0.05, warmup_steps=50),
    }
ACCURACY = {"Adafactor": 0.03}


@pytest.fixture(scope="module")
def optimum():
    return solve()


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if "Lamb" not in name or hasattr(optimizers, "Lamb")])
def test_every_optimizer_ends_at_the_optimum(name, optimum):
    model = network()
    tt.sparsify(model, strength=STRENGTH, kinds=["input"])
    weights = descend(model, OPTIMIZERS[name](), STEPS)
    np.testing.assert_array_equal((weights != 0).any(1), (optimum != 0).any(1))
    np.testing.assert_allclose(weights, optimum, atol=2e-3 if name not in ACCURACY else 3e-2)
    assert violation(weights) < ACCURACY.get(name, 0.01)


def test_the_oracle_is_at_its_optimum_and_tells_others(optimum):
    assert violation(optimum) < 1e-9
    assert (optimum == 0).all(1).sum() == INPUTS - USEFUL
    assert violation(1.05 * optimum) > 0.01
    assert violation(np.where(optimum == 0, 1e-3, optimum)) > 0.5


def test_a_weight_decay_is_its_own(optimum):
    """What decays is no gradient: AdamW's rows are shorter for it, and as many are dead."""
    model = network()
    tt.sparsify(model, strength=STRENGTH, kinds=["input"])
    weights = descend(model, optimizers.AdamW(0.01, weight_decay=0.1), STEPS)
    np.testing.assert_array_equal((weights != 0).any(1), (optimum != 0).any(1))
    assert (np.linalg.norm(weights, axis=1) <= np.linalg.norm(optimum, axis=1)).all()


@pytest.mark.parametrize("options", [{}, {"jit_compile": True}, {"run_eagerly": True}], ids=["graph", "XLA", "eager"])
def test_fit_makes_the_step_of_a_loop(options):
    weights = []
    for train in (fit, lambda model, make, **_: descend(model, make(), 60)):
        model = network()
        tt.sparsify(model, strength=STRENGTH, kinds=["input"])
        train(model, lambda: optimizers.Adam(0.05), **options)
        weights.append(model.weights[0].numpy())
    np.testing.assert_allclose(*weights, rtol=1e-3, atol=1e-5)


def fit(model, make, **options):
    model.compile(make(), "mse", **options)
    model.fit(np.tile(X, (60, 1)), np.tile(Y, (60, 1)), batch_size=len(X), shuffle=False, verbose=0)


def test_two_optimizers_each_in_their_own_metric(optimum):
    """Half of the kernel's rows belong to a layer that Adam moves, half to one that SGD does."""
    keras.utils.set_random_seed(1)
    image = keras.Input((INPUTS,))
    halves = [keras.layers.Dense(OUTPUTS, use_bias=False, name=name) for name in ("left", "right")]
    half = INPUTS // 2
    model = keras.Model(image, halves[0](image[:, :half]) + halves[1](image[:, half:]))
    tt.sparsify(model, strength=STRENGTH, kinds=["input"])
    parts = [(layer.trainable_variables, make) for layer, make in zip(halves, MAKERS, strict=True)]
    parts = [(variables, make()) for variables, make in parts]
    step = alternating(model, parts)
    for _ in range(400):
        step()
    weights = np.concatenate([layer.kernel.numpy() for layer in halves])
    np.testing.assert_array_equal((weights != 0).any(1), (optimum != 0).any(1))
    assert violation(weights) < 0.02


MAKERS = (lambda: optimizers.Adam(0.02), lambda: optimizers.SGD(0.05, momentum=0.5))


def alternating(model, parts):
    for variables, optimizer in parts:
        optimizer.build(variables)

    @tf.function
    def step():
        for variables, optimizer in parts:
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(model(X, training=True) - Y))
            optimizer.apply(tape.gradient(loss, variables), variables)

    return step


# Optimizers that Keras does not have


class Halved(optimizers.Adam):
    """Adam that steps half as far."""

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(gradient, variable, learning_rate / 2)


class Warm(optimizers.Adam):
    """Adam with another constructor, which changes nothing."""

    def __init__(self, warmth, **arguments):
        super().__init__(**arguments)
        self.warmth = warmth


def test_a_subclass_that_updates_as_its_parent_does_has_its_metric():
    assert metrics.find_metric(Warm(1.0)) is metrics.find_metric(optimizers.Adam())
    assert metrics.find_metric(Halved()) is None


def test_an_unknown_optimizer_takes_the_learning_rate_and_says_so():
    model = network()
    tt.sparsify(model, strength=STRENGTH, kinds=["input"])
    with pytest.warns(UserWarning, match="how Halved scales gradients is not known.*tt.register_metric"):
        descend(model, Halved(0.01), 3)


def test_a_metric_of_ones_own(optimum, monkeypatch):
    monkeypatch.setattr(metrics, "_METRICS", dict(metrics._METRICS))

    of_adam = metrics.find_metric(optimizers.Adam())

    def halved(optimizer, slot):
        whole = of_adam(optimizer, slot)
        return tt.Metric(whole.rate / 2, whole.reach)

    tt.register_metric(Halved, halved)
    model = network()
    tt.sparsify(model, strength=STRENGTH, kinds=["input"])
    weights = descend(model, Halved(0.02), STEPS)
    np.testing.assert_allclose(weights, optimum, atol=2e-3)
    assert violation(weights) < 0.01


@pytest.mark.parametrize(
    "optimizer, metric, word",
    [
        (optimizers.Adam(), lambda *_: None, "a class"),
        ("adam", lambda *_: None, "a class"),
        (Halved, 1.0, "a function"),
    ],
)
def test_what_can_be_registered(optimizer, metric, word):
    with pytest.raises(TypeError, match=f"register_metric: expected .*{word}.*Received: "):
        tt.register_metric(optimizer, metric)


# Weights that have had no gradient


def test_weights_without_a_gradient_are_pulled_no_further_than_the_optimizer_steps():
    """An embedding's rows that no batch has shown: their second moment is zero, and a metric alone would zero them."""
    keras.utils.set_random_seed(2)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Embedding(50, 6), keras.layers.Flatten(), keras.layers.Dense(1)]
    )
    tt.sparsify(model, strength=1e-3)
    model.compile(optimizers.Adam(1e-3), "mse")
    table = model.layers[0].embeddings
    before = table.numpy()
    model.train_on_batch(np.array([[1, 2, 3]]), np.ones((1, 1)))
    unseen = np.delete(np.arange(50), [1, 2, 3])
    assert np.abs(table.numpy() - before)[unseen].max() < 1.1e-3
    assert (table.numpy()[unseen] != 0).mean() > 0.8
