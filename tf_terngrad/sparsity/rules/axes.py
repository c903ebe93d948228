"""The words for a weight's axes: which of them count a layer's outputs, which its inputs.

A rule says them for its layers, in `axes(layer)`; nothing here knows a layer type.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Axes:
    """The axes of one weight that index a layer's outputs and inputs; the others are places in a kernel.

    An axis in both, as the channel axis of a depthwise kernel, leads each input to its own outputs.

    Use it when a rule of your own says which way the weights of its layer lie, for regularizers and reports.

    Args:
        outputs: axes that index the outputs, in the order in which the layer emits them.
        inputs: axes that index the inputs.
        inner: whether the outputs stay inside the layer, as those of a separable convolution's depthwise kernel.

    >>> Axes(outputs=(-1,), inputs=(-2,)).places(4)  # a kernel (height, width, inputs, outputs)
    (0, 1)
    """

    outputs: tuple = ()
    inputs: tuple = ()
    inner: bool = False

    def places(self, rank):
        """The axes that are neither outputs nor inputs, of a weight with `rank` axes."""
        known = {axis % rank for axis in self.outputs + self.inputs}
        return tuple(axis for axis in range(rank) if axis not in known)

    @property
    def makes_outputs(self):
        """Whether the weight makes outputs of the layer, and does not just scale or shift what passes through."""
        return bool(self.outputs) and not self.inner and self.outputs != self.inputs


PLAIN = Axes(outputs=(-1,), inputs=(-2,))
BIAS = Axes(outputs=(-1,))
TRANSPOSED = Axes(outputs=(-2,), inputs=(-1,))
DEPTHWISE = Axes(outputs=(-2, -1), inputs=(-2,))
EACH = Axes(outputs=(-1,), inputs=(-1,))
"""A number for each channel that passes."""


def inside(axes):
    """The same axes, of a weight whose outputs stay inside the layer."""
    return dataclasses.replace(axes, inner=True)
