"""Sums over products of two tensors: Dot, matrix products, einsum."""

import math

import keras
import numpy as np

from tf_terngrad.keras_internals import operation
from tf_terngrad.sparsity.rules.base import Frozen, Rule
from tf_terngrad.sparsity.rules.equation import Equation
from tf_terngrad.sparsity.rules.registry import register_rule
from tf_terngrad.sparsity.rules.selection import agree, are_all_tensors


class Contraction(Rule):
    """sum_i x[..., i] * y[..., i]: the channels of both leave together, where the product is zero.

    Use it when a layer of your own multiplies two tensors and sums over an axis.
    """

    def follow(self, call):
        if len(call.inputs) < 2 or min(len(edge.shape) for edge in call.inputs) < 2:
            self._with_constant(call)
            return
        summed = [axis % len(edge.shape) for axis, edge in zip(self.summed(call.layer), call.inputs, strict=True)]
        a, b = (edge.axes[axis] for edge, axis in zip(call.inputs, summed, strict=True))
        if a is not None and b is not None:
            call.graph.units.tie(a.units, b.units)
            call.contract(a.with_values(self.product(call.layer, a.values, b.values)))
        else:
            call.freeze_axis(a, "summed with a tensor that cannot shrink")
            call.freeze_axis(b, "summed with a tensor that cannot shrink")
        nothing = any(edge.is_zero for edge in call.inputs)
        for axis, channels in self.remaining(call, summed):
            zero = channels and (channels.with_values(0.0) if nothing else channels.zero_or_unknown())
            call.output.axes[axis] = zero

    def _with_constant(self, call):
        """Of a product with a constant matrix on the left, as with a graph's neighbours, the last axis goes through."""
        edge = call.inputs[0]
        on_the_left = len(call.inputs) == 1 and isinstance(call.layer, operation("Matmul")) and edge is call.args[-1]
        through = edge.axes[-1] if on_the_left and len(edge.shape) == len(call.output.shape) > 1 else None
        for channels in edge.axes if through is None else edge.axes[:-1]:
            call.freeze_axis(channels, "multiplied with a constant array, or with a vector")
        call.freeze(call.inputs[1:], "multiplied with a constant array, or with a vector")
        call.output.axes[-1] = through and through.zero_or_unknown()

    def summed(self, layer):
        """The axis of each input that is summed."""
        return -1, -2

    def product(self, layer, first, second):
        """Zero for channels that add nothing."""
        return np.where((first == 0) | (second == 0), 0.0, np.nan)

    def remaining(self, call, summed):
        """(output axis, channels) of what is not summed; the axes in front are those of both, such as heads."""
        (first, second), rank = call.inputs, len(call.output.shape)
        in_front = [(rank - back, self._in_front(call, back)) for back in range(3, rank + 1)]
        return [*in_front, (rank - 2, first.axes[-2]), (rank - 1, second.axes[-1])]

    def _in_front(self, call, back):
        """The channels of an axis along which there is a matrix product for each position."""
        there, parts = [edge for edge in call.inputs if len(edge.shape) >= back], []
        for edge in there:
            if edge.shape[-back] == call.output.shape[-back]:
                parts.append(edge.axes[-back])
            else:
                call.freeze_axis(edge.axes[-back], "one matrix is broadcast over many")
        channels = agree(call, parts)
        call.graph.grids.cross(channels)
        return channels and channels.with_values(_zero_in_any(parts))

    def multiply_adds(self, layer, output, x1, x2):
        return math.prod(output.shape) * x1.shape[-1]


class Dot(Contraction):
    """The Dot layer: any axes, and cosine similarity, whose norms a channel only leaves alone if it is zero in both."""

    def summed(self, layer):
        return (layer.axes, layer.axes) if isinstance(layer.axes, int) else layer.axes

    def product(self, layer, first, second):
        if layer.normalize:
            return np.where((first == 0) & (second == 0), 0.0, np.nan)
        return super().product(layer, first, second)

    def remaining(self, call, summed):
        rest = [
            channels
            for edge, gone in zip(call.inputs, summed, strict=True)
            for axis, channels in enumerate(edge.axes)
            if axis not in (0, gone)
        ]
        return enumerate(rest, 1)

    def multiply_adds(self, layer, output, inputs):
        return math.prod(output.shape) * inputs[0].shape[self.summed(layer)[0]]


class InnerProduct(Frozen):
    """A sum over the last axis of the first tensor; not followed."""

    def multiply_adds(self, layer, output, x1, x2):
        return math.prod(output.shape) * x1.shape[-1]


class Tensordot(Frozen):
    """A sum over axes that its argument names; not followed."""

    def multiply_adds(self, layer, output, x1, x2):
        if isinstance(layer.axes, int):
            return math.prod(output.shape) * math.prod(x1.shape[len(x1.shape) - layer.axes :])
        summed = np.atleast_1d(layer.axes[0])
        return math.prod(output.shape) * math.prod(x1.shape[axis] for axis in summed)


class Einsum(Rule):
    """Any equation between tensors: a letter is one width in all of them; channels are summed where it is left out."""

    def follow(self, call):
        equation = _spelled(call)
        if equation is None:
            call.freeze(call.inputs, "its equation repeats a letter, leaves the result open, or takes a constant array")
            return
        for letter in dict.fromkeys("".join(equation.operands)):
            channels = self._meet(call, equation, letter)
            if channels is None:
                continue
            if letter in equation.result:
                if len(equation.operands) > 1:
                    call.graph.grids.cross(channels, is_head=all(letter in term for term in equation.operands))
                call.output.axes[equation.result.index(letter)] = channels
            else:
                call.contract(channels)

    def _meet(self, call, equation, letter):
        """The channels of a letter, tied wherever it stands; zero where one of them is zero."""
        axes = [(edge, term.index(letter)) for edge, term in self._terms(call, equation) if letter in term]
        parts = [edge.axes[axis] for edge, axis in axes]
        if len({edge.shape[axis] for edge, axis in axes}) > 1:
            for channels in parts:
                call.freeze_axis(channels, "one channel is broadcast over many")
            return None
        channels = agree(call, parts)
        if channels is None:
            return None
        moves_only = len(call.inputs) == 1 and len(equation.result) == len(equation.operands[0])
        return channels if moves_only else channels.with_values(_zero_in_any(parts))

    def _terms(self, call, equation):
        return zip(call.inputs, equation.operands, strict=True)

    def multiply_adds(self, layer, output, *tensors):
        return Equation.parse(layer.subscripts).multiply_adds(*(tensor.shape for tensor in tensors))


def _zero_in_any(parts):
    """Zero where a product has a factor of zero."""
    return np.where((np.stack([part.values for part in parts if part is not None]) == 0).any(0), 0.0, np.nan)


def _spelled(call):
    """The equation with a letter for each axis; None where one stands twice in a term, or not all are tensors."""
    equation, ranks = Equation.parse(call.layer.subscripts), [len(edge.shape) for edge in call.inputs]
    if not are_all_tensors(call) or "->" not in call.layer.subscripts:
        return None
    spelled = equation.spelled(ranks, len(call.output.shape))
    terms = (*spelled.operands, spelled.result)
    return spelled if all(len({*term}) == len(term) for term in terms) else None


register_rule(keras.layers.Dot, Dot())
register_rule(operation("Matmul"), Contraction())
for _type in (operation("Dot"), operation("Inner")):
    register_rule(_type, InnerProduct("sums of products are followed in matmul and einsum"))
register_rule(operation("Tensordot"), Tensordot("sums of products are followed in matmul and einsum"))
register_rule(operation("Einsum"), Einsum())
