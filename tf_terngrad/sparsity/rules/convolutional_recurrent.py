"""Convolutional recurrent layers: an LSTM whose matrices are convolutions, in one, two and three dimensions."""

import math

import numpy as np

from tf_terngrad.keras_internals import ConvLSTMCell, layers
from tf_terngrad.sparsity.graph.values import any_above
from tf_terngrad.sparsity.rules.cells import GatedCell
from tf_terngrad.sparsity.rules.convolution import keeps_constants
from tf_terngrad.sparsity.rules.recurrent import Recurrent
from tf_terngrad.sparsity.rules.registry import register_rule


class ConvolutionalCell(GatedCell):
    """Kernel (*taps, in, gates * filters), recurrent kernel (*taps, filters, gates * filters).

    The state is padded at its borders, so of what enters the recurrent convolution only zero is a constant.
    """

    def width(self, cell):
        return cell.filters

    def read(self, call, cell, kernel, channels, columns, foldable):
        call.label(kernel, -2, channels and channels.units, "kernel")
        foldable = foldable and keeps_constants(cell)
        return call.read(kernel, -2, channels, lambda: _matrix(call.graph.value(kernel)), (columns,), foldable, None)

    def heard(self, graph, kernel):
        return any_above(_matrix(graph.value(kernel)), graph.tolerance)

    def cell_config(self, call, cell, kept):
        return {**cell.get_config(), "filters": call.width(cell.recurrent_kernel, -2, kept)}


class ConvolutionalLSTM(Recurrent):
    """A convolutional cell at every step; its channels can leave, its pixels stay."""

    kind = "filter"

    def channel_axis(self, layer):
        return -1 if layer.data_format == "channels_last" else -1 - layer.cell.rank

    def state_count(self, layer):
        return 2

    def config(self, call, kept):
        if self.why_frozen(call.layer):
            return call.layer.get_config()
        return {**call.layer.get_config(), "filters": call.width(call.layer.cell.recurrent_kernel, -2, kept)}

    def multiply_adds(self, layer, output, sequence, *args, **kwargs):
        cell, rank = layer.cell, layer.cell.rank
        positions = output.shape[-rank:] if layer.data_format == "channels_first" else output.shape[-rank - 1 : -1]
        kernels = math.prod(cell.kernel.shape) + math.prod(cell.recurrent_kernel.shape)
        return math.prod(sequence.shape[:2]) * math.prod(positions) * kernels


def _matrix(kernel):
    """A kernel as (in, out, taps)."""
    return np.moveaxis(kernel, (-2, -1), (0, 1)).reshape(*kernel.shape[-2:], -1)


register_rule(ConvLSTMCell, ConvolutionalCell(gates=4, candidate=2, states=2))
for _type in layers("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"):
    register_rule(_type, ConvolutionalLSTM())
