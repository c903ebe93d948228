"""Recurrent layers: a hidden unit is its gate columns, its biases, its recurrent row and the rows of its readers.

A layer follows its cell; a cell has a rule of its own, so that `RNN` takes any cell that a rule knows. A unit leaves if
nothing that stays reads it, or if it is silent: its candidate is zero at every step, so that its state stays the zero
that it began with.
"""

import keras
import numpy as np

from tf_terngrad.sparsity.channels import Channels, Edge
from tf_terngrad.sparsity.rules.base import Rule, register_rule, rule_for


class Cell(Rule):
    """How a cell ties its dimensions: what every step of a recurrent layer does."""

    def states(self, call, cell):
        """The units of each of the cell's states, a list of integer arrays."""
        raise NotImplementedError(f"{type(self).__name__} must define states(call, cell).")

    def step(self, call, cell, entering, at_rest):
        """Label and read the cell's weights.

        Args:
            call: of the recurrent layer.
            cell: the cell.
            entering: the channels of a step's input, or None where they are not followed.
            at_rest: for each state, which of its units begin with zero.

        Returns:
            (channels of the output, list of channels of the states), the same at every step.
        """
        raise NotImplementedError(f"{type(self).__name__} must define step(call, cell, entering, at_rest).")

    def cell_config(self, call, cell, kept):
        """The configuration of the smaller cell."""
        raise NotImplementedError(f"{type(self).__name__} must define cell_config(call, cell, kept).")


class GatedCell(Cell):
    """Kernel (in, gates * units), recurrent kernel (units, gates * units), bias (gates * units) or a row for each.

    Args:
        gates: how many.
        candidate: which of them is what a state takes in; where it is zero, a state of zero stays zero.
        count: of states, each of as many units as the cell has.
    """

    def __init__(self, gates, candidate, count):
        self.gates, self.candidate, self.count = gates, candidate, count

    def states(self, call, cell):
        return [call.graph.born(cell.recurrent_kernel, 0, cell.units)] * self.count

    def step(self, call, cell, entering, at_rest):
        units, *_ = self.states(call, cell)
        columns = np.tile(units, self.gates)
        call.label(cell.kernel, -1, columns, "kernel", produced=True)
        call.label(cell.recurrent_kernel, 0, units, "kernel")
        call.label(cell.recurrent_kernel, -1, columns, "kernel")
        call.label(cell.bias, -1, columns, "bias")
        call.label(cell.kernel, 0, entering and entering.units, "kernel")
        taken_in = call.read(
            cell.kernel, 0, entering, lambda: call.graph.value(cell.kernel)[..., None], (columns,), False, None
        )
        silent = self._silent(call, cell, taken_in, np.logical_and.reduce(at_rest))
        channels = Channels(units, np.where(silent, 0.0, np.nan))
        call.read(
            cell.recurrent_kernel,
            0,
            channels,
            lambda: call.graph.value(cell.recurrent_kernel)[..., None],
            (columns,),
            False,
            None,
        )
        return channels, [channels] * self.count

    def _silent(self, call, cell, taken_in, at_rest):
        """Units whose candidate is zero at every step: nothing comes in, nothing of units that are not silent."""
        graph = call.graph
        if graph.tolerance is None or keras.ops.convert_to_numpy(cell.activation(np.zeros(1, np.float32)))[0] != 0:
            return np.zeros(cell.units, bool)
        own = slice(self.candidate * cell.units, (self.candidate + 1) * cell.units)
        biases = 0.0 if cell.bias is None else np.abs(graph.value(cell.bias).reshape(-1, taken_in.size)).max(0)[own]
        heard = np.abs(graph.value(cell.recurrent_kernel)[:, own]) > graph.tolerance
        silent = at_rest & (taken_in[own] == 0) & (biases == 0)
        while True:
            left = silent & ~heard[~silent].any(0)
            if (left == silent).all():
                return silent
            silent = left

    def cell_config(self, call, cell, kept):
        return {**cell.get_config(), "units": int(kept.stays(self.states(call, cell)[0]).sum())}


class StackedCells(Cell):
    """Cells one after the other; the states of all of them."""

    def states(self, call, cell):
        return [units for inner in cell.cells for units in rule_for(inner).states(call, inner)]

    def step(self, call, cell, entering, at_rest):
        states = []
        for inner in cell.cells:
            rule = rule_for(inner)
            count = len(rule.states(call, inner))
            entering, own = rule.step(call, inner, entering, at_rest[len(states) : len(states) + count])
            states += own
        return entering, states

    def cell_config(self, call, cell, kept):
        config = cell.get_config()
        configs = [rule_for(inner).cell_config(call, inner, kept) for inner in cell.cells]
        pairs = zip(config["cells"], configs, strict=True)
        return {**config, "cells": [_with_config(serialized, inner) for serialized, inner in pairs]}


class Recurrent(Rule):
    """A cell at every step of an axis, from states that are zero or given."""

    kind = "hidden"

    def follow(self, call):
        layer, (edge, *given) = call.layer, call.inputs
        unknown = _unknown_cell(layer.cell)
        if unknown is not None:
            call.freeze(call.inputs, f"no rule knows its cell ({type(unknown).__name__})")
            return
        call.freeze_axis(edge.axes[1], "these are the steps it runs over")
        rule = rule_for(layer.cell)
        states = rule.states(call, layer.cell)
        at_rest = [
            self._begin(call, units, edge) for units, edge in zip(states, given or [None] * len(states), strict=True)
        ]
        for variable, units in zip(keras.tree.flatten(layer.states or ()), states, strict=False):
            call.label(variable, -1, units, "statistic")
        output, states = rule.step(call, layer.cell, edge.axes[-1], at_rest)
        for target, channels in zip(call.outputs, [output, *states], strict=False):
            target.axes[-1] = channels

    def _begin(self, call, units, edge):
        """Tie a state to what it begins with; which of its units begin with zero."""
        if edge is None:
            return np.full(len(units), not call.layer.stateful)
        if edge.axes[-1] is None:
            call.graph.freeze(units, f"{call.path}: its initial state cannot shrink")
            return np.zeros(len(units), bool)
        call.graph.units.tie(units, edge.axes[-1].units)
        return edge.axes[-1].values == 0

    def config(self, call, kept):
        config, cell = call.layer.get_config(), call.layer.cell
        smaller = rule_for(cell).cell_config(call, cell, kept)
        if "cell" in config:
            return {**config, "cell": _with_config(config["cell"], smaller)}
        return {**config, "units": smaller["units"]}


class Bidirectional(Rule):
    """Two recurrent layers, one from the front and one from the back, and what joins their outputs."""

    expands = True

    def expand(self, call):
        graph, layer, (edge, *given) = call.graph, call.layer, call.inputs
        half = len(given) // 2
        results = []
        for inner, states in ((layer.forward_layer, given[:half]), (layer.backward_layer, given[half:])):
            where = (id(layer), inner.name)
            kwargs = {"initial_state": list(states)} if states else {}
            results.append(graph.apply(inner, where, f"{call.path}/", (edge,), kwargs))
        (one, *its_states), (other, *others_states) = results
        states = [*its_states, *others_states]
        if layer.merge_mode is None:
            return [one, other, *states]
        merged = Edge(
            (*one.shape[:-1], one.shape[-1] * (2 if layer.merge_mode == "concat" else 1)), one.dtype, layer.name
        )
        merged.axes[-1] = self._merge(call, one.axes[-1], other.axes[-1])
        graph.link(call, one, merged)
        graph.link(call, other, merged)
        return [merged, *states]

    def _merge(self, call, one, other):
        mode = call.layer.merge_mode
        if one is None or other is None:
            for channels in (one, other):
                call.freeze_axis(channels, "the other direction cannot shrink")
            return None
        if mode == "concat":
            return Channels.concatenate([one, other])
        call.graph.units.tie(one.units, other.units)
        if mode == "mul":
            return one.with_values(np.where((one.values == 0) | (other.values == 0), 0.0, np.nan))
        return one.with_values(one.values + other.values)

    def layer(self, builder, call, name=None):
        """`Bidirectional` makes a copy of its own of the layer that it is given."""
        layer = call.layer
        forward, backward = self._directions(builder, call)
        config = {key: value for key, value in keras.layers.Layer.get_config(layer).items() if key != "name"}
        both = keras.layers.Bidirectional(
            forward, merge_mode=layer.merge_mode, backward_layer=backward, name=name or layer.name, **config
        )
        builder.follow(layer.forward_layer, both.forward_layer)
        return both

    def rebuild(self, builder, call, args, kwargs):
        """Two layers where they are not as wide as each other any more: of `Bidirectional`, Keras takes them to be."""
        layer = call.layer
        directions = self._directions(builder, call)
        if directions[0].cell.output_size == directions[1].cell.output_size:
            return builder.layer(call)(*args, **kwargs)
        tensor, *states = (
            value for value in keras.tree.flatten((args, kwargs)) if keras.backend.is_keras_tensor(value)
        )
        half = len(states) // 2
        starts = ({"initial_state": part} if part else {} for part in (states[:half], states[half:]))
        results = [
            keras.tree.flatten(direction(tensor, **start)) for direction, start in zip(directions, starts, strict=True)
        ]
        (one, *its_states), (other, *others_states) = results
        if layer.return_sequences:
            other = keras.ops.flip(other, axis=1)
        outputs = [one, other]
        if layer.merge_mode == "concat":
            outputs = [keras.layers.Concatenate(name=layer.name, dtype=layer.dtype_policy)(outputs)]
        return [*outputs, *its_states, *others_states]

    def _directions(self, builder, call):
        layer = call.layer
        return [
            builder.layer(builder.call_at((id(layer), inner.name)))
            for inner in (layer.forward_layer, layer.backward_layer)
        ]


def _with_config(serialized, config):
    """A serialized object with another configuration, which is not built for its old shapes."""
    return {key: value for key, value in serialized.items() if key != "build_config"} | {"config": config}


def _unknown_cell(cell):
    """The first cell, of those in this one, that no rule knows; None: there is none."""
    if isinstance(rule_for(cell), StackedCells):
        return next((found for inner in cell.cells if (found := _unknown_cell(inner)) is not None), None)
    return None if isinstance(rule_for(cell), Cell) else cell


register_rule(keras.layers.LSTMCell, GatedCell(gates=4, candidate=2, count=2))
register_rule(keras.layers.GRUCell, GatedCell(gates=3, candidate=2, count=1))
register_rule(keras.layers.SimpleRNNCell, GatedCell(gates=1, candidate=0, count=1))
register_rule(keras.layers.StackedRNNCells, StackedCells())
for _type in (keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN, keras.layers.RNN):
    register_rule(_type, Recurrent())
register_rule(keras.layers.Bidirectional, Bidirectional())
