"""A Keras model as dimensions, and the layers that tie them.

Every axis that can shrink is followed through the model as `Channels`: for each position of the axis, the *unit* it
belongs to and the constant it emits, if any. A unit is what can only leave as a whole; layers tie units together,
read them, or freeze them. The rules of `tf_terngrad.sparsity.rules` say which layer does what.
"""

import dataclasses

import keras
import numpy as np
from keras import tree
from keras.src.ops.numpy import Take

from tf_terngrad.sparsity.channels import Channels, Edge, Reading, Units, Weight
from tf_terngrad.sparsity.rules import is_graph, rule_for


_LINK = keras.layers.Identity(name="link")


class Graph:
    """A model, followed: its calls, weights, readings and frozen units.

    Args:
        model: a built Functional or Sequential model.
        tolerance: also work out what channels emit, taking weights of at most this magnitude for zero; None: do not.
        blank: ids of variables to take for zero.

    Attributes:
        units: the `Units` and their ties.
        calls: every use of a layer, in order; inside nested models too, once for each use of the model.
        sites: the first `Call` at each place of the model's graphs.
        joined: for each use of a composition, its site and the edges that enter and leave it.
        weights: `Weight` by id of the variable.
        readings: `Reading` by (id of the kernel, axis), or by a key of its own where there is no kernel.
        frozen: list of (units, reason).
        inputs, outputs: the model's edges.
    """

    def __init__(self, model, tolerance=None, blank=frozenset()):
        self.model = model
        self.tolerance = tolerance
        self.units = Units()
        self.calls, self.sites, self.joined = [], {}, []
        self.weights, self.readings, self.frozen = {}, {}, []
        self._blank = blank
        self._ports = {}
        self.inputs = [Edge.like(tensor) for tensor in model.inputs]
        for edge in self.inputs:
            if len(edge.shape) == 2 and edge.shape[1] is not None and keras.backend.is_float_dtype(edge.dtype):
                edge.axes[1] = Channels.of(self.units.new(edge.shape[1]))
        self.outputs = self.run(model, self.inputs, "")
        for edge in self.outputs:
            for channels in edge.followed:
                self.freeze(channels.units, "the model's output")

    def run(self, model, inputs, prefix):
        """Follow the inner graph of a Functional or Sequential model; returns its output edges."""

        def follow(node, args, kwargs):
            outputs = [Edge.like(tensor) for tensor in tree.flatten(node.output_tensors)]
            return self.apply(node.operation, id(node), prefix, args, kwargs, outputs)

        return run_nodes(model, inputs, follow)

    def apply(self, layer, site, prefix, args, kwargs=None, outputs=None):
        """Follow one call of a layer; returns its output edges."""
        kwargs = kwargs or {}
        inputs = [value for value in tree.flatten((args, kwargs)) if isinstance(value, Edge)]
        call = Call(self, layer, prefix + layer.name, site, args, kwargs, inputs, outputs)
        self.sites.setdefault(site, call)
        rule = rule_for(layer)
        if rule.expands:
            outputs = rule.expand(call)
            self.joined.append((site, inputs, outputs))
            return outputs
        if outputs is None:
            specs = layer.compute_output_spec(*tree.map_structure(_symbol, args), **kwargs)
            call.outputs = [Edge.like(tensor) for tensor in tree.flatten(specs)]
        self.calls.append(call)
        rule.follow(call)
        return call.outputs

    def port(self, layer, edges):
        """Tie the tensors that enter the same layer in its different calls: its inside has one width for all."""
        for first, again in zip(self._ports.setdefault(id(layer), edges), edges, strict=True):
            for axis, (a, b) in enumerate(zip(first.axes, again.axes, strict=True)):
                if a is not None and b is not None:
                    self.units.tie(a.units, b.units)
                elif a is not None or b is not None:
                    channels = b if a is None else a
                    self.freeze(channels.units, f"{layer.name}: another input of this shared layer cannot shrink")
                    first.axes[axis] = again.axes[axis] = channels.unknown()

    def link(self, call, edge, same):
        """Two edges that are one tensor, seen with and without an axis."""
        self.calls.append(Call(self, _LINK, call.path, (call.site, id(same)), (), {}, [edge], [same]))

    def freeze(self, units, reason):
        """Keep these units, and remember why."""
        self.frozen.append((units, reason))

    def frozen_channels(self, count, reason):
        """Channels that are there but can never leave."""
        units = self.units.new(count)
        self.freeze(units, reason)
        return Channels.of(units)

    def born(self, variable, axis, count):
        """The units along the output axis of a variable: the same in every call of its layer."""
        weight = self.weights.get(id(variable))
        axis %= len(variable.shape)
        return weight.axes[axis] if weight and axis in weight.axes else self.units.new(count)

    def is_gathered(self, edge):
        """Whether a model input is only read through `take`: the features that are not taken have left already."""
        users = [call for call in self.calls if any(edge is used for used in call.inputs)]
        return bool(users) and all(isinstance(call.layer, Take) for call in users)

    def value(self, variable):
        """A variable as a NumPy array in float32; zero where the analysis asked for it."""
        array = keras.ops.convert_to_numpy(variable.value).astype(np.float32, copy=False)
        return np.zeros_like(array) if id(variable) in self._blank else array


@dataclasses.dataclass
class Call:
    """One use of a layer (or of a Keras operation): what the rules see and speak to."""

    graph: Graph
    layer: keras.Operation
    path: str
    site: object
    args: tuple
    kwargs: dict
    inputs: list
    outputs: list

    @property
    def output(self):
        """The first output: the only one, for most layers."""
        return self.outputs[0]

    def freeze(self, edges, reason):
        """Keep every followed channel of these tensors, and remember why."""
        for edge in edges:
            for channels in edge.followed:
                self.graph.freeze(channels.units, f"{self.path}: {reason}")

    def label(self, variable, axis, units, role, produced=False):
        """Say which units lie along an axis of a variable of the layer (a variable or units of None: nothing to say).

        `role` is "kernel", "bias", "scale", "shift", "slope" or "statistic"; `produced`: the units are born here.
        """
        if variable is None or units is None:
            return
        kind = rule_for(self.layer).kind
        weight = self.graph.weights.setdefault(id(variable), Weight(variable, self.path, kind, role))
        axis %= len(variable.shape)
        if axis in weight.axes:
            self.graph.units.tie(weight.axes[axis], units)
        weight.axes[axis] = units
        if produced:
            weight.produced.add(axis)

    def read(self, variable, axis, channels, kernel, columns, foldable, bias):
        """Say that a kernel sums channels away; returns what each of its output columns emits (NaN: it depends).

        Args:
            variable, axis: the kernel and its input axis.
            channels: what is read, or None where the input is not followed.
            kernel: function that gives the weights as (in, out, taps).
            columns: the units along each output axis, each of length `out`.
            foldable: whether a constant input can become bias exactly.
            bias: the layer's bias or None.
        """
        graph, key = self.graph, (id(variable), axis)
        if graph.tolerance is None:
            if channels is not None:
                graph.readings[key] = Reading({self.site}, channels)
            return np.full(len(columns[0]) if columns else 1, np.nan)
        known = graph.readings.get(key)
        nonzero = known.nonzero if known else (np.abs(kernel()) > graph.tolerance).any(-1)
        read = Channels.of(np.zeros(len(nonzero), np.int64)) if channels is None else channels
        reading = Reading({self.site}, read, kernel, columns, foldable, nonzero)
        total = reading.constant_sum(reading.constant) + (0.0 if bias is None else graph.value(bias))
        emitted = np.where(nonzero[~reading.constant].any(0), np.nan, total)
        if known:
            reading.merge(known)
        if channels is not None:
            graph.readings[key] = reading
        return emitted

    def contract(self, channels):
        """Say that channels are summed away unweighed: only a channel that is zero can leave."""
        if channels is not None:
            self.graph.readings[(self.site, len(self.graph.readings))] = Reading({self.site}, channels)


def run_nodes(model, inputs, function):
    """Evaluate a Functional graph on any kind of values: function(node, args, kwargs) gives a node's outputs."""
    functional = getattr(model, "_functional", None) or model
    values = {id(tensor): value for tensor, value in zip(functional.inputs, inputs, strict=True)}
    for depth in sorted(functional._nodes_by_depth, reverse=True):
        for node in functional._nodes_by_depth[depth]:
            if node.is_input:
                continue
            args, kwargs = node.arguments.convert(
                lambda value: values[id(value)] if isinstance(value, keras.KerasTensor) else value
            )
            outputs = function(node, args, kwargs)
            values.update(zip(map(id, tree.flatten(node.output_tensors)), outputs, strict=True))
    return [values[id(tensor)] for tensor in functional.outputs]


def check_model(model):
    """Refuse what is not a built graph of layers.

    Raises:
        TypeError: for anything but a Keras model.
        ValueError: for a model that is not built, or is written as a subclass with its own `call`.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"Expected a Keras model. Received: {model!r} (of type {type(model).__name__})")
    if isinstance(model, keras.Sequential) and not model.built:
        raise ValueError(
            f"Model {model.name!r} is not built: its shapes are not known yet. "
            "Start it with a keras.Input, or call model.build(input_shape) first."
        )
    if not is_graph(model):
        raise ValueError(
            f"Model {model.name!r} is a subclass ({type(model).__name__}) with a call() of its own, which cannot be "
            "followed. Build it with keras.Sequential or keras.Model(inputs, outputs)."
        )


def _symbol(value):
    return tree.map_structure(lambda v: keras.KerasTensor(v.shape, v.dtype) if isinstance(v, Edge) else v, value)
