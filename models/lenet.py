"""LeNet as Caffe ships it, the baseline of structured sparsity learning on MNIST."""

import keras

from models.registry import IMAGES, network


@network(IMAGES)
def lenet(input_shape: tuple[int, int, int] = (28, 28, 1), classes: int = 10) -> keras.Model:
    """LeNet, 20-50-500: two linear 5 × 5 convolutions, each max-pooled, and two dense layers.

    2,293,000 multiply-adds and 431,080 parameters on MNIST. Like Caffe's, its convolutions have no activation.

    Args:
        input_shape: (height, width, channels) of one image.
        classes: number of classes.

    Returns:
        A Functional model from images (batch, height, width, channels) to logits (batch, classes).

    >>> lenet().count_params()
    431080

    Paper: LeCun et al., Gradient-based learning applied to document recognition, 1998; the widths are those of
    Wen et al., Learning structured sparsity in deep neural networks, 2016.
    """
    image = keras.Input(input_shape, name="image")
    x = keras.layers.Conv2D(20, 5, name="conv1")(image)
    x = keras.layers.MaxPooling2D(name="pool1")(x)
    x = keras.layers.Conv2D(50, 5, name="conv2")(x)
    x = keras.layers.MaxPooling2D(name="pool2")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dense(500, activation="relu", name="dense1")(x)
    logits = keras.layers.Dense(classes, name="logits")(x)
    return keras.Model(image, logits, name="lenet")
