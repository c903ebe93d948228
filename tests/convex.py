"""A convex problem with inputs that are of no use, and its optimum, found in NumPy without an optimizer of Keras."""

import keras
import numpy as np
import tensorflow as tf

INPUTS, OUTPUTS, USEFUL, STRENGTH = 12, 2, 4, 0.3

_rng = np.random.default_rng(0)
X = _rng.normal(size=(256, INPUTS)).astype("float32")
_WEIGHTS = np.concatenate([_rng.normal(size=(USEFUL, OUTPUTS)), np.zeros((INPUTS - USEFUL, OUTPUTS))])
Y = (X @ _WEIGHTS + 0.1 * _rng.normal(size=(256, OUTPUTS))).astype("float32")


def gradient(weights):
    """Of the mean squared error, without the penalty."""
    return 2 * X.T.astype("float64") @ (X @ weights - Y) / Y.size


def solve(strength=STRENGTH, steps=2000):
    """The weights that minimize `mse + strength * sum of the rows' norms`: proximal gradient descent, float64."""
    weights, rate = np.zeros((INPUTS, OUTPUTS)), 0.5
    for _ in range(steps):
        moved = weights - rate * gradient(weights)
        norms = np.linalg.norm(moved, axis=1, keepdims=True)
        weights = moved * np.maximum(0, 1 - rate * strength / np.maximum(norms, 1e-30))
    return weights


def violation(weights, strength=STRENGTH):
    """How far the rows are from the conditions of the optimum, the worst of them as a share of the strength."""
    pull, norms = gradient(weights), np.linalg.norm(weights, axis=1)
    dead = np.maximum(0, np.linalg.norm(pull, axis=1) - strength)
    living = np.linalg.norm(pull + strength * weights / np.maximum(norms, 1e-30)[:, None], axis=1)
    return np.max(np.where(norms == 0, dead, living)) / strength


def network():
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((INPUTS,)), keras.layers.Dense(OUTPUTS, use_bias=False)])


def descend(model, optimizer, steps):
    """A loop of one's own, of whole batches."""
    x, y, variables = tf.constant(X), tf.constant(Y), model.trainable_variables
    optimizer.build(variables)

    @tf.function
    def train(count):
        for _ in tf.range(count):
            with tf.GradientTape() as tape:
                loss = optimizer.scale_loss(tf.reduce_mean(tf.square(model(x, training=True) - y)))
            optimizer.apply(tape.gradient(loss, variables), variables)

    train(tf.constant(steps))
    return variables[0].numpy()
