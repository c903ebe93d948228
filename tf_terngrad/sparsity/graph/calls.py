"""One use of a layer in a model: what the rules see and speak to."""

import dataclasses
import functools

import keras
import numpy as np

from tf_terngrad.sparsity.graph.channels import Channels, Reading, Weight
from tf_terngrad.sparsity.graph.values import any_above
from tf_terngrad.sparsity.rules.registry import rule_for


@dataclasses.dataclass(eq=False)
class Call:
    """One use of a layer, or of a Keras operation.

    Attributes:
        graph: the `Graph` that the call belongs to.
        layer: the layer or operation.
        path: its name, as `outer/inner` in nested models.
        site: the key of the place in the model's graphs; a shared model's inside has the same sites in all its calls.
        args, kwargs: as the layer is called, with an `Edge` for each tensor.
        inputs, outputs: the edges.
        shows_masks: whether all tensors that enter have masks, which the model's graph shows.
        dropped: units that enter and that the layer leaves out on purpose, such as those beside a slice.
        inside: channels of axes that may not leave the layer and cannot be empty either, such as a cell's state.
        pairs: channels of which two have to stay, and why.
    """

    graph: object
    layer: keras.Operation
    path: str
    site: object
    args: tuple
    kwargs: dict
    inputs: list
    outputs: list
    shows_masks: bool = False
    dropped: list = dataclasses.field(default_factory=list)
    inside: list = dataclasses.field(default_factory=list)
    pairs: list = dataclasses.field(default_factory=list)

    @functools.cached_property
    def rule(self):
        """What is known of the layer."""
        return rule_for(self.layer)

    @property
    def output(self):
        """The first output: the only one, for most layers."""
        return self.outputs[0]

    def argument(self, position, name):
        """An argument of the call, by position or by name."""
        return self.args[position] if len(self.args) > position else self.kwargs[name]

    def width(self, variable, axis, kept):
        """How many positions of an axis of a variable of the layer stay."""
        return int(kept.stays(self.graph.weights[id(variable)].axes[axis % len(variable.shape)]).sum())

    def freeze(self, edges, reason):
        """Keep every followed channel of these tensors, and remember why."""
        for edge in edges:
            for channels in edge.followed:
                self.freeze_axis(channels, reason)

    def freeze_axis(self, channels, reason):
        """Keep these channels (None: nothing to keep), and remember why."""
        if channels is not None:
            self.graph.freeze(channels.units, f"{self.path}: {reason}")

    def label(self, variable, axis, units, role, produced=False, part=""):
        """Say which units lie along an axis of a variable of the layer (a variable or units of None: nothing to say).

        `role` is "kernel", "bias", "scale", "shift", "slope" or "statistic"; `produced`: the units are born here, of
        the rule's kind or of one that it names. `part`: which layer inside holds the variable.
        """
        if variable is None or units is None:
            return
        weight = self.graph.weights.setdefault(id(variable), Weight(variable, self.path, role, part))
        axis %= len(variable.shape)
        if axis in weight.axes:
            self.graph.units.tie(weight.axes[axis], units)
        weight.axes[axis] = units
        weight.holders.setdefault(id(self.layer), set()).add(axis)
        if produced:
            weight.produced[axis] = produced if isinstance(produced, str) else self.rule.kind

    def read(self, variable, axis, channels, kernel, columns, foldable, bias, partners=None):
        """Say that a kernel sums channels away; returns what each of its output columns emits (NaN: it depends).

        Args:
            variable: the kernel.
            axis: its input axis.
            channels: what is read, or None where the input is not followed.
            kernel: function of no arguments that gives the weights as (in, out, taps).
            columns: the units along each output axis, each of length `out`.
            foldable: whether a constant input can become bias exactly.
            bias: the layer's bias or None.
            partners: for each of the channels another unit that leaves with it, if there is one.
        """
        graph, key = self.graph, (id(variable), axis % len(variable.shape))
        if graph.tolerance is None:
            if channels is not None:
                graph.readings[key] = Reading({self.site}, channels, kernel, partners=partners)
            return np.full(len(columns[0]) if columns else 1, np.nan)
        known = graph.readings.get(key)
        nonzero = any_above(kernel(), graph.tolerance)
        read = Channels.of(np.zeros(len(nonzero), np.int64)) if channels is None else channels
        reading = Reading({self.site}, read, kernel, columns, foldable, nonzero, partners)
        total = reading.constant_sum(reading.constant) + (0.0 if bias is None else graph.value(bias).ravel())
        emitted = np.where(nonzero[~reading.constant].any(0), np.nan, total)
        if known:
            reading.merge(known)
        if channels is not None:
            graph.readings[key] = reading
        return emitted

    def matmul(self, kernel, channels, columns, foldable=False, bias=None):
        """Say that a matrix (in, out) of the layer reads channels (None: they are not followed).

        `columns`: the units along its output axis. Returns what each column emits, as `read` does.
        """
        self.label(kernel, 0, channels and channels.units, "kernel")
        return self.read(kernel, 0, channels, lambda: self.graph.value(kernel)[..., None], (columns,), foldable, bias)

    def contract(self, channels):
        """Say that channels are summed away unweighed: only a channel that is zero can leave."""
        if channels is not None:
            self.graph.readings[(self.site, len(self.graph.readings))] = Reading({self.site}, channels)

    def drop(self, channels, stay=()):
        """Say that these channels end here, but for the positions that stay."""
        if channels is not None:
            self.dropped.append(np.delete(channels.units, stay))
