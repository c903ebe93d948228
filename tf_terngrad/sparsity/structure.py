"""What a structure is: a set of weight slices that leave together; and the list of a model's."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from tf_terngrad.sparsity.movable import why_fixed

NOUNS = {
    "filter": ("filter", "filters"),
    "unit": ("unit", "units"),
    "width": ("residual dimension", "residual dimensions"),
    "hidden": ("hidden unit", "hidden units"),
    "head": ("head", "heads"),
    "key": ("key dimension", "key dimensions"),
    "value": ("value dimension", "value dimensions"),
    "gate": ("head's factor", "factors of heads"),
    "offset": ("offset", "offsets"),
    "block": ("block", "blocks"),
    "input": ("input", "inputs"),
    "branch": ("branch", "branches"),
}
"""What one member of a structure is called, and what several are, by kind."""

KINDS = tuple(NOUNS)

LEARNED = ("gate", "offset", "block")
"""Kinds of what attention with a learnable mask learns: no width of a layer."""

NO_WIDTH = ("input", "branch")
"""Kinds of what is no width of a layer: with these leaves a feature of the input, or whole layers."""

WITHIN = ("head", "key", "value", *LEARNED)
"""Kinds that do not leave the layer they are born in, which has several: their structures' names tell them apart."""


def noun(kind, count):
    """What so many members are called; of a kind that only a rule knows, by its own name."""
    return NOUNS.get(kind, (kind, f"{kind}s"))[count != 1]


@dataclasses.dataclass(frozen=True)
class Slice:
    """Where the members of a structure lie along one axis of one variable.

    Attributes:
        variable: the `keras.Variable`.
        axis: the axis along which the members lie.
        indices: integers, shape (size, multiplicity): row i holds the positions of member i. The multiplicity is above
            one where a channel is read at several places, such as a dense layer behind a flatten.
        path: the layer that owns the variable, as `outer/inner` in nested models.
        role: "kernel", "bias", "scale", "shift", "slope" or "statistic"; statistics leave but are never penalized.
        reads: whether the members are summed away here, weighed by these slices; else these make or change them.
    """

    variable: keras.Variable
    axis: int
    indices: np.ndarray
    path: str
    role: str
    reads: bool = False

    def squared_sums(self):
        """The sum of squares of each member, shape (size,), in float64."""
        return self.sums(np.square(self.variable.numpy().astype(np.float64)))

    def sums(self, array):
        """The sum of each member over an array of the variable's shape, shape (size,)."""
        others = tuple(axis for axis in range(array.ndim) if axis != self.axis)
        return array.sum(others)[self.indices].sum(1)

    def zero(self, members):
        """Set the slices of these members to zero."""
        positions = self.indices[members].ravel()
        shape, value = tuple(self.variable.shape), self.variable.value
        if (0 < self.axis == len(shape) - 1) or isinstance(value, tf.distribute.DistributedValues):
            array = np.array(self.variable.numpy())
            np.moveaxis(array, self.axis, 0)[positions] = 0
            self.variable.assign(array)
        else:  # in place: the last layers of a dense net read all others, and are not written whole for each of them
            places = np.stack(np.meshgrid(*map(np.arange, shape[: self.axis]), positions, indexing="ij"), -1)
            rows = np.zeros((*places.shape[:-1], *shape[self.axis + 1 :]), value.dtype.as_numpy_dtype)
            value.scatter_nd_update(places, rows)


@dataclasses.dataclass(frozen=True)
class Structure:
    """Weight slices that leave together, for each of `size` members: filters, hidden units, inputs or a branch.

    Use it when you want to see or zero single filters or units: `tt.structures` returns a list of these.

    A filter with its bias, its batch-norm scale and shift and every input slice that reads it is one member of the
    structure of its layer (coupled groups after SSL, Wen et al., NIPS 2016).

    Attributes:
        name: the layer where the members are born, with the positions if they are not all of its outputs.
        kind: "filter", "unit", "width" (a dimension that several layers add to, such as a transformer's residual
            stream), "hidden" (a unit of a recurrent layer, which may be another layer's too: a tied embedding's
            column), "head", "key" and "value" (heads of an attention layer, and dimensions of all of its heads),
            "gate", "offset" and "block" (what `tt.layers.SparseAttention` learns), "input" (a feature of the model's
            input) or "branch" (of a residual sum).
        size: how many members there are.
        slices: the `Slice`s of all variables that a member lies in.
        born: the paths of the layers whose outputs the members are.
        summed: whether the members are also summed without weights, as in a dot product of features.

    Example:

    ```python
    for structure in tt.structures(model):
        print(structure, structure.norms().min())
    ```
    """

    name: str
    kind: str
    size: int
    slices: tuple
    born: tuple = ()
    summed: bool = False

    @property
    def layers(self):
        """The paths of the layers that hold a slice, in the order of the model."""
        return tuple(dict.fromkeys(piece.path for piece in self.slices))

    @property
    def penalized(self):
        """The slices that count in the norm: all but stored statistics."""
        return tuple(piece for piece in self.slices if piece.role != "statistic")

    @property
    def fixed(self):
        """Why training cannot take members out, such as the layers that are frozen; empty if it can.

        It can if the slices that train, once they are zero, leave the members unread, or leave nothing that makes them.
        It follows `layer.trainable` and `variable.trainable` as they are now.
        """
        return why_fixed(self)

    @property
    def least(self):
        """How many members stay whatever a budget asks for: one of a layer's width; a branch leaves whole."""
        return 0 if self.kind == "branch" else 1

    @property
    def breadth(self):
        """What norms are divided by where branches are compared: the root of how many channels their weights make.

        So a branch of few wide layers is compared by the gain of a channel. It is 1 for all other kinds.
        """
        if self.kind != "branch":
            return 1.0
        return float(np.sqrt(sum(piece.variable.shape[-1] for piece in self.penalized)))

    def norms(self, trainable=False):
        """The Euclidean norm of each member over all its slices, shape (size,).

        Args:
            trainable: count only the slices that train.
        """
        counted = [piece for piece in self.penalized if piece.variable.trainable or not trainable]
        return np.sqrt(sum((piece.squared_sums() for piece in counted), start=np.zeros(self.size)))

    def zero(self, indices):
        """Set all slices of these members to zero, in the model itself.

        Args:
            indices: integers in [0, size), or a Boolean mask of shape (size,).

        Raises:
            TypeError: for other than integers or a mask.
            IndexError: if there is no such member.
        """
        indices = np.asarray(indices)
        if indices.size and indices.dtype.kind not in "iub":
            raise TypeError(f"{self.name}: expected integers or a Boolean mask. Received: {indices.tolist()}")
        if indices.dtype == bool:
            if indices.shape != (self.size,):
                raise IndexError(f"{self.name}: expected a mask of shape ({self.size},). Received: {indices.shape}")
            indices = np.flatnonzero(indices)
        indices = np.atleast_1d(indices).astype(np.int64)
        if indices.size and (indices.min() < 0 or indices.max() >= self.size):
            raise IndexError(f"{self.name}: expected members in [0, {self.size}). Received: {indices.tolist()}")
        for piece in self.penalized:
            piece.zero(indices)

    def __str__(self):
        held = {}
        for piece in self.penalized:
            whole = len(piece.variable.shape) == 1 or self.kind == "branch"
            held.setdefault(piece.path, []).append(piece.variable.name + ("" if whole else _axis_marks(piece)))
        where = _listed([f"{path}: {', '.join(names)}" for path, names in held.items()], "layers")
        fixed = f" — fixed: {self.fixed}" if self.fixed else ""
        return f"{self.name}: {self.size} {noun(self.kind, self.size)} — {where}{fixed}"


@dataclasses.dataclass(frozen=True)
class Frozen:
    """What will stay, and why: the layer where channels are born and how many, or a layer that nothing is known of.

    Attributes:
        name: the layer, with the positions if they are not all of its outputs.
        size: how many channels; 0 for a layer whose inside is not known.
        reasons: sentences, each after the layer that is the reason, if any.
    """

    name: str
    size: int
    reasons: tuple

    def __str__(self):
        layers = {}
        for reason in self.reasons:
            layer, _, why = reason.rpartition(": ")
            layers.setdefault(why, []).append(layer)
        told = "; ".join(f"{_listed(names, 'layers', ', ')}: {why}".removeprefix(": ") for why, names in layers.items())
        return f"{self.name}: {f'{self.size} frozen' if self.size else 'frozen'} — {told}"


class Structures(list):
    """The structures of a model, and in `frozen` the widths that cannot shrink, with the reasons.

    `notes`: sentences on what is known from numbers alone.
    """

    def __init__(self, structures, frozen, notes=()):
        super().__init__(structures)
        self.frozen = frozen
        self.notes = notes

    def __str__(self):
        return "\n".join(str(entry) for entry in [*self, *self.frozen, *self.notes])


def _listed(items, what, separator="; "):
    """The items, or the first three and how many more."""
    more = len(items) - 3
    return separator.join(items) if more < 2 else f"{separator.join(items[:3])}{separator}and {more} more {what}"


def _axis_marks(piece):
    """A picture of the slice: `:` for whole axes, `i` for the member's position, `9i` for nine of them."""
    count = piece.indices.shape[1]
    mark = "i" if count == 1 else f"{count}i"
    marks = (mark if axis == piece.axis else ":" for axis in range(len(piece.variable.shape)))
    return f"[{', '.join(marks)}]"
