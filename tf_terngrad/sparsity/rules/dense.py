"""Dense, EinsumDense, Embedding and its reverse: matrices between the last axes."""

import math

import keras
import numpy as np

from tf_terngrad.keras_internals import layers
from tf_terngrad.sparsity.graph.channels import Channels
from tf_terngrad.sparsity.rules.activation import activate
from tf_terngrad.sparsity.rules.axes import BIAS, PLAIN, Axes
from tf_terngrad.sparsity.rules.base import Rule
from tf_terngrad.sparsity.rules.equation import Equation
from tf_terngrad.sparsity.rules.registry import register_rule
from tf_terngrad.sparsity.rules.vectors import keep_columns


class Dense(Rule):
    """y[..., o] = f(sum_i x[..., i] * kernel[i, o] + bias[o]).

    Use it when a layer of your own is a matrix product, with or without a bias.
    """

    def axes(self, layer):
        return {"kernel": PLAIN, "bias": BIAS}

    def follow(self, call):
        layer, edge, graph = call.layer, call.inputs[0], call.graph
        entering = edge.axes[-1]
        units = graph.born(layer.kernel, -1, layer.units)
        call.label(layer.kernel, -1, units, "kernel", produced=True)
        call.label(layer.bias, 0, units, "bias")
        values = call.matmul(layer.kernel, entering, units, True, layer.bias)
        call.output.axes = [c and c.unknown() for c in edge.axes[:-1]] + [Channels(units, values)]
        activate(call, layer.activation)

    def config(self, call, kept):
        return {**call.layer.get_config(), "units": kept.width(call.output.axes[-1])}

    def multiply_adds(self, layer, output, inputs):
        return math.prod(output.shape) * inputs.shape[-1]


class Embedding(Rule):
    """y[..., o] = embeddings[token, o]: the dimensions can leave, the vocabulary stays."""

    def axes(self, layer):
        return {"embeddings": PLAIN}

    def follow(self, call):
        layer, graph = call.layer, call.graph
        units = graph.born(layer.embeddings, -1, layer.output_dim)
        call.label(layer.embeddings, -1, units, "kernel", produced=True)
        values = np.full(len(units), np.nan)
        if graph.tolerance is not None:
            values[(np.abs(graph.value(layer.embeddings)) <= graph.tolerance).all(0)] = 0.0
        call.output.axes[-1] = Channels(units, values)

    def config(self, call, kept):
        return {**call.layer.get_config(), "output_dim": call.width(call.layer.embeddings, -1, kept)}

    def multiply_adds(self, layer, output, inputs, **kwargs):
        return 0


class ReversibleEmbedding(Embedding):
    """An embedding, and in reverse y[..., token] = sum_o x[..., o] * embeddings[token, o], or another matrix's."""

    def axes(self, layer):
        return {"embeddings": PLAIN, "reverse_embeddings": Axes(inputs=(-2,))}  # its outputs are words

    def follow(self, call):
        layer, graph, entering = call.layer, call.graph, call.inputs[0].axes[-1] if call.inputs[0].axes else None
        matrix, axis = (layer.embeddings, 1) if layer.tie_weights else (layer.reverse_embeddings, 0)
        for table, along in ((layer.embeddings, 1), (matrix, axis)):  # one width serves both
            call.label(table, along, graph.born(layer.embeddings, 1, layer.output_dim), "kernel")
        if not call.kwargs.get("reverse", False):
            super().follow(call)
            return
        call.label(matrix, axis, entering and entering.units, "kernel")
        words = graph.frozen_channels(layer.input_dim, f"{call.path}: the vocabulary stays")

        def kernel():
            return np.moveaxis(graph.value(matrix), axis, 0)[..., None]

        call.read(matrix, axis, entering, kernel, (words.units,), False, None)
        call.output.axes = [c and c.unknown() for c in call.inputs[0].axes[:-1]] + [words]

    def multiply_adds(self, layer, output, inputs, reverse=False):
        return math.prod(output.shape) * inputs.shape[-1] if reverse else 0


class EinsumDense(Rule):
    """An equation between the input's, the kernel's and the output's letters; each letter is an axis."""

    def axes(self, layer):
        equation = Equation.parse(layer.equation).named
        (inputs, kernel), result = equation.operands, equation.result
        emitted = [letter for letter in result if letter in kernel]
        read = tuple(axis for axis, letter in enumerate(kernel) if letter in inputs)
        axes = {"kernel": Axes(tuple(map(kernel.index, emitted)), read), "bias": Axes()}
        if layer.bias_axes and set(emitted) <= set(layer.bias_axes):
            first = min(map(result.index, layer.bias_axes))
            axes["bias"] = Axes(tuple(result.index(letter) - first for letter in emitted))
        return axes

    def follow(self, call):
        source, letters, target = _equation(call)
        reason = self._in_the_way(call)
        if reason:
            call.freeze(call.inputs, reason)
            return
        edge, layer = call.inputs[0], call.layer
        axes = {letter: edge.axes[source.index(letter)] for letter in source}
        for position, letter in enumerate(letters):
            if letter not in source:
                units = call.graph.born(layer.kernel, position, layer.kernel.shape[position])
                call.label(layer.kernel, position, units, "kernel", produced=True)
                axes[letter] = Channels.of(units)
            elif axes[letter] is not None:
                call.label(layer.kernel, position, axes[letter].units, "kernel")
        for letter in {*source, *letters} - {*target}:
            if letter not in letters:
                call.contract(axes[letter])
            elif letter not in source:
                call.freeze_axis(axes[letter], "summed over by its equation")
        values = self._read(call, source, letters, target, axes)
        for letter, size in zip(target, call.output.shape, strict=True):
            if axes[letter] is not None and len(axes[letter]) != size:  # Keras swaps the axes behind an ellipsis
                call.freeze_axis(axes[letter], "Keras takes its output for one of another shape")
                axes[letter] = None
        call.output.axes = [axes[letter] and axes[letter].unknown() for letter in target]
        for letter in {*letters} & {*target} - {*source} - {*values}:
            values[letter] = self._zeros(call, letters.index(letter), target.index(letter) - len(target))
        for letter, emitted in values.items():
            call.output.axes[target.index(letter)] = axes[letter].with_values(emitted)
        self._label_bias(call)
        activate(call, layer.activation)

    def _in_the_way(self, call):
        """Why its equation cannot be followed; None: it can."""
        source, letters, target = _equation(call)
        if len({*source}) < len(source) or len({*letters}) < len(letters) or len({*target}) < len(target):
            return "a letter stands twice in its equation"
        if len(target) != len(call.output.shape) or {*target} - {*source, *letters}:  # of which Keras says nothing
            return "its output_shape has more sizes than its equation has letters: leave out those of the ellipsis"
        return None

    def _read(self, call, source, letters, target, axes):
        """Read every summed axis; by output letter what it emits, for a plain matrix."""
        layer, values = call.layer, {}
        born = [letter for letter in letters if letter not in source]
        plain = self._plain_letter(call)
        grid = np.meshgrid(*(axes[letter].units for letter in born), indexing="ij") if born else ()
        for letter in letters:
            if letter not in source or letter in target:
                continue
            axis, others = letters.index(letter), [letters.index(other) for other in born]

            def kernel(axis=axis, others=others):
                array = np.moveaxis(call.graph.value(layer.kernel), [axis, *others], range(1 + len(others)))
                return array.reshape(array.shape[0], int(np.prod(array.shape[1 : 1 + len(others)])), -1)

            bias = layer.bias if plain else None
            columns = tuple(units.ravel() for units in grid)
            emitted = call.read(layer.kernel, axis, axes[letter], kernel, columns, plain is not None, bias)
            if plain:
                values[plain] = emitted
        return values

    def _zeros(self, call, axis, back):
        """Zero for each position of an axis of the kernel, `back` in the output, whose weights are all zero."""
        graph, layer = call.graph, call.layer
        if graph.tolerance is None:
            return np.full(layer.kernel.shape[axis], np.nan)
        weights = [np.moveaxis(graph.value(layer.kernel), axis, 0)]
        if layer.bias is not None:
            bias = graph.value(layer.bias)
            weights.append(np.moveaxis(bias, back, 0) if bias.ndim >= -back else bias[None])
        small = [(np.abs(each) <= graph.tolerance).reshape(len(each), -1).all(1) for each in weights]
        return np.where(np.logical_and(*small) if len(small) > 1 else small[0], 0.0, np.nan)

    def _plain_letter(self, call):
        """The output's letter, where the kernel is a plain matrix and the bias, if any, lies along its columns."""
        source, letters, target = _equation(call)
        born = [letter for letter in letters if letter not in source]
        if len(letters) != 2 or len(born) != 1 or born[0] not in target or set(letters) <= set(target):
            return None
        return None if call.layer.bias is not None and call.layer.bias_axes != born[0] else born[0]

    def _label_bias(self, call):
        bias = call.layer.bias
        for back in range(1, len(bias.shape) + 1 if bias is not None else 0):
            channels = call.output.axes[-back]
            if channels is None:
                continue
            if bias.shape[-back] == len(channels):
                call.label(bias, -back, channels.units, "bias")
        if bias is not None and id(bias) in call.graph.weights:
            keep_columns(call, bias, call.output.shape)

    def config(self, call, kept):
        layer, axes = call.layer, call.output.axes
        given = layer.partial_output_shape
        axes = axes[-len(given) :] if layer.equation.startswith("...") else axes[1 : 1 + len(given)]
        shape = [size if c is None else kept.width(c) for size, c in zip(given, axes, strict=True)]
        return {**layer.get_config(), "output_shape": shape}

    def with_bias(self, call, config):
        return {**config, "bias_axes": self._plain_letter(call)}

    def multiply_adds(self, layer, output, inputs):
        return Equation.parse(layer.equation).multiply_adds(inputs.shape, layer.kernel.shape)


def _equation(call):
    """The letters of the input, the kernel and the output, one for each axis."""
    equation = Equation.parse(call.layer.equation)
    ranks = len(call.inputs[0].shape), len(call.layer.kernel.shape)
    spelled = equation.spelled(ranks, len(call.output.shape))
    return *spelled.operands, spelled.result


register_rule(keras.layers.Dense, Dense())
register_rule(keras.layers.Embedding, Embedding())
for _type in layers("ReversibleEmbedding"):
    register_rule(_type, ReversibleEmbedding())
register_rule(keras.layers.EinsumDense, EinsumDense())
