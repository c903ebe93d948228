"""The multilayer perceptron of structured sparsity learning on MNIST."""

import keras

from models.registry import IMAGES, network


@network(IMAGES)
def mlp(input_shape: tuple[int, int, int] = (28, 28, 1), classes: int = 10) -> keras.Model:
    """784-500-300-10, relu between.

    545,000 multiply-adds and 545,810 parameters on MNIST.

    Args:
        input_shape: shape of one image; its pixels are flattened.
        classes: number of classes.

    Returns:
        A Functional model from images (batch, *input_shape) to logits (batch, classes).

    >>> mlp().count_params()
    545810

    Paper: Wen et al., Learning structured sparsity in deep neural networks, 2016.
    """
    image = keras.Input(input_shape, name="image")
    x = keras.layers.Flatten(name="flatten")(image)
    x = keras.layers.Dense(500, activation="relu", name="dense1")(x)
    x = keras.layers.Dense(300, activation="relu", name="dense2")(x)
    logits = keras.layers.Dense(classes, name="logits")(x)
    return keras.Model(image, logits, name="mlp")
