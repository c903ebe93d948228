"""Where optimizers end on a problem that is not convex: a convolutional network that reads digits."""

import keras
import numpy as np
from example_names import small_mnist
from keras import layers

import tf_terngrad as tt


def test_adam_ends_as_small_as_sgd_at_the_same_loss():
    """At one strength, as long under both, in the mean of two beginnings: processors round differently."""
    (sgd, loss), (adam, other) = mean(keras.optimizers.SGD, 0.05, momentum=0.9), mean(keras.optimizers.Adam, 0.01)
    assert 1 / 1.25 < loss / other < 1.25
    assert 1 / 1.5 < sgd / adam < 1.5
    assert max(sgd, adam) < 40


def mean(kind, rate, **options):
    return np.mean([digits(kind, rate, seed, **options) for seed in range(2)], axis=0)


def digits(kind, rate, seed, epochs=80, batch=64, **options):
    """How many of 100 filters and units live after training on digits, and the loss without the penalty."""
    (x, y), _ = small_mnist()
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Rescaling(1 / 255)])
    for filters in (12, 24):
        model.add(layers.Conv2D(filters, 3, padding="same", activation="relu"))
        model.add(layers.MaxPooling2D())
    for layer in (layers.Flatten(), layers.Dense(64, "relu"), layers.Dense(10)):
        model.add(layer)
    tt.sparsify(model, strength=1e-2)
    falling = keras.optimizers.schedules.CosineDecay(rate, epochs * -(-len(x) // batch))  # a constant one ends in noise
    model.compile(kind(falling, **options), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x[..., None], y, batch_size=batch, epochs=epochs, verbose=0)
    found = [s for s in tt.structures(model) if s.kind in ("filter", "unit")]
    return sum(np.count_nonzero(s.norms()) for s in found), model.evaluate(x[..., None], y, batch_size=700, verbose=0)
