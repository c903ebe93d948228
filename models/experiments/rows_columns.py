"""The rows of the results on rows and columns: AlexNet's five convolutions with the zeros that the paper reports.

A convolution's weights as a matrix: a row holds a filter, a column a *shape fibre*, what all filters have for one input
channel at one place of the kernel. Grouped convolutions have a matrix for each group.
"""

import dataclasses
import math

import keras
import numpy as np

import tf_terngrad as tt


@dataclasses.dataclass(frozen=True)
class Layer:
    """A convolution of AlexNet, as Caffe's reference model has it.

    Args:
        name: of the layer.
        size: of the input's sides.
        channels: of the input.
        filters: how many.
        taps: of the kernel's sides.
        stride, groups, padding: as Keras takes them.
    """

    name: str
    size: int
    channels: int
    filters: int
    taps: int
    stride: int = 1
    groups: int = 1
    padding: str = "same"

    @property
    def matrix(self) -> tuple[int, int]:
        """The rows and columns of one group's weights."""
        return self.filters // self.groups, self.channels // self.groups * self.taps**2

    @property
    def places(self) -> int:
        """How many columns the other factor has: the places that the kernel stops at."""
        same = self.padding == "same"
        return math.ceil((self.size if same else self.size - self.taps + 1) / self.stride) ** 2


LAYERS = (
    Layer("conv1", 227, 3, 96, 11, stride=4, padding="valid"),
    Layer("conv2", 27, 96, 256, 5, groups=2),
    Layer("conv3", 13, 256, 384, 3),
    Layer("conv4", 13, 384, 384, 3, groups=2),
    Layer("conv5", 13, 384, 256, 3, groups=2),
)


@dataclasses.dataclass(frozen=True)
class Row:
    """Shares of columns and rows that are zero, conv1 to conv5, and how much faster the paper's CPU was for it.

    Args:
        name: of the row.
        columns, rows: shares.
        paper: the published speed-up of each layer's matrix product.
        l1: what the paper's network with single zeros and as low an error had.
    """

    name: str
    columns: tuple
    rows: tuple
    paper: tuple
    l1: tuple


ROWS = (
    Row(
        "ssl",
        columns=(0, 0.632, 0.769, 0.847, 0.807),
        rows=(0.094, 0.129, 0.406, 0.469, 0),
        paper=(1.05, 3.37, 6.27, 9.73, 4.93),
        l1=(0.80, 2.91, 4.84, 3.83, 2.76),
    ),
    Row(
        "ssl-no-loss",
        columns=(0, 0.209, 0.397, 0.397, 0.246),
        rows=(0, 0, 0, 0, 0),
        paper=(1.00, 1.27, 1.64, 1.68, 1.32),
        l1=(0.34, 0.99, 1.30, 1.10, 0.93),
    ),
)
"""The paper's two AlexNets: 44.66 % and 42.53 % top-1 error."""


@dataclasses.dataclass(frozen=True)
class Zeros:
    """Which rows and columns of each group's matrix stay, as Boolean arrays: (groups, rows) and (groups, columns)."""

    rows: np.ndarray
    columns: np.ndarray

    @property
    def alive(self) -> np.ndarray:
        """Which weights stay, (groups, rows, columns)."""
        return self.rows[:, :, None] & self.columns[:, None, :]


def anywhere(layer: Layer, rows: float, columns: float, random) -> Zeros:
    """Zeros in any rows and columns, in each group others."""
    count, length = layer.matrix
    pairs = [(_some(count, rows, random), _some(length, columns, random)) for _ in range(layer.groups)]
    return Zeros(*map(np.stack, zip(*pairs, strict=True)))


def channels(layer: Layer, rows: float, columns: float, random) -> Zeros:
    """As many, but the columns of whole channels, and the same in each group: as `tt.sparsify` learns them."""
    width = layer.channels // layer.groups
    one = np.tile(_some(width, columns, random), layer.taps**2)
    return _alike(layer, _some(layer.matrix[0], rows, random), one)


def border(layer: Layer, rows: float, columns: float, random) -> Zeros:
    """About as many, the columns of a border, so that a smaller kernel is left."""
    sizes = [(high, wide) for high in range(1, layer.taps + 1) for wide in (high, high + 1) if wide <= layer.taps]
    high, wide = min(sizes, key=lambda size: abs(1 - math.prod(size) / layer.taps**2 - columns))
    mask = np.zeros((layer.taps, layer.taps, layer.channels // layer.groups), bool)
    top, left = (layer.taps - high) // 2, (layer.taps - wide) // 2
    mask[top : top + high, left : left + wide] = True
    return _alike(layer, _some(layer.matrix[0], rows, random), mask.ravel())


PLACEMENTS = {"anywhere": anywhere, "channels": channels, "border": border}
"""Where zero columns lie."""


def scattered(layer: Layer, zeros: Zeros, random) -> np.ndarray:
    """Which weights stay if as many single ones are zero anywhere, (groups, rows, columns)."""
    alive = zeros.alive
    return random.permutation(alive.ravel()).reshape(alive.shape)


def kernel(layer: Layer, alive: np.ndarray, random) -> np.ndarray:
    """A kernel as Keras has it, (taps, taps, channels / groups, filters), of the weights that stay."""
    width = layer.channels // layer.groups
    taps = alive.reshape(layer.groups, -1, layer.taps, layer.taps, width)
    taps = taps.transpose(2, 3, 4, 0, 1).reshape(layer.taps, layer.taps, width, layer.filters)
    return np.where(taps, random.normal(0, 0.05, taps.shape), 0).astype("float32")


def network(layer: Layer, weights: np.ndarray) -> keras.Model:
    """The layer between two others, for what leaves it leaves these too."""
    image = keras.Input((layer.size, layer.size, 4))
    x = keras.layers.Conv2D(layer.channels, 1, activation="relu", name="before")(image)
    options = {"strides": layer.stride, "groups": layer.groups, "padding": layer.padding}
    convolution = keras.layers.Conv2D(layer.filters, layer.taps, activation="relu", name=layer.name, **options)
    model = keras.Model(image, keras.layers.Conv2D(4, 1, name="behind")(convolution(x)))
    convolution.kernel.assign(weights)
    return model


def alone(model: keras.Model, name: str) -> keras.Model:
    """One layer of a network as a model, with the border that compaction may have put in front of it."""
    first = next(layer for layer in model.layers if layer.name.startswith(name))
    return keras.Model(first.input, model.get_layer(name).output)


def compact_alone(layer: Layer, weights: np.ndarray) -> keras.Model:
    """What `tt.compact` leaves of the layer."""
    return alone(tt.compact(network(layer, weights)), layer.name)


def _some(count, share, random):
    """Which of several stay when a share of them, chosen at random, does not."""
    return random.permutation(count) >= round(share * count)


def _alike(layer, rows, columns):
    return Zeros(np.tile(rows, (layer.groups, 1)), np.tile(columns, (layer.groups, 1)))
