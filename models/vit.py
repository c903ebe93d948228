"""A small vision transformer, whose tokens two convolutions make."""

from collections.abc import Sequence

import keras

from models.blocks import per_block
from models.registry import IMAGES, network


@network(IMAGES, recipe={"dataset": "cifar10", "optimizer": "adam", "learning_rate": 1e-3, "epochs": 12})
def vit(
    input_shape: tuple[int, int, int] = (32, 32, 3),
    classes: int = 10,
    units: Sequence[int] = (128, 128, 128),
    width: int = 64,
    heads: int | Sequence[int] = 4,
    keys: int | Sequence[int] = 16,
    values: int | Sequence[int] = 16,
    stem: int = 32,
) -> keras.Model:
    """A vision transformer of one block for each number of units.

    Two convolutions with strides 4 and 2 make the tokens, 4 × 4 of an image of 32 × 32; positions are learned. A block
    adds to its input what its attention gives, and to that what its units give; layer normalization is before both
    (pre-norm). The logits are of the mean of all tokens.

    Args:
        input_shape: shape of one image.
        classes: number of classes.
        units: of the feed-forward network of each block, from the bottom; 0: it has none.
        width: of the residual stream.
        heads: of each attention, one number or one a block; 0: the block has none.
        keys: dimensions of the queries and keys of each head, likewise.
        values: dimensions of the values of each head, likewise.
        stem: filters of the first convolution.

    Returns:
        A Functional model from images (batch, *input_shape) to logits (batch, classes).

    Raises:
        ValueError: another number of sizes than of blocks.

    >>> vit(width=16, units=(32,)).output_shape
    (None, 10)

    Papers: Dosovitskiy et al., An image is worth 16x16 words, 2021; Xiao et al., Early convolutions help transformers
    see better, 2021, for the convolutions.
    """
    image = keras.Input(input_shape, name="image")
    x = keras.layers.Conv2D(stem, 5, strides=4, padding="same", activation="relu", name="stem")(image)
    x = keras.layers.Conv2D(width, 3, strides=2, padding="same", name="tokens")(x)
    x = Positions(name="positions")(keras.layers.Reshape((-1, width), name="sequence")(x))
    sizes = (per_block(size, len(units)) for size in (heads, keys, values))
    for number, (size, *attention) in enumerate(zip(units, *sizes, strict=True), start=1):
        x = _attend(x, f"block{number}_attention", *attention) if attention[0] else x
        x = _feed(x, f"block{number}", size) if size else x
    x = keras.layers.LayerNormalization(name="norm")(x)
    x = keras.layers.GlobalAveragePooling1D(name="mean")(x)
    return keras.Model(image, keras.layers.Dense(classes, name="logits")(x), name="vit")


def _attend(x, name, heads, keys, values):
    """The first half of a block."""
    h = keras.layers.LayerNormalization(name=f"{name}_norm")(x)
    return x + keras.layers.MultiHeadAttention(heads, keys, values, name=name)(h, h)


def _feed(x, name, units):
    """The second half."""
    h = keras.layers.LayerNormalization(name=f"{name}_units_norm")(x)
    h = keras.layers.Dense(units, activation="gelu", name=f"{name}_units")(h)
    return x + keras.layers.Dense(x.shape[-1], name=f"{name}_output")(h)


@keras.saving.register_keras_serializable("models")
class Positions(keras.layers.Layer):
    """Adds a learned vector to each step of (batch, steps, width)."""

    def build(self, shape):
        initial = keras.initializers.RandomNormal(stddev=0.02)
        self.table = self.add_weight(shape=shape[1:], initializer=initial, name="table")

    def call(self, x):
        return x + self.table
