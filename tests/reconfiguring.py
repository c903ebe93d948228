"""A small training that loses structures on its way, with and without `tt.callbacks.Reconfigure`."""

import keras
import numpy as np
from keras import layers

import tf_terngrad as tt

BATCH = 16


def images(count=32):
    """Images, of which only the first colour matters, and three classes."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 6, 6, 3)).astype("float32")
    return x, np.digitize(x[..., 0].mean((1, 2)), [-0.05, 0.05])


def network(width=8, hidden="sigmoid"):
    """Convolutions with normalization around a residual sum, and units that are not zero at zero."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((6, 6, 3))
    x = layers.Dropout(0.1, name="drop")(inputs)
    x = layers.Conv2D(width, 3, padding="same", activation="relu", name="stem")(x)
    y = layers.Conv2D(width, 3, padding="same", name="inner")(x)
    y = layers.ReLU()(layers.BatchNormalization(name="norm")(y))
    x = layers.Add(name="sum")([x, layers.Conv2D(width, 3, padding="same", name="outer")(y)])
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(10, activation=hidden, name="hidden")(x)
    return keras.Model(inputs, layers.Dense(3, name="logits")(x))


def compiled(model, optimizer, **options):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, **{"metrics": ["accuracy"], "run_eagerly": True} | options)
    return model


def trained(model, *callbacks, epochs=3, **options):
    """The history of a training, without shuffling."""
    options = {"batch_size": BATCH, "epochs": epochs, "shuffle": False, "verbose": 0} | options
    return model.fit(*images(), callbacks=list(callbacks), **options).history


class Zeroing(keras.callbacks.Callback):
    """At the end of the first two epochs, zeroes the smallest two that live of each structure, and holds them."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch < 2:
            for found in tt.structures(self.model):
                norms = found.norms()
                if found.kind != "branch":
                    found.zero(np.argsort(np.where(norms == 0, np.inf, norms))[:2])
            tt.hold(self.model)


def assert_same(model, other, rtol=1e-4, atol=1e-6):
    """Both have the same weights, to rounding, once all that is dead has left."""
    small, expected = tt.compact(model), tt.compact(other)
    assert [tuple(each.shape) for each in small.weights] == [tuple(each.shape) for each in expected.weights]
    for mine, theirs in zip(small.weights, expected.weights, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=atol, err_msg=mine.path)
