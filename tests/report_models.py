"""LeNet before and after, and small models for reports."""

import keras
import numpy as np

layers = keras.layers
KEPT = ((20, 8), (50, 16), (500, 64))


def lenet(conv1, conv2, dense1, name="lenet"):
    image = keras.Input((28, 28, 1), name="image")
    x = layers.MaxPooling2D(name="pool1")(layers.Conv2D(conv1, 5, name="conv1")(image))
    x = layers.MaxPooling2D(name="pool2")(layers.Conv2D(conv2, 5, name="conv2")(x))
    x = layers.Dense(dense1, activation="relu", name="dense1")(layers.Flatten(name="flatten")(x))
    return keras.Model(image, layers.Dense(10, name="logits")(x), name=name)


def lenet_pair():
    """LeNet, and LeNet without the structures that are zero in it."""
    rng = np.random.default_rng(0)
    first, second, third = (np.sort(rng.choice(size, stay, replace=False)) for size, stay in KEPT)
    model, small = lenet(20, 50, 500), lenet(8, 16, 64)
    weights = [rng.standard_normal(weight.shape).astype(np.float32) for weight in model.weights]
    for place, stay in zip((0, 2, 4), (first, second, third), strict=True):
        gone = np.setdiff1d(np.arange(weights[place].shape[-1]), stay)
        weights[place][..., gone], weights[place + 1][gone] = 0, 0
    model.set_weights(weights)
    flat = np.arange(800).reshape(4, 4, 50)[:, :, second].ravel()
    weights[0], weights[1] = weights[0][..., first], weights[1][first]
    weights[2], weights[3] = weights[2][:, :, first][..., second], weights[3][second]
    weights[4], weights[5] = weights[4][flat][:, third], weights[5][third]
    weights[6] = weights[6][third]
    small.set_weights(weights)
    return model, small


def chain(*hidden, width=4, name="chain"):
    """A model of layers one after the other, and an output of three."""
    return keras.Sequential([keras.Input((width,)), *hidden, layers.Dense(3, name="out")], name=name)


def by_name(report):
    return {row.name: row for row in report.rows}
