"""NumPy oracles, written from the papers' formulas: every group is listed by the indices of its weights."""

import dataclasses
import itertools
from collections.abc import Callable

import keras
import numpy as np

MISSING = -1


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer with one kernel.

    Args:
        name: Its name in test reports.
        make: Function from a regularizer to the layer.
        input_shape: Shape to build it with.
        weight: Name of its kernel.
        as_paper: Function from the kernel to the paper's `W[filter, channel, places...]`; `MISSING` where a filter
            does not read a channel.
        lowered: Function from the kernel to the lowered matrix.
        inputs_are_integers: Whether the layer looks its inputs up.
    """

    name: str
    make: Callable
    input_shape: tuple
    weight: str
    as_paper: Callable
    lowered: Callable
    inputs_are_integers: bool = False

    def __repr__(self):
        return self.name

    def inputs(self, seed=0):
        generator = np.random.default_rng(seed)
        shape = (2, *self.input_shape[1:])
        if self.inputs_are_integers:
            return generator.integers(0, 3, shape)
        return generator.normal(size=shape).astype("float32")


def _plain(kernel):
    return np.moveaxis(kernel, (-1, -2), (0, 1))


def _transposed(kernel):
    return np.moveaxis(kernel, (-2, -1), (0, 1))


def _depthwise(kernel):
    *places, channels, multiplier = kernel.shape
    paper = np.full((channels * multiplier, channels, *places), MISSING)
    for channel, copy in itertools.product(range(channels), range(multiplier)):
        paper[channel * multiplier + copy, channel] = kernel[..., channel, copy]
    return paper


def _one_matrix_a_head(kernel):
    heads, inputs, outputs = kernel.shape
    paper = np.full((heads * outputs, heads * inputs), MISSING)
    for head in range(heads):
        paper[head * outputs : (head + 1) * outputs, head * inputs : (head + 1) * inputs] = kernel[head].T
    return paper


def _rows(count):
    return lambda kernel: kernel.reshape(int(np.prod(kernel.shape[:count])), -1)


def _transposed_matrix(kernel):
    return np.swapaxes(kernel, -1, -2).reshape(-1, kernel.shape[-2])


def _convolution(
    name, make, input_shape, as_paper=_plain, lowered=None, argument="kernel_regularizer", weight="kernel"
):
    rank = len(input_shape)
    return Case(
        name,
        lambda regularizer, **kwargs: make(**{argument: regularizer}, **kwargs),
        input_shape,
        weight,
        as_paper,
        lowered or _rows(rank - 1),
    )


def _partial(layer, *args, **kwargs):
    return lambda **more: layer(*args, **kwargs, **more)


_layers = keras.layers
_line, _image, _volume = (None, 6, 3), (None, 5, 6, 3), (None, 3, 4, 4, 2)

CASES = [
    _convolution("Dense", _partial(_layers.Dense, 4), (None, 3)),
    _convolution("Conv1D", _partial(_layers.Conv1D, 4, 3), _line),
    _convolution("Conv2D", _partial(_layers.Conv2D, 4, (2, 3)), _image),
    _convolution("Conv2D-grouped", _partial(_layers.Conv2D, 6, 2, groups=3), _image),
    _convolution("Conv3D", _partial(_layers.Conv3D, 3, 2), _volume),
    _convolution("Conv1DTranspose", _partial(_layers.Conv1DTranspose, 4, 2), _line, _transposed, _transposed_matrix),
    _convolution("Conv2DTranspose", _partial(_layers.Conv2DTranspose, 4, 2), _image, _transposed, _transposed_matrix),
    _convolution("Conv3DTranspose", _partial(_layers.Conv3DTranspose, 3, 2), _volume, _transposed, _transposed_matrix),
    _convolution(
        "DepthwiseConv1D",
        _partial(_layers.DepthwiseConv1D, 2, depth_multiplier=2),
        _line,
        _depthwise,
        argument="depthwise_regularizer",
    ),
    _convolution(
        "DepthwiseConv2D",
        _partial(_layers.DepthwiseConv2D, (2, 3), depth_multiplier=2),
        _image,
        _depthwise,
        argument="depthwise_regularizer",
    ),
    _convolution(
        "SeparableConv1D-depthwise",
        _partial(_layers.SeparableConv1D, 4, 2),
        _line,
        _depthwise,
        argument="depthwise_regularizer",
        weight="depthwise_kernel",
    ),
    _convolution(
        "SeparableConv2D-pointwise",
        _partial(_layers.SeparableConv2D, 4, 2, depth_multiplier=2),
        _image,
        argument="pointwise_regularizer",
        weight="pointwise_kernel",
    ),
    Case(
        "EinsumDense-heads",
        lambda regularizer, **kwargs: _layers.EinsumDense(
            "abc,cde->abed", (None, 4, 2), bias_axes="ed", kernel_regularizer=regularizer, **kwargs
        ),
        (None, 5, 3),
        "kernel",
        lambda kernel: np.moveaxis(kernel.reshape(kernel.shape[0], -1), 1, 0),
        _rows(1),
    ),
    Case(
        "EinsumDense-merge",
        lambda regularizer, **kwargs: _layers.EinsumDense(
            "...cd,cde->...e", 4, bias_axes="e", kernel_regularizer=regularizer, **kwargs
        ),
        (None, 2, 3),
        "kernel",
        lambda kernel: np.moveaxis(kernel.reshape(-1, kernel.shape[-1]), 1, 0),
        _rows(2),
    ),
    Case(
        "EinsumDense-own-heads",
        lambda regularizer, **kwargs: _layers.EinsumDense(
            "and,nde->ane", (2, 4), bias_axes="ne", kernel_regularizer=regularizer, **kwargs
        ),
        (None, 2, 3),
        "kernel",
        _one_matrix_a_head,
        _rows(2),
    ),
    Case(
        "Embedding",
        lambda regularizer, **kwargs: _layers.Embedding(5, 4, embeddings_regularizer=regularizer, **kwargs),
        (None, 3),
        "embeddings",
        _plain,
        _rows(1),
        inputs_are_integers=True,
    ),
]

# Which of the axes (filter, channel, places...) index the paper's groups.
INDEXED_BY = {
    "FilterLasso": lambda places: (0,),
    "ChannelLasso": lambda places: (1,),
    "ShapeLasso": lambda places: (1, *places),
    "Filter2DLasso": lambda places: (0, 1),
    "LayerLasso": lambda places: (),
}


def paper_groups(name, indices):
    """The groups of one of the paper's regularizers, from `W[filter, channel, places...]` of indices."""
    return indexed_groups(indices, INDEXED_BY[name](range(2, indices.ndim)))


def indexed_groups(indices, axes):
    """One group for every index along `axes`."""
    axes = [axis % indices.ndim for axis in axes]
    groups = []
    for position in np.ndindex(*(indices.shape[axis] for axis in axes)):
        where = dict(zip(axes, position, strict=True))
        group = indices[tuple(where.get(axis, slice(None)) for axis in range(indices.ndim))].ravel()
        groups.append(group[group != MISSING])
    return [group for group in groups if group.size]


def block_groups(matrix, block):
    """One group for every rectangle of a matrix of indices."""
    starts = itertools.product(range(0, matrix.shape[0], block[0]), range(0, matrix.shape[1], block[1]))
    return [matrix[row : row + block[0], column : column + block[1]].ravel() for row, column in starts]


def lasso(values, groups):
    """`Σ_g sqrt(Σ w² + 1e-8)` of flat values."""
    return sum(np.sqrt(np.sum(values[group] ** 2) + 1e-8) for group in groups)


def lasso_gradient(values, groups):
    """Its gradient, `Σ_g w / sqrt(Σ w² + 1e-8)`, flat."""
    gradient = np.zeros_like(values)
    for group in groups:
        gradient[group] += values[group] / np.sqrt(np.sum(values[group] ** 2) + 1e-8)
    return gradient


def finite_differences(function, values, step=1e-6):
    """Gradient of a scalar function by central differences, in float64."""
    gradient = np.zeros_like(values)
    for index in np.ndindex(values.shape):
        moved = np.zeros_like(values)
        moved[index] = step
        gradient[index] = (function(values + moved) - function(values - moved)) / (2 * step)
    return gradient


def proximal(values, threshold):
    """The proximal step of `t‖w‖` on one group: `w · max(0, 1 - t / ‖w‖)`."""
    norm = np.linalg.norm(values)
    return np.zeros_like(values) if norm <= threshold else values * (1 - threshold / norm)


def indices_like(values):
    """Every weight's place in the flat array."""
    return np.arange(np.size(values)).reshape(np.shape(values))
