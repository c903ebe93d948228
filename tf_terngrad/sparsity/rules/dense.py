"""Dense, EinsumDense and Embedding: matrices between the last axes."""

import keras
import numpy as np

from tf_terngrad.sparsity.channels import Channels, Reading
from tf_terngrad.sparsity.rules.base import Rule, register_rule
from tf_terngrad.sparsity.rules.elementwise import activate


class Dense(Rule):
    """y[..., o] = f(sum_i x[..., i] * kernel[i, o] + bias[o])."""

    def follow(self, call):
        layer, edge, graph = call.layer, call.inputs[0], call.graph
        entering = edge.axes[-1]
        units = graph.born(layer.kernel, -1, layer.units)
        call.label(layer.kernel, -1, units, "kernel", produced=True)
        call.label(layer.bias, 0, units, "bias")
        call.label(layer.kernel, 0, entering and entering.units, "kernel")
        values = call.read(
            layer.kernel, 0, entering, lambda: graph.value(layer.kernel)[..., None], (units,), True, layer.bias
        )
        call.output.axes = [c and c.unknown() for c in edge.axes[:-1]] + [Channels(units, values)]
        activate(call, layer.activation)

    def config(self, call, kept):
        return {**call.layer.get_config(), "units": kept.width(call.output.axes[-1])}


class Embedding(Rule):
    """y[..., o] = embeddings[token, o]: the dimensions can leave, the vocabulary stays."""

    def follow(self, call):
        layer, graph = call.layer, call.graph
        units = graph.born(layer.embeddings, -1, layer.output_dim)
        call.label(layer.embeddings, -1, units, "kernel", produced=True)
        values = np.full(len(units), np.nan)
        if graph.tolerance is not None:
            values[(np.abs(graph.value(layer.embeddings)) <= graph.tolerance).all(0)] = 0.0
        call.output.axes[-1] = Channels(units, values)

    def config(self, call, kept):
        return {**call.layer.get_config(), "output_dim": kept.width(call.output.axes[-1])}


class EinsumDense(Rule):
    """An equation between the input's, the kernel's and the output's letters; each letter is an axis."""

    def follow(self, call):
        layer, edge = call.layer, call.inputs[0]
        source, letters, target = _letters(layer.equation, len(edge.shape), len(call.output.shape))
        leaving = {letter: edge.axes[source.index(letter)] for letter in source}
        for position, letter in enumerate(letters):
            if letter not in source:
                units = call.graph.born(layer.kernel, position, layer.kernel.shape[position])
                call.label(layer.kernel, position, units, "kernel", produced=True)
                leaving[letter] = Channels.of(units)
            elif leaving[letter] is not None:
                call.label(layer.kernel, position, leaving[letter].units, "kernel")
        born = [letter for letter in letters if letter not in source]
        summed = [letter for letter in letters if letter not in target]
        for letter in (letter for letter in source if letter not in target and letter not in letters):
            call.contract(leaving[letter])
        values = self._read(call, letters, born, summed, leaving)
        for position, letter in enumerate(target):
            channels = leaving[letter]
            call.output.axes[position] = channels and channels.unknown()
        if len(born) == 1:
            axis = target.index(born[0])
            call.output.axes[axis] = call.output.axes[axis].with_values(values)
        self._label_bias(call, target)
        activate(call, layer.activation)

    def _read(self, call, letters, born, summed, leaving):
        """Read every summed axis; what the only produced axis emits, if there is only one of each."""
        layer = call.layer
        simple = len(born) == len(summed) == 1 and len(letters) == 2
        plain_bias = layer.bias is None or layer.bias.shape == (layer.kernel.shape[letters.index((born or " ")[0])],)
        columns = [leaving[letter].units for letter in born]
        values = np.nan
        for letter in summed:
            axis = letters.index(letter)
            others = [letters.index(other) for other in born]

            def kernel(axis=axis, others=others):
                array = np.moveaxis(call.graph.value(layer.kernel), [axis, *others], range(1 + len(others)))
                return array.reshape(array.shape[0], int(np.prod(array.shape[1 : 1 + len(others)])), -1)

            grid = [g.ravel() for g in np.meshgrid(*columns, indexing="ij")] if columns else []
            foldable = simple and plain_bias and layer.bias is not None
            emitted = call.read(layer.kernel, axis, leaving[letter], kernel, tuple(grid), foldable, None)
            if simple and plain_bias:
                values = emitted if layer.bias is None else emitted + call.graph.value(layer.bias)
        return values

    def _label_bias(self, call, target):
        bias = call.layer.bias
        for back in range(1, len(bias.shape) + 1 if bias is not None else 0):
            channels = call.output.axes[len(target) - back]
            if channels is not None and bias.shape[-back] == len(channels):
                call.label(bias, -back, channels.units, "bias")

    def config(self, call, kept):
        shape = [
            size if channels is None else kept.width(channels)
            for size, channels in zip(call.output.shape[1:], call.output.axes[1:], strict=True)
        ]
        return {**call.layer.get_config(), "output_shape": shape}


def _letters(equation, input_rank, output_rank):
    """The letters of an equation, an ellipsis spelt out as capitals from the right."""
    inputs, target = equation.replace(" ", "").split("->")
    source, kernel = inputs.split(",")
    hidden = [chr(ord("A") + i) for i in range(max(input_rank, output_rank))]

    def spell(letters, rank):
        missing = rank - len(letters.replace("...", ""))
        return letters.replace("...", "".join(hidden[len(hidden) - missing :]) if missing else "")

    return spell(source, input_rank), kernel, spell(target, output_rank)


register_rule(keras.layers.Dense, Dense())
register_rule(keras.layers.Embedding, Embedding())
register_rule(keras.layers.EinsumDense, EinsumDense())
