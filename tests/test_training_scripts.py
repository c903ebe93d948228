"""Training scripts as people write them, each with `sparsify` in it: exactly one proximal step an update."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from proximal_watch import RATE, STRENGTH, Watch, nothing, weights_of

from tf_terngrad.sparsity.sparsify import sparsify

X = np.random.default_rng(0).normal(size=(8, 6)).astype("float32")
Y = np.zeros((8, 2), "float32")


def dense_network(inputs, hidden, outputs, name=None, cls=keras.Model):
    image = keras.Input((inputs,))
    units = layers.Dense(hidden, activation="relu", name="hidden")(image)
    return cls(image, layers.Dense(outputs, name="out")(units), name=name)


def zero_loss(outputs):
    return keras.ops.mean(nothing(None, outputs))


class GAN(keras.Model):
    """As in Keras' guides: two models, two optimizers, a train_step of its own."""

    def __init__(self, generator, discriminator):
        super().__init__()
        self.generator, self.discriminator = generator, discriminator

    def compile(self, d_optimizer, g_optimizer, **arguments):
        super().compile(**arguments)
        self.d_optimizer, self.g_optimizer = d_optimizer, g_optimizer

    def train_step(self, real):
        noise = tf.random.normal((8, 3))
        with tf.GradientTape() as tape:
            loss = zero_loss(self.discriminator(self.generator(noise))) + zero_loss(self.discriminator(real))
        grads = tape.gradient(loss, self.discriminator.trainable_weights)
        self.d_optimizer.apply_gradients(zip(grads, self.discriminator.trainable_weights, strict=True))
        with tf.GradientTape() as tape:
            loss = zero_loss(self.discriminator(self.generator(noise)))
        grads = tape.gradient(loss, self.generator.trainable_weights)
        self.g_optimizer.apply_gradients(zip(grads, self.generator.trainable_weights, strict=True))
        return {"loss": loss}


@pytest.mark.parametrize("eager", [False, True], ids=["graph", "eager"])
def test_a_gan_with_an_optimizer_for_each_network(eager):
    generator, discriminator = dense_network(3, 5, 6, "generator"), dense_network(6, 5, 1, "discriminator")
    watches = [Watch(generator), Watch(discriminator)]
    for model in (generator, discriminator):
        sparsify(model, STRENGTH)  # neither is compiled: the optimizer is that which makes the update
    gan = GAN(generator, discriminator)
    gan.compile(keras.optimizers.SGD(RATE / 2), keras.optimizers.SGD(RATE), run_eagerly=eager)
    watches[1].expect(rate=RATE / 2)
    gan.fit(X, batch_size=4, epochs=2, verbose=0, callbacks=[watch.callback() for watch in watches])
    assert [watch.updates for watch in watches] == [4, 4]


def test_a_gan_of_two_compiled_models_that_take_turns():
    """The older way: the discriminator is compiled alone, then frozen in the model that trains the generator."""
    generator, discriminator = dense_network(3, 5, 6, "generator"), dense_network(6, 5, 1, "discriminator")
    sparsify(generator, STRENGTH, optimizer=(generator_optimizer := keras.optimizers.SGD(RATE)))
    sparsify(discriminator, STRENGTH)
    discriminator.compile(keras.optimizers.SGD(RATE), nothing)
    noise = keras.Input((3,))
    combined = keras.Model(noise, discriminator(generator(noise)))
    combined.compile(generator_optimizer, nothing)
    watches = [Watch(generator), Watch(discriminator)]
    for _ in range(3):
        for trains in (False, True):
            discriminator.trainable = trains
            watches[0].expect(None if not trains else ())
            watches[1].expect(None if trains else ())
            if trains:
                discriminator.train_on_batch(X, Y[:, :1])
            else:
                combined.train_on_batch(X[:, :3], Y[:, :1])
            for watch in watches:
                watch.check()


def test_transfer_learning_freezes_the_base_and_fine_tunes_it_at_a_lower_rate():
    keras.utils.set_random_seed(5)
    base = keras.Sequential([keras.Input((6,)), layers.Dense(5, activation="relu"), layers.Dense(4)], name="base")
    image = keras.Input((6,))
    model = keras.Model(image, layers.Dense(2, name="top")(layers.Dense(3, name="bottom")(base(image))))
    sparsify(model, STRENGTH)
    watch = Watch(model)
    for base.trainable, rate in ((False, RATE), (True, RATE / 4), (False, RATE)):
        model.compile(keras.optimizers.SGD(rate), nothing)
        watch.expect(None if base.trainable else ("top", "bottom"), rate)
        model.fit(X, Y, batch_size=4, verbose=0, callbacks=[watch.callback()])
    assert watch.updates == 6


class WithOwnStep(keras.Model):
    """A train_step as in Keras' guide, which updates twice for each batch, as sharpness-aware training does."""

    def train_step(self, data):
        x, y = data
        for _ in range(2):
            with tf.GradientTape() as tape:
                loss = self.compute_loss(y=y, y_pred=self(x, training=True))
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": loss}


@pytest.mark.parametrize("arguments", [{}, {"run_eagerly": True}, {"steps_per_execution": 2}])
def test_a_train_step_of_ones_own_with_two_updates(arguments):
    twin, model = dense_network(6, 5, 2), dense_network(6, 5, 2, cls=WithOwnStep)
    model.set_weights(twin.get_weights())
    sparsify(twin, STRENGTH)
    sparsify(model, STRENGTH)
    twin.compile(keras.optimizers.SGD(RATE), "mse")
    model.compile(keras.optimizers.SGD(RATE), "mse", **arguments)
    model.fit(X, Y, batch_size=8, epochs=2, verbose=0)
    for _ in range(4):
        twin.train_on_batch(X, Y)
    for weight, other in zip(model.weights, twin.weights, strict=True):
        np.testing.assert_allclose(weight, other, rtol=1e-5, atol=1e-6)


def test_a_fast_and_a_slow_optimizer_in_one_step():
    model = dense_network(6, 5, 2)
    sparsify(model, STRENGTH)
    fast, slow = keras.optimizers.SGD(RATE), keras.optimizers.SGD(0.0)
    hidden, out = (weights_of(model, [name]) for name in ("hidden", "out"))
    fast.build(hidden)
    slow.build(out)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = zero_loss(model(X, training=True))
        gradients = tape.gradient(loss, hidden + out)
        fast.apply_gradients(zip(gradients[: len(hidden)], hidden, strict=True))
        slow.apply_gradients(zip(gradients[len(hidden) :], out, strict=True))

    watch = Watch(model)
    watch.expect(("hidden",))
    for _ in range(3):
        step()
        watch.check()


@pytest.mark.parametrize("graph", [True, False], ids=["graph", "eager"])
def test_gradients_accumulated_by_hand_with_scaled_losses(graph):
    keras.utils.set_random_seed(5)
    hidden = layers.Dense(5, activation="relu", dtype="mixed_float16", name="hidden")
    model = keras.Sequential([keras.Input((6,)), hidden, layers.Dense(2, dtype="float32", name="out")])
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(RATE), initial_scale=2.0**8)
    sparsify(model, STRENGTH, optimizer=optimizer)
    optimizer.build(model.trainable_variables)
    sums = [tf.Variable(tf.zeros_like(variable)) for variable in model.trainable_variables]

    def accumulate():
        with tf.GradientTape() as tape:
            loss = optimizer.scale_loss(zero_loss(model(X, training=True)))
        for total, gradient in zip(sums, tape.gradient(loss, model.trainable_variables), strict=True):
            total.assign_add(gradient / 4)

    def update():
        optimizer.apply_gradients(zip(sums, model.trainable_variables, strict=True))
        for total in sums:
            total.assign(tf.zeros_like(total))

    accumulate, update = (tf.function(step) if graph else step for step in (accumulate, update))
    watch = Watch(model)
    for batch in range(8):
        accumulate()
        if batch % 4 == 3:
            update()
            watch.check()
    watch.expect(())  # gradients that overflow: the optimizer skips the update, so there is no step
    optimizer.apply([total * np.nan for total in sums], model.trainable_variables)
    watch.check()
