"""Operations that reduce some axes: means, sums, extremes, variances, norms."""

import math

import keras
import numpy as np

from tf_terngrad.keras_internals import node_of, operation, operations
from tf_terngrad.sparsity.rules.along import own_axes
from tf_terngrad.sparsity.rules.base import Rule
from tf_terngrad.sparsity.rules.registry import register_rule


def same(values):
    """What a mean gives of a constant."""
    return values


def nothing(values):
    """What a variance gives of a constant."""
    return values * 0


def zero_only(values):
    """What a sum gives, of which nothing is known but that zeros stay zero."""
    return np.where(values == 0, 0.0, np.nan)


def unknown(values):
    """What nobody knows."""
    return np.full(values.shape, np.nan)


class Reduction(Rule):
    """Operations that reduce some axes; what runs over an axis that can shrink freezes it, unless zeros add nothing.

    Args:
        constant: function that gives what comes out of channels that hold the same number everywhere.
        contracts: whether a channel that is zero changes nothing when it is reduced, as in a sum.
    """

    def __init__(self, constant=same, contracts=False):
        self.constant, self.contracts = constant, contracts

    def follow(self, call):
        edge = call.inputs[0]
        axes = self.axes_of(call.layer, len(edge.shape))
        for axis in axes:
            self._reduce(call, edge.axes[axis])
        stay = [axis for axis in range(len(edge.shape)) if getattr(call.layer, "keepdims", False) or axis not in axes]
        starts_elsewhere = getattr(call.layer, "initial", None) is not None
        for output, constant in zip(call.outputs, self.constants(call.layer), strict=True):
            for position, axis in enumerate(stay):
                channels = None if axis in axes else edge.axes[axis]
                if channels is not None:
                    values = unknown(channels.values) if starts_elsewhere else constant(channels.values)
                    output.axes[position] = channels.with_values(values)
            output.number = np.nan if starts_elsewhere else constant(np.array(edge.number))[()]

    def axes_of(self, layer, rank):
        """The axes that a layer reduces."""
        return own_axes(layer, rank)

    def constants(self, layer):
        """For each output, what it gives of a constant."""
        return (self.constant,)

    def adds_nothing(self, layer):
        """Whether a channel that is zero changes nothing when it is reduced."""
        return self.contracts

    def _reduce(self, call, channels):
        if self.adds_nothing(call.layer):
            call.contract(channels)
        else:
            call.freeze_axis(channels, f"{type(call.layer).__name__} runs across channels")


class Mean(Reduction):
    """A mean: zeros add nothing to its sum; where some of D channels leave and d stay, it is d/D times theirs."""

    def __init__(self, constant=same):
        super().__init__(constant, contracts=True)

    def rebuild(self, builder, call, args, kwargs):
        found, share = super().rebuild(builder, call, args, kwargs), self._share(builder.kept, call)
        return found if share == 1 else self.of_all(call, share, found, args[0])

    def of_all(self, call, share, mean, tensor):
        """What is found of all channels, given that of those that stay, and which share of all they are."""
        return mean * share

    def _share(self, kept, call):
        edge = call.inputs[0]
        reduced = [edge.axes[axis] for axis in self.axes_of(call.layer, len(edge.shape))]
        return math.prod(kept.width(channels) / len(channels) for channels in reduced if channels is not None)


def variance_of_all(share, variance, mean):
    """The variance of numbers of which a share s has variance v and mean m, and the others are zero: s v + s(1-s) m^2.

    >>> float(variance_of_all(share=0.5, variance=1.0, mean=4.0))  # of 3, 5, 0 and 0
    4.5
    """
    return share * variance + share * (1 - share) * keras.ops.square(mean)


class MeanOfSquares(Mean):
    """A mean; where it makes a variance by hand, of (x - m)^2 with the mean m of x, zeros in x add m^2 each.

    Of D channels d stay, so it is d/D times theirs plus (1 - d/D) m^2.
    """

    def _reduce(self, call, channels):
        original = _centred(call)
        if original is not None and channels is not None:
            channels = channels.with_values(zero_only(original.axes[-1].values))
        super()._reduce(call, channels)

    def of_all(self, call, share, mean, tensor):
        made = node_of(node_of(tensor).arguments.keras_tensors[0]) if _centred(call) is not None else None
        if made is None or not isinstance(made.operation, _SUBTRACT):
            return mean * share  # a mean that is zero is not subtracted any more
        taken = made.arguments.keras_tensors[1]
        taken = taken if call.layer.keepdims else keras.ops.squeeze(taken, -1)
        return mean * share + keras.ops.square(taken) * (1 - share)


def _centred(call):
    """x, if a mean over its last axis is given the squares of x - mean(x), all made at one place; else None."""
    square = _maker(call, call.inputs[0])
    if square is None or not _is_square(square):
        return None
    difference = _maker(call, square.inputs[0])
    if difference is None or not isinstance(difference.layer, _SUBTRACT) or len(difference.inputs) != 2:
        return None
    original, mean = difference.inputs
    averaged = _maker(call, mean)
    if averaged is not None and isinstance(averaged.layer, operation("StopGradient")):
        averaged = _maker(call, averaged.inputs[0])
    is_mean = averaged is not None and isinstance(averaged.layer, operation("Mean")) and averaged.layer.keepdims
    last = [len(original.shape) - 1]
    if not is_mean or averaged.inputs[0] is not original or original.axes[-1] is None:
        return None
    return original if all([*own_axes(each.layer, last[0] + 1)] == last for each in (call, averaged)) else None


def _maker(call, edge):
    """The call beside this one that makes a tensor; None: it enters from elsewhere."""
    place = call.path.rpartition("/")[0]
    made = (other for other in reversed(call.graph.calls) if any(edge is output for output in other.outputs))
    return next((other for other in made if other.path.rpartition("/")[0] == place), None)


def _is_square(call):
    """Whether a call multiplies a tensor by itself."""
    if isinstance(call.layer, operation("Power")):
        return len(call.inputs) == 1 and np.array_equal(call.argument(1, "x2"), 2)
    product = isinstance(call.layer, (keras.layers.Multiply, operation("Multiply")))
    product = product and len(call.inputs) == 2 and call.inputs[0] is call.inputs[1]
    return product or isinstance(call.layer, operation("Square"))


_SUBTRACT = (keras.layers.Subtract, operation("Subtract"))


class Variance(Mean):
    """A variance: that of d of D channels, and what their mean is apart from zero."""

    def of_all(self, call, share, variance, tensor):
        mean = keras.ops.mean(tensor, axis=call.layer.axis, keepdims=call.layer.keepdims)
        return variance_of_all(share, variance, mean)


class Deviation(Variance):
    """A standard deviation: the root of the variance."""

    def of_all(self, call, share, deviation, tensor):
        return keras.ops.sqrt(super().of_all(call, share, keras.ops.square(deviation), tensor))


class Moments(Mean):
    """The mean and the variance, an output each."""

    def axes_of(self, layer, rank):
        return [axis % rank for axis in np.atleast_1d(layer.axes)]

    def constants(self, layer):
        return same, nothing

    def of_all(self, call, share, moments, tensor):
        mean, variance = moments
        return mean * share, variance_of_all(share, variance, mean)


class Norm(Reduction):
    """The norm of vectors, or of the matrices in two axes: zeros change none of these."""

    def adds_nothing(self, layer):
        return layer.ord in (None, 1, 2, "fro", np.inf)


class Average(Reduction):
    """A mean; weighed by other numbers, channels stay on every axis."""

    def follow(self, call):
        weights = call.args[1] if len(call.args) > 1 else call.kwargs.get("weights")
        if weights is None:
            super().follow(call)
        else:
            call.freeze(call.inputs, "weighed by other numbers")


_RULES = {
    MeanOfSquares(): ("Mean",),
    Reduction(): ("Max", "Min", "Amax", "Amin", "Median", "Nanmean", "Nanmax", "Nanmin", "Nanmedian"),
    Variance(nothing): ("Var",),
    Deviation(nothing): ("Std",),
    Reduction(nothing): ("Ptp", "Nanvar", "Nanstd"),
    Reduction(zero_only): ("Prod", "Nanprod"),
    Reduction(zero_only, contracts=True): ("Sum", "Nansum", "CountNonzero"),
    Reduction(unknown): ("Argmax", "Argmin", "Nanargmax", "Nanargmin", "All", "Any", "Logsumexp"),
    Norm(zero_only): ("Norm",),
    Average(): ("Average",),
}
for _rule, _names in _RULES.items():
    for _type in operations(*_names):
        register_rule(_type, _rule)
register_rule(operation("Moments"), Moments())
