"""A Keras model as dimensions, and the layers that tie them.

Every axis that can shrink is followed through the model as `Channels`: for each position of the axis, the *unit* it
belongs to and the constant it emits, if any. A unit is what can only leave as a whole; layers tie units together,
read them, or freeze them. The rules of `tf_terngrad.sparsity.rules` say which layer does what.
"""

import functools

import keras
import numpy as np
from keras import tree

from tf_terngrad.keras_internals import graph_of, nodes
from tf_terngrad.sparsity.graph.calls import Call
from tf_terngrad.sparsity.graph.channels import Channels, Edge, Units
from tf_terngrad.sparsity.graph.fits import freeze_what_knows_its_width
from tf_terngrad.sparsity.graph.grids import Grids
from tf_terngrad.sparsity.graph.reads import functions_of, variables_read
from tf_terngrad.sparsity.graph.replay import replay
from tf_terngrad.sparsity.graph.stand_in import StandIn
from tf_terngrad.sparsity.graph.values import array_of
from tf_terngrad.sparsity.rules import Rule
from tf_terngrad.sparsity.rules.masks import HandOn
from tf_terngrad.sparsity.rules.selection import gathers

ALIAS = keras.layers.Identity(name="alias")
"""Stands between two edges that are one tensor, seen with and without an axis."""


class Graph:
    """A model, followed: its calls, weights, readings and frozen units.

    Args:
        model: a built Functional or Sequential model.
        tolerance: also work out what channels emit, taking weights of at most this magnitude for zero; None: do not.
        blank: ids of variables to take for zero.
        seen: function of a variable, the array to take for its value; None: its own values.

    Attributes:
        units: the `Units` and their ties.
        grids: the `Grids`, of the axes that are made of several ones.
        calls: every use of a layer, in order; inside nested models too, once for each use of the model.
        sites: the first `Call` at each place of the model's graphs.
        joined: for each use of a composition, its site and the edges that enter and leave it.
        weights: `Weight` by id of the variable.
        readings: `Reading` by (id of the kernel, axis), or by a key of its own where there is no kernel.
        frozen: list of (units, reason).
        read_elsewhere: the ids of weights that are also read where it is not known what for.
        added: the units that several tensors of the model are added along.
        inputs, outputs: the model's edges.
        features: the edges that hold the model's input as flat features, any of which can leave through a gather.
    """

    def __init__(self, model, tolerance=None, blank=frozenset(), seen=None):
        self.model = model
        self.tolerance = tolerance
        self.units = Units()
        self.grids = Grids(self.units)
        self.calls, self.sites, self.joined = [], {}, []
        self.weights, self.readings, self.frozen = {}, {}, []
        self.read_elsewhere = set()
        self._blank = blank
        self._seen = seen or array_of
        self._values = {}
        self._ports = {}
        self.features = []
        self.inputs = [Edge.like(tensor) for tensor in model.inputs]
        for edge, tensor in zip(self.inputs, model.inputs, strict=True):
            if not tensor.sparse:
                self.flat_features(edge)
        self.outputs = self.run(model, self.inputs, "")
        for edge in self.outputs:
            for channels in edge.followed:
                self.freeze(channels.units, "the model's output")
        self._hold_weights()
        self._hold_axes()
        self.freeze(self.grids.settle(), "of what a reshape makes, only heads leave, and the last axis")
        freeze_what_knows_its_width(self)

    @functools.cached_property
    def added(self):
        """The units of channels that sums of several tensors have."""
        sums = [
            call for call in self.calls if call.rule.adds and sum(_is_whole(call, edge) for edge in call.inputs) > 1
        ]
        units = [channels.units for call in sums for channels in call.output.followed]
        return self.units.find(np.concatenate([np.zeros(0, np.int64), *units]))

    @property
    def opaque(self):
        """The calls of layers whose inside is not known."""
        return [call for call in self.calls if call.rule.why_frozen(call.layer)]

    def run(self, model, inputs, prefix):
        """Follow the inner graph of a Functional or Sequential model; returns its output edges."""
        given = [node.arguments.args for node in nodes(graph_of(model)) if isinstance(node.operation, HandOn)]
        handed, shown = {id(tensor) for tensor, _ in given}, isinstance(model, StandIn)

        def follow(node, args, kwargs):
            outputs = [Edge.like(tensor) for tensor in tree.flatten(node.output_tensors)]
            hands_on = all(id(tensor) in handed for tensor in tree.flatten(node.output_tensors))
            return self.apply(node.operation, id(node), prefix, args, kwargs, outputs, hands_on, shown)

        return replay(model, inputs, follow)

    def apply(self, layer, site, prefix, args, kwargs=None, outputs=None, hands_on=False, shown=False):
        """Follow one call of a layer; returns its output edges. `shown`: all masks are, where the call was opened."""
        kwargs = kwargs or {}
        inputs = [value for value in tree.flatten((args, kwargs)) if isinstance(value, Edge)]
        call = Call(self, layer, prefix + layer.name, site, args, kwargs, inputs, outputs, hands_on)
        self.sites.setdefault(site, call)
        rule = call.rule
        if rule.expands:
            outputs = rule.expand(call)
            self.joined.append((site, inputs, outputs))
            return outputs
        if outputs is None:
            specs = layer.compute_output_spec(*_symbols(args), **_symbols(kwargs))
            call.outputs = [Edge.like(tensor) for tensor in tree.flatten(specs)]
        self.calls.append(call)
        if type(rule).config is not Rule.config and not getattr(layer, "weights", ()):
            self.port(call, inputs)
        before = len(self.frozen)
        rule.follow(call)
        may_hand_on = not shown and isinstance(layer, keras.layers.Layer) and any(each.masked for each in inputs)
        for edge in call.outputs:
            edge.masked |= may_hand_on and len(edge.shape) > 2
        self._check(call, before)
        return call.outputs

    def port(self, call, inputs):
        """Tie the tensors that enter the same layer in its different calls: one configuration serves them all."""
        for first, again in zip(self._ports.setdefault(id(call.layer), inputs), inputs, strict=True):
            if [c and len(c) for c in first.axes] == [c and len(c) for c in again.axes]:
                for a, b in zip(first.followed, again.followed, strict=True):
                    self.units.tie(a.units, b.units)
            else:
                call.freeze([first, again], "this shared layer is called on tensors that differ in what can shrink")

    def alias(self, call, edge, same):
        """Two edges that are one tensor, seen with and without an axis."""
        joint = Call(self, ALIAS, call.path, (call.site, id(same)), (), {}, [edge], [same])
        self.sites[joint.site] = joint
        self.calls.append(joint)

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

    def flat_features(self, edge):
        """Follow each feature of the model's input where it is flat, unless another edge has the same name."""
        flat = len(edge.shape) == 2 and edge.shape[1] and keras.backend.is_float_dtype(edge.dtype)
        if flat and edge.name not in {other.name for other in self.features}:
            edge.axes[1] = Channels.of(self.units.new(edge.shape[1]))
            self.features.append(edge)

    def is_gathered(self, edge):
        """Whether features are only read through `take`: those that are not taken have left already."""
        users = [call for call in self.calls if any(edge is used for used in call.inputs)]
        return bool(users) and all(gathers(call) for call in users)

    def value(self, variable):
        """A variable as a NumPy array in float32, to read only; zero where the analysis asked for it."""
        if id(variable) in self._blank:
            return np.zeros(variable.shape, np.float32)
        if id(variable) not in self._values:
            self._values[id(variable)] = self._seen(variable).astype(np.float32, copy=False)
        return self._values[id(variable)]

    def _check(self, call, before):
        """A rule accounts for every channel: passed on, read, dropped on purpose or frozen. What it forgets, stays."""
        for edge in call.outputs:
            for size, channels in zip(edge.shape, edge.axes, strict=True):
                if channels is not None and len(channels) != size:
                    raise ValueError(
                        f"{call.path}: the rule of {type(call.layer).__name__} gives {len(channels)} channels for an "
                        f"axis of size {size} of its output, whose shape is {edge.shape}."
                    )
        entering = [channels.units for edge in call.inputs for channels in edge.followed]
        if not entering:
            return
        known = [channels.units for edge in call.outputs for channels in edge.followed]
        known += [reading.channels.units for reading in self.readings.values() if call.site in reading.sites]
        known += [*call.dropped, *(units for units, _ in self.frozen[before:])]
        find, entering = self.units.find, np.unique(np.concatenate(entering))
        lost = entering if not known else entering[~np.isin(find(entering), find(np.concatenate(known)))]
        if lost.size:
            self.freeze(lost, f"{call.path}: the rule of {type(call.layer).__name__} does not follow this axis")

    def _hold_weights(self):
        """A weight that is read where the inside is not known, in a layer or in a function of one, stays as it is."""
        opaque = {call.site for call in self.opaque}
        for call in self.calls:
            read = [call.layer] if call.site in opaque else functions_of(call.layer)
            read += [value for value in tree.flatten((call.args, call.kwargs)) if isinstance(value, keras.Variable)]
            for key in self.weights.keys() & variables_read(*read).keys() if read else ():
                self.read_elsewhere.add(key)
                for units in self.weights[key].axes.values():
                    self.freeze(units, f"{call.path}: it shares this weight")

    def _hold_axes(self):
        """An axis of a weight that several layers hold stays, if it is fixed for one of them."""
        for call in self.calls:
            for variable in getattr(call.layer, "weights", ()):
                if id(variable) in self.weights:
                    self.weights[id(variable)].holders.setdefault(id(call.layer), set())
        for weight in self.weights.values():
            for axis, units in weight.axes.items():
                if any(axis not in known for known in weight.holders.values()):
                    self.freeze(units, f"{weight.path}: another layer keeps this axis of the weight")


def _is_whole(call, edge):
    """Whether a term of a sum is one for each example, and no bias or table of positions."""
    return len(edge.shape) == len(call.output.shape) and edge.shape[:1] == call.output.shape[:1]


def _symbols(arguments):
    return tree.map_structure(lambda v: keras.KerasTensor(v.shape, v.dtype) if isinstance(v, Edge) else v, arguments)
