"""Recurrent cells: a hidden unit is its gate columns, its biases, its recurrent row and the rows of its readers.

A unit is silent if its candidate is zero at every step: a state that begins with zero then stays zero, whatever the
gates do. A silent unit leaves like one that nothing reads. Any other unit whose own weights are zero stays: an LSTM's
or a GRU's runs through numbers of its own, c' = f c + i g or h' = z h + (1 - z) g, before it settles.
"""

import dataclasses
import math

import keras
import numpy as np

from tf_terngrad.sparsity.graph.channels import Channels
from tf_terngrad.sparsity.graph.values import any_above
from tf_terngrad.sparsity.rules.activation import apply_activation, why_not_elementwise
from tf_terngrad.sparsity.rules.axes import BIAS, PLAIN, inside
from tf_terngrad.sparsity.rules.base import Rule
from tf_terngrad.sparsity.rules.registry import multiply_adds, register_rule, rule_for


class Cell(Rule):
    """How a cell ties its dimensions: what every step of a recurrent layer does.

    Use it when you write the rule of a recurrent cell of your own: subclass it.

    `step` labels and reads the cell's weights like a layer's `follow`; `cell_config` is the configuration of the
    smaller cell. `RNN` and `Bidirectional` take any cell that has such a rule.

    Example, a cell with h' = tanh(x W) * sigmoid(h U)::

        class GateRule(tt.rules.Cell):
            def step(self, call, cell, entering, at_rest):
                units = call.graph.born(cell.kernel, -1, cell.units)
                call.label(cell.kernel, -1, units, "kernel", produced=True)
                call.label(cell.recurrent_kernel, -1, units, "kernel")
                state = Channels.of(units)
                call.matmul(cell.kernel, entering, units)
                call.matmul(cell.recurrent_kernel, state, units)
                return state, [state]

            def cell_config(self, call, cell, kept):
                return {**cell.get_config(), "units": call.width(cell.kernel, -1, kept)}

        tt.register_rule(Gate, GateRule())
    """

    def step(self, call, cell, entering, at_rest):
        """Label and read the cell's weights.

        Args:
            call: of the recurrent layer.
            cell: the cell.
            entering: the channels of a step's input, or None where they are not followed.
            at_rest: for each state, which of its units begin with zero: a Boolean array, or one for all.

        Returns:
            (channels of the output, list of the channels of each state), with the values they have after every step.
        """
        raise NotImplementedError(f"{type(self).__name__} must define step(call, cell, entering, at_rest).")

    def cell_config(self, call, cell, kept):
        """The configuration of the smaller cell."""
        raise NotImplementedError(f"{type(self).__name__} must define cell_config(call, cell, kept).")

    def why_frozen(self, layer):
        return f"a cell is followed only in a recurrent layer ({type(layer).__name__})"

    def follow(self, call):
        call.freeze(call.inputs, self.why_frozen(call.layer))


class GatedCell(Cell):
    """Kernel (in, gates * units), recurrent kernel (units, gates * units), bias (gates * units) or a row for each.

    Use it when a cell of your own has its gates side by side in its kernels, as LSTM and GRU have.

    Args:
        gates: how many.
        candidate: which of them is what the state takes in, through the cell's `activation`.
        states: how many states of as many units as the cell has.
    """

    def __init__(self, gates, candidate, states):
        self.gates, self.candidate, self.states = gates, candidate, states

    def axes(self, layer):
        gates = inside(PLAIN)  # a column is one gate of a unit
        return {"kernel": gates, "recurrent_kernel": gates, "bias": inside(BIAS)}

    def step(self, call, cell, entering, at_rest):
        units = call.graph.born(cell.recurrent_kernel, -2, self.width(cell))
        columns = np.tile(units, self.gates)
        call.label(cell.kernel, -1, columns, "kernel", produced=True)
        call.label(cell.recurrent_kernel, -1, columns, "kernel")
        call.label(cell.bias, -1, columns, "bias")
        activations = (cell.activation, getattr(cell, "recurrent_activation", None))
        mixing = next(filter(None, map(why_not_elementwise, activations)), None)
        if mixing:
            call.graph.freeze(units, f"{call.path}: {mixing}")
        foldable = getattr(call.layer, "cell", None) is cell
        entered = self.read(call, cell, cell.kernel, entering, columns, foldable)
        silent, emitted = np.zeros(len(units), bool), np.full(len(units), np.nan)
        if call.graph.tolerance is not None and not mixing:
            silent, emitted = self._constants(call.graph, cell, entered, np.logical_and.reduce(at_rest))
        before = Channels(units, np.where(silent, 0.0, np.nan))
        self.read(call, cell, cell.recurrent_kernel, before, columns, False)
        output = before.with_values(emitted)
        return output, [output] * self.states

    def width(self, cell):
        """How many units a cell has."""
        return cell.units

    def read(self, call, cell, kernel, channels, columns, foldable):
        """Say that a kernel of the cell reads channels; returns what each column takes in, as `Call.read` does."""
        return call.matmul(kernel, channels, columns, foldable)

    def heard(self, graph, kernel):
        """Boolean (units, columns): whether the recurrent kernel reads a unit's state for a column."""
        return any_above(graph.value(kernel)[..., None], graph.tolerance)

    def _constants(self, graph, cell, entered, at_rest):
        """Which units are silent, and what every unit emits (NaN: it depends)."""
        width = self.width(cell)
        own = slice(self.candidate * width, (self.candidate + 1) * width)
        biases = [np.zeros(width)] if cell.bias is None else graph.value(cell.bias).reshape(-1, entered.size)
        first, *others = (bias[own] if cell.bias is not None else bias for bias in biases)
        sums = [entered[own] + first, *others]
        heard = self.heard(graph, cell.recurrent_kernel)[:, own]
        still = np.logical_and.reduce([np.abs(total) <= graph.tolerance for total in sums])
        if apply_activation(cell.activation, np.zeros(1))[0] != 0:
            still[:] = False
        silent = silent_units(still & at_rest, heard)
        return silent, self._emitted(cell, sums[0], silent, ~heard[~silent].any(0))

    def _emitted(self, cell, total, silent, deaf):
        """What each unit emits. `total`: what enters it, bias included; `deaf`: whether it hears silent units only."""
        return np.where(silent, 0.0, np.nan)

    def cell_config(self, call, cell, kept):
        return {**cell.get_config(), "units": call.width(cell.recurrent_kernel, -2, kept)}

    def multiply_adds(self, cell, output, inputs, *args, **kwargs):
        return inputs.shape[0] * (math.prod(cell.kernel.shape) + math.prod(cell.recurrent_kernel.shape))


class SimpleCell(GatedCell):
    """h' = f(x W + h U + b): with W and U zero, f(b) from the first step on, which readers can fold.

    The recurrent kernel cannot: before the first step it reads another state.
    """

    def _emitted(self, cell, total, silent, deaf):
        return np.where(silent, 0.0, apply_activation(cell.activation, np.where(deaf, total, np.nan)))


class StackedCells(Cell):
    """Cells one after the other; the states of all of them."""

    def held(self, cell):
        return cell.cells

    def step(self, call, cell, entering, at_rest):
        states = []
        for inner in cell.cells:
            count = len(keras.tree.flatten(inner.state_size))
            own = at_rest[len(states) : len(states) + count]
            part = dataclasses.replace(call, path=f"{call.path}/{inner.name}")
            entering, left = rule_for(inner).step(part, inner, entering, own)
            states += left
        return entering, states

    def cell_config(self, call, cell, kept):
        config = cell.get_config()
        configs = [rule_for(inner).cell_config(call, inner, kept) for inner in cell.cells]
        pairs = zip(config["cells"], configs, strict=True)
        return {**config, "cells": [with_config(serialized, inner) for serialized, inner in pairs]}

    def multiply_adds(self, cell, output, inputs, *args, **kwargs):
        counts = []
        for inner in cell.cells:
            counts.append(step_cost(inner, inputs))
            inputs = _step_output(inner, inputs)
        return None if None in counts else sum(counts)


def silent_units(still, heard):
    """The largest set of units, among those that are `still`, that hear nothing from outside the set.

    Use it when you write the rule of a cell: it tells which hidden units never change.

    Args:
        still: Boolean (units,), whether the candidate is zero as long as all states are.
        heard: Boolean (units, units), whether unit i's state reaches candidate j.

    >>> silent_units(np.array([True, True, False]), np.array([[0, 1, 0], [0, 0, 0], [0, 0, 1]], bool))
    array([ True,  True, False])
    """
    silent = still
    while True:
        left = silent & ~heard[~silent].any(0)
        if (left == silent).all():
            return silent
        silent = left


def with_config(serialized, config):
    """A serialized object with another configuration, which is not built for its old shapes."""
    return {key: value for key, value in serialized.items() if key != "build_config"} | {"config": config}


def step_cost(cell, inputs):
    """The multiply-adds of one step of a cell; None where nobody knows."""
    return multiply_adds(cell, _step_output(cell, inputs), inputs)


def _step_output(cell, inputs):
    size = getattr(cell, "output_size", None) or keras.tree.flatten(cell.state_size)[0]
    return keras.KerasTensor((inputs.shape[0], size), inputs.dtype)


def unknown_cell(cell):
    """The first cell, of those in this one, that no rule knows; None: there is none."""
    if isinstance(rule_for(cell), StackedCells):
        return next((found for inner in cell.cells if (found := unknown_cell(inner)) is not None), None)
    return None if isinstance(rule_for(cell), Cell) else cell


register_rule(keras.layers.LSTMCell, GatedCell(gates=4, candidate=2, states=2))
register_rule(keras.layers.GRUCell, GatedCell(gates=3, candidate=2, states=1))
register_rule(keras.layers.SimpleRNNCell, SimpleCell(gates=1, candidate=0, states=1))
register_rule(keras.layers.StackedRNNCells, StackedCells())
