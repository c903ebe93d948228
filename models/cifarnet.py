"""The small convolutional network of TensorFlow's CIFAR-10 tutorial, which TernGrad's experiments train."""

import keras

from models.registry import IMAGES, network


@network(IMAGES)
def cifarnet(input_shape: tuple[int, int, int] = (24, 24, 3), classes: int = 10) -> keras.Model:
    """Two 5 × 5 convolutions of 64 filters, each max-pooled, and dense layers of 384, 192 and the classes.

    18,470,784 multiply-adds and 1,068,298 parameters on crops of 24 × 24. The original also normalizes responses
    locally, with a weight of 1e-4 / 9 that leaves them nearly as they are; that is left out here.

    Args:
        input_shape: (height, width, channels) of one image, or crop.
        classes: number of classes.

    Returns:
        A Functional model from images (batch, height, width, channels) to logits (batch, classes).

    >>> cifarnet().count_params()
    1068298

    Paper: Wen et al., TernGrad: Ternary gradients to reduce communication in distributed deep learning, 2017.
    """
    image = keras.Input(input_shape, name="image")
    x = image
    for number in (1, 2):
        x = keras.layers.Conv2D(64, 5, padding="same", activation="relu", name=f"conv{number}")(x)
        x = keras.layers.MaxPooling2D(3, 2, padding="same", name=f"pool{number}")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dense(384, activation="relu", name="dense1")(x)
    x = keras.layers.Dense(192, activation="relu", name="dense2")(x)
    logits = keras.layers.Dense(classes, name="logits")(x)
    return keras.Model(image, logits, name="cifarnet")
