"""Keras regularizers that make the groups inside one weight zero together.

With a kernel `W[n, c, m, k]` of filter `n`, channel `c`, height `m` and width `k`, each adds
`strength · Σ_g sqrt(Σ_{w in g} w² + 1e-8)` to the loss; they differ in the groups `g` (SSL, Wen et al., NIPS 2016):

| Regularizer | a group is | Dense `(in, out)` | Conv2D `(h, w, in, out)` |
|---|---|---|---|
| `FilterLasso` | `W[n, :, :, :]` | a column | an output filter |
| `ChannelLasso` | `W[:, c, :, :]` | a row | an input channel |
| `ShapeLasso` | `W[:, c, m, k]` | a row | one place of one channel, in all filters |
| `Filter2DLasso` | `W[n, c, :, :]` | a weight | one filter's window on one channel |
| `LayerLasso` | `W` | the kernel | the kernel |
| `BlockLasso` | a rectangle | a rectangle | a rectangle of the lowered `(h·w·in, out)` matrix |
| `GroupLasso` | indexed by `axis` | | |

Given to a layer, each finds filters and channels where that layer keeps them, in transposed `(h, w, out, in)`,
depthwise `(h, w, in, multiplier)` and `EinsumDense` kernels too; an embedding's filters are its columns, its channels
the rows of its words. Called with a bare tensor, they take its last two axes for `(in, out)`; `GroupLasso` takes any.
"""

import copy
import math

import keras
from keras import ops

from tf_terngrad import checks
from tf_terngrad.sparsity.learn import penalties
from tf_terngrad.sparsity.learn.structured_regularizer import StructuredRegularizer, SumRegularizer
from tf_terngrad.sparsity.rules import rule_for
from tf_terngrad.sparsity.rules.axes import PLAIN

__all__ = [
    "BlockLasso",
    "ChannelLasso",
    "Filter2DLasso",
    "FilterLasso",
    "GroupLasso",
    "LayerLasso",
    "ShapeLasso",
    "StructuredRegularizer",
    "SumRegularizer",
]

_register = keras.saving.register_keras_serializable(package="tf_terngrad")


class _Lasso(StructuredRegularizer):
    """A group lasso: a strength, and groups that the subclasses choose."""

    _axes = PLAIN
    _place = ""

    def __init__(self, strength):
        self.strength = checks.number(strength, "strength", type(self).__name__)

    def __call__(self, weights):
        weights = ops.convert_to_tensor(weights)
        self._check(tuple(weights.shape))
        return self.strength * ops.sum(penalties.smooth_norms(self._squared_sums(weights)))

    def norms(self, weights):
        """The Euclidean norm of each group, a tensor with one axis or more for the groups."""
        return ops.sqrt(self._squared_sums(ops.convert_to_tensor(weights)))

    def attached(self, layer, variable):
        """A copy that knows the axes of this weight, and has checked them."""
        regularizer = copy.copy(self)
        regularizer._axes = rule_for(layer).axes(layer).get(variable.name, PLAIN)
        regularizer._place = f" on weight '{variable.path}'"
        regularizer._check(tuple(variable.shape))
        return regularizer

    def get_config(self):
        """The strength, a plain number."""
        return {"strength": self.strength}

    def _check(self, shape):
        """Raises if a weight of this shape does not have the axes that index the groups."""
        if len(shape) < 2 or not self._group_axes(len(shape)):
            raise ValueError(
                f"{type(self).__name__}{self._place} needs a kernel of at least two axes, some that count inputs and "
                f"some that count outputs. Received: shape={shape}. Name the axes with `GroupLasso(strength, axis)`; "
                "to group a bias with its kernel, wrap the layer in `GroupSparse`."
            )

    def _group_axes(self, rank):
        """The axes that index the groups of a weight with `rank` axes."""
        raise NotImplementedError(f"{type(self).__name__} must define `_group_axes(rank)`.")

    def _squared_sums(self, weights):
        return penalties.squared_sums(weights, self._group_axes(len(weights.shape)))


@_register
class FilterLasso(_Lasso):
    """Whole filters vanish: `strength · Σ_n ‖W[n, :, :, :]‖` (SSL, Wen et al., NIPS 2016).

    Use it when a layer should learn how many outputs it needs.

    A filter is what makes one output: a column of a `Dense` or `Embedding`, a filter of a convolution,
    one channel's window times one multiplier of a depthwise convolution.

    Args:
        strength: At least 0, in the loss's unit.

    Raises:
        TypeError: If `strength` is no number.
        ValueError: If `strength` is negative, NaN or infinite; at build, if the weight is a bias.

    >>> round(float(FilterLasso(0.5)([[3.0, 1.0], [4.0, 0.0]])), 3)
    3.0
    """

    def _group_axes(self, rank):
        return self._axes.outputs


@_register
class ChannelLasso(_Lasso):
    """Whole input channels are no longer read: `strength · Σ_c ‖W[:, c, :, :]‖` (SSL, Wen et al., NIPS 2016).

    Use it when a layer should learn which of its inputs it needs.

    In a convolution with `groups > 1`, whose kernel has `in / groups` channels, a group is one of those,
    at its place in every one of the layer's groups.

    Args:
        strength: At least 0, in the loss's unit.

    Raises:
        TypeError: If `strength` is no number.
        ValueError: If `strength` is negative, NaN or infinite; at build, if the weight is a bias.

    >>> round(float(ChannelLasso(0.5)([[3.0, 4.0], [0.0, 1.0]])), 3)
    3.0
    """

    def _group_axes(self, rank):
        return self._axes.inputs


@_register
class ShapeLasso(_Lasso):
    """The filters' shape is learned: `strength · Σ_{c,m,k} ‖W[:, c, m, k]‖` (SSL, Wen et al., NIPS 2016).

    Use it when the convolution runs as a product of matrices that leaves rows out: fewer rows, less work.

    A group is a row of the lowered `(h·w·in, out)` matrix; in a `Dense` kernel that is `ChannelLasso`'s.

    Args:
        strength: At least 0, in the loss's unit.

    Raises:
        TypeError: If `strength` is no number.
        ValueError: If `strength` is negative, NaN or infinite; at build, if the weight is a bias.

    >>> round(float(ShapeLasso(1.0)(ops.ones((5, 5, 3, 4)))), 2)  # 75 rows of norm 2
    150.0
    """

    def _group_axes(self, rank):
        return self._axes.places(rank) + self._axes.inputs


@_register
class Filter2DLasso(_Lasso):
    """Single windows vanish: `strength · Σ_{n,c} ‖W[n, c, :, :]‖` (SSL, Wen et al., NIPS 2016).

    Use it when a filter should learn which channels it reads, each filter others. A window is one filter's on one
    channel.
    In a `Dense` kernel a window is one weight.

    Args:
        strength: At least 0, in the loss's unit.

    Raises:
        TypeError: If `strength` is no number.
        ValueError: If `strength` is negative, NaN or infinite; at build, if the weight is a bias.

    >>> round(float(Filter2DLasso(1.0)(ops.ones((3, 3, 2, 4)))), 2)  # 8 windows of norm 3
    24.0
    """

    def _group_axes(self, rank):
        return tuple(sorted({axis % rank for axis in self._axes.inputs + self._axes.outputs}))


@_register
class LayerLasso(_Lasso):
    """The whole weight vanishes: `strength · ‖W‖` (SSL, Wen et al., NIPS 2016).

    Use it when a shortcut passes the layer by, so that training can learn whether the layer is needed.

    To group all the weights of a residual branch, use `SkippableBranch`.

    Args:
        strength: At least 0, in the loss's unit.

    Raises:
        TypeError: If `strength` is no number.
        ValueError: If `strength` is negative, NaN or infinite.

    >>> round(float(LayerLasso(1.0)(ops.ones((3, 3)))), 3)
    3.0
    """

    def _check(self, shape):
        """A weight of any shape is a group."""

    def _group_axes(self, rank):
        return ()


@_register
class BlockLasso(_Lasso):
    """Rectangles of the weight matrix vanish (SSL, Wen et al., NIPS 2016).

    Use it when you do not know which structure to expect, or when your hardware skips blocks of zeros.

    `strength · Σ_b ‖W_b‖` over the rectangles `b` of the lowered matrix: a row for every input and place, a column for
    every output. The rectangles at the far edges are smaller where `block` does not divide the matrix.

    Args:
        strength: At least 0, in the loss's unit.
        block: `(rows, columns)` of a rectangle.

    Raises:
        TypeError: If `strength` is no number, or `block` not two integers.
        ValueError: If `strength` is negative, NaN or infinite; if a size is not positive; at build, if the weight is a
            bias.

    >>> round(float(BlockLasso(1.0, block=(2, 2))(ops.ones((2, 3)))), 3)  # norms 2 and sqrt(2)
    3.414
    """

    def __init__(self, strength, block=(8, 8)):
        super().__init__(strength)
        is_sequence = isinstance(block, (tuple, list))
        if not is_sequence or len(block) != 2:
            expected = "two positive integers, (rows, columns), for example (8, 8)"
            raise (ValueError if is_sequence else TypeError)(checks.refusal("BlockLasso", "block", expected, block))
        self.block = tuple(checks.integer(s, f"block[{i}]", "BlockLasso", least=1) for i, s in enumerate(block))

    def get_config(self):
        """The strength and the block's sizes, plain numbers."""
        return {**super().get_config(), "block": list(self.block)}

    def _group_axes(self, rank):
        """The lowered matrix's axes: those of its rows, then those of its columns."""
        rows = self._axes.places(rank) + tuple(axis % rank for axis in self._axes.inputs)
        return rows + tuple(axis for axis in range(rank) if axis not in rows)

    def _squared_sums(self, weights):
        rank = len(weights.shape)
        height = math.prod(weights.shape[axis] for axis in self._axes.places(rank) + self._axes.inputs)
        matrix = ops.reshape(ops.transpose(weights, self._group_axes(rank)), (height, -1))
        return penalties.block_squared_sums(matrix, self.block)


@_register
class GroupLasso(_Lasso):
    """Groups of your own: `strength · Σ_g ‖W_g‖`, one group for each index along `axis` (Yuan and Lin, 2006).

    Use it when none of the other regularizers has your groups.

    Args:
        strength: At least 0, in the loss's unit.
        axis: The axis or axes that index the groups, negative ones from the end: `-1` groups the columns of a `Dense`.

    Raises:
        TypeError: If `strength` is no number, or `axis` is no integer or sequence of integers.
        ValueError: If `strength` is negative, NaN or infinite; if `axis` is empty or holds one twice; at build, if the
            weight does not have these axes.

    >>> kernel = ops.ones((3, 3, 16, 4))
    >>> round(float(GroupLasso(1.0, axis=-1)(kernel)), 3)  # as FilterLasso: 4 filters of norm 12
    48.0
    """

    def __init__(self, strength, axis):
        super().__init__(strength)
        axes = {f"axis[{i}]": a for i, a in enumerate(axis)} if isinstance(axis, (tuple, list)) else {"axis": axis}
        self.axis = tuple(checks.integer(value, name, "GroupLasso") for name, value in axes.items())
        if not self.axis or len(set(self.axis)) != len(self.axis):
            remedy = "For the whole weight as one group use `LayerLasso`."
            expected = "an integer or distinct integers, the axes that index the groups"
            raise ValueError(checks.refusal("GroupLasso", "axis", expected, axis, remedy))

    def get_config(self):
        """The strength and the axes, plain numbers."""
        return {**super().get_config(), "axis": list(self.axis)}

    def _check(self, shape):
        rank = len(shape)
        inside = all(-rank <= axis < rank for axis in self.axis)
        if not inside or len({axis % rank for axis in self.axis}) != len(self.axis):
            raise ValueError(
                f"GroupLasso{self._place} needs distinct axes from {-rank} to {rank - 1}, those of a weight of shape "
                f"{shape}. Received: axis={self.axis}"
            )

    def _group_axes(self, rank):
        return self.axis
