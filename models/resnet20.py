"""The residual network for CIFAR-10, 20 layers deep."""

import keras

from models.registry import IMAGES, network


@network(IMAGES)
def resnet20(input_shape: tuple[int, int, int] = (32, 32, 3), classes: int = 10) -> keras.Model:
    """ResNet-20: three stages of three basic blocks, 16, 32 and 64 filters wide.

    Shortcuts that change the width are 1 × 1 convolutions (the paper's option B).

    Args:
        input_shape: (height, width, channels) of one image.
        classes: number of classes.

    Returns:
        A Functional model from images (batch, height, width, channels) to logits (batch, classes).

    >>> resnet20().output_shape
    (None, 10)

    Paper: He et al., Deep residual learning for image recognition, 2016.
    """
    image = keras.Input(input_shape, name="image")
    x = _convolution(image, 16, 3, 1, "stem")
    x = keras.layers.ReLU(name="stem_relu")(x)
    for stage, filters in enumerate((16, 32, 64), start=1):
        for block in range(1, 4):
            strides = 2 if stage > 1 and block == 1 else 1
            x = _block(x, filters, strides, f"stage{stage}_block{block}")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    logits = keras.layers.Dense(classes, name="logits")(x)
    return keras.Model(image, logits, name="resnet20")


def _block(x: keras.KerasTensor, filters: int, strides: int, name: str) -> keras.KerasTensor:
    """x + convolution(relu(convolution(x))), then relu."""
    branch = _convolution(x, filters, 3, strides, f"{name}_a")
    branch = keras.layers.ReLU(name=f"{name}_a_relu")(branch)
    branch = _convolution(branch, filters, 3, 1, f"{name}_b")
    shortcut = x if x.shape[-1] == filters else _convolution(x, filters, 1, strides, f"{name}_shortcut")
    x = keras.layers.Add(name=f"{name}_add")([shortcut, branch])
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def _convolution(x: keras.KerasTensor, filters: int, size: int, strides: int, name: str) -> keras.KerasTensor:
    """A convolution and its batch normalization, which makes a bias pointless."""
    x = keras.layers.Conv2D(
        filters, size, strides, padding="same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
    )(x)
    return keras.layers.BatchNormalization(name=f"{name}_norm")(x)
