"""The vocabulary of dimensions: units, the channels of an axis, tensors, weights, and where channels are read."""

import dataclasses

import keras
import numpy as np

from tf_terngrad.keras_internals import history, mask_of


@dataclasses.dataclass(frozen=True)
class Channels:
    """The positions of one axis: the unit each belongs to, and the value it always has (NaN where it depends).

    Use it when you write a rule: it is what the axes of a layer's inputs hold.
    """

    units: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, units):
        """Channels of these units that emit nothing known."""
        return cls(units, np.full(len(units), np.nan))

    @classmethod
    def concatenate(cls, parts):
        """The channels of several axes, one after the other."""
        return cls(np.concatenate([p.units for p in parts]), np.concatenate([p.values for p in parts]))

    def __len__(self):
        return len(self.units)

    def __getitem__(self, index):
        return Channels(self.units[index], self.values[index])

    def with_values(self, values):
        """The same units, emitting `values`; what is not a finite number cannot be folded, so it is not known."""
        values = np.broadcast_to(values, self.units.shape)
        return Channels(self.units, np.where(np.isfinite(values), values, np.nan))

    def unknown(self):
        """The same units, emitting nothing known."""
        return Channels.of(self.units)

    def zero_or_unknown(self):
        """The same units, of which nothing is known but that zeros stay zero, as in a sum or under a mask."""
        return self.with_values(np.where(self.values == 0, 0.0, np.nan))


class Edge:
    """A tensor of the model: its shape with the batch axis, and the channels of each axis that is followed.

    `masked`: whether Keras may hand on a mask of its steps with it. `number`: what all its elements always are, such
    as zeros that say how many examples there are; NaN: it depends.
    """

    def __init__(self, shape, dtype="float32", name=""):
        self.shape = tuple(shape)
        self.dtype = dtype
        self.name = name
        self.axes = [None] * len(self.shape)
        self.masked = False
        self.number = np.nan

    @classmethod
    def like(cls, tensor):
        """An edge with the shape and dtype of a Keras tensor, and the name of the layer that it comes from."""
        origin = history(tensor)
        edge = cls(tensor.shape, tensor.dtype, origin.operation.name if origin else "")
        edge.masked = mask_of(tensor) is not None
        return edge

    @property
    def followed(self):
        """The channels of every followed axis."""
        return [channels for channels in self.axes if channels is not None]

    @property
    def is_zero(self):
        """Whether the whole tensor is known to be zero, whatever the model's input."""
        return any((channels.values == 0).all() for channels in self.followed)


@dataclasses.dataclass
class Weight:
    """A variable of the model and the units along its axes.

    Attributes:
        part: the layer inside of the one at `path` that holds it, if that one has several.
        produced: the kinds of the units that are born here, by axis.
        holders: by id of each layer that says something of it, of which axes.
    """

    variable: keras.Variable
    path: str
    role: str
    part: str = ""
    axes: dict = dataclasses.field(default_factory=dict)
    produced: dict = dataclasses.field(default_factory=dict)
    holders: dict = dataclasses.field(default_factory=dict)

    @property
    def holder(self):
        """The path of the layer that holds the variable."""
        return f"{self.path}/{self.part}" if self.part else self.path


@dataclasses.dataclass
class Reading:
    """A place where channels are summed away, each weighed by a row of a kernel, or by nothing.

    Attributes:
        sites: the calls that read here.
        channels: what is read.
        kernel: function of no arguments that gives the weights as an array (in, out, taps), or None.
        columns: the units along each of the kernel's output axes, as arrays of length `out`.
        foldable: whether a constant input channel can become bias exactly.
        nonzero: (in, out), whether any tap is above the tolerance.
        partners: for each of the channels another unit that it cannot be without, such as a head's for each of its
            dimensions; None: they stand alone.
    """

    sites: set
    channels: Channels
    kernel: object = None
    columns: tuple = ()
    foldable: bool = False
    nonzero: np.ndarray = None
    partners: np.ndarray = None

    @property
    def units(self):
        """The units that each of the channels needs, one array or two."""
        return [self.channels.units] if self.partners is None else [self.channels.units, self.partners]

    @property
    def constant(self):
        """Which input channels are constants that add nothing or that the bias can take over."""
        values = self.channels.values
        return (values == 0) | (~np.isnan(values) & self.foldable)

    def constant_sum(self, chosen):
        """Sum over the chosen input channels of value * weight, for each output column, in float64."""
        chosen = chosen & (self.channels.values != 0)
        return np.einsum("i,iot->o", self.channels.values[chosen], self.kernel()[chosen].astype(np.float64))

    def merge(self, other):
        """The reading of both: a constant counts only where every call agrees on it, a zero where it is one in all."""
        mine, others = self.channels.values, other.channels.values
        self.channels = self.channels.with_values(np.where(mine == others, mine, np.nan))
        self.foldable &= other.foldable
        self.nonzero = self.nonzero | other.nonzero
        self.sites |= other.sites


class Units:
    """Units and which of them are one: a union-find."""

    def __init__(self):
        self._parent = np.arange(1024)  # of more units than there are; a unit that nothing ties is its own parent
        self._count = 0

    def __len__(self):
        return self._count

    def new(self, count):
        """`count` units that nothing ties yet."""
        start, self._count = self._count, self._count + count
        if self._count > len(self._parent):
            self._parent = np.concatenate([self._parent, np.arange(len(self._parent), 2 * self._count)])
        return np.arange(start, self._count)

    def find(self, units):
        """The representative of each unit: the least unit that is tied to it."""
        units = np.asarray(units)
        found = self._parent[units]
        while (found != (higher := self._parent[found])).any():
            found = higher
        self._parent[units] = found
        return found

    def tie(self, first, second):
        """Make first[i] and second[i] one unit, for each i."""
        while True:
            one, other = self.find(first), self.find(second)
            apart = one != other
            if not apart.any():
                return
            np.minimum.at(self._parent, np.maximum(one, other)[apart], np.minimum(one, other)[apart])
