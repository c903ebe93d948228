"""The three-convolution network for CIFAR-10 that comes with Caffe, in which the paper learns rows and columns."""

import keras

from models.registry import IMAGES, network


@network(IMAGES)
def convnet(input_shape: tuple[int, int, int] = (32, 32, 3), classes: int = 10) -> keras.Model:
    """Three 5 × 5 convolutions of 32, 32 and 64 filters, each pooled by half, and a dense layer of the classes.

    12,298,240 multiply-adds and 89,578 parameters on images of 32 × 32. The original also normalizes responses locally,
    begins with very small weights and drops half of its logits in training, for pixels from -128 to 127; that is left
    out here, for pixels from 0 to 1.

    Args:
        input_shape: (height, width, channels) of one image.
        classes: number of classes.

    Returns:
        A Functional model from images (batch, height, width, channels) to logits (batch, classes).

    >>> convnet().count_params()
    89578

    Paper: Wen et al., Learning structured sparsity in deep neural networks, 2016.
    """
    image = keras.Input(input_shape, name="image")
    x = image
    for number, filters in enumerate((32, 32, 64), start=1):
        x = keras.layers.Conv2D(filters, 5, padding="same", name=f"conv{number}")(x)
        if number == 1:  # the maximum of what was rectified is the rectified maximum
            x = keras.layers.ReLU(name="relu1")(keras.layers.MaxPooling2D(3, 2, padding="same", name="pool1")(x))
        else:
            x = keras.layers.ReLU(name=f"relu{number}")(x)
            x = keras.layers.AveragePooling2D(3, 2, padding="same", name=f"pool{number}")(x)
    logits = keras.layers.Dense(classes, name="logits")(keras.layers.Flatten(name="flatten")(x))
    return keras.Model(image, logits, name="convnet")
