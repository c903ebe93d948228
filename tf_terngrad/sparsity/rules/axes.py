"""Which axes of a layer's weight count its outputs, and which its inputs."""

import dataclasses

import keras


@dataclasses.dataclass(frozen=True)
class Layout:
    """The axes of one weight that index a layer's outputs and inputs; the others are places in a kernel.

    An axis in both, as the channel axis of a depthwise kernel, leads each input to its own outputs.

    Args:
        outputs: Axes that index the outputs, in the order in which the layer emits them.
        inputs: Axes that index the inputs.
        inner: Whether the outputs stay inside the layer, as those of a separable convolution's depthwise kernel.
    """

    outputs: tuple
    inputs: tuple = ()
    inner: bool = False

    def places(self, rank):
        """The axes that are neither outputs nor inputs, of a weight with `rank` axes."""
        known = {axis % rank for axis in self.outputs + self.inputs}
        return tuple(axis for axis in range(rank) if axis not in known)


PLAIN = Layout(outputs=(-1,), inputs=(-2,))
BIAS = Layout(outputs=(-1,))
TRANSPOSED = Layout(outputs=(-2,), inputs=(-1,))
DEPTHWISE = Layout(outputs=(-2, -1), inputs=(-2,))
INNER_DEPTHWISE = dataclasses.replace(DEPTHWISE, inner=True)

_plain = {"kernel": PLAIN, "bias": BIAS}
_transposed = {"kernel": TRANSPOSED, "bias": BIAS}
_depthwise = {"kernel": DEPTHWISE, "bias": BIAS}
_separable = {"depthwise_kernel": INNER_DEPTHWISE, "pointwise_kernel": PLAIN, "bias": BIAS}


def _einsum_layouts(layer):
    """Layouts of an `EinsumDense`, read from its equation, as in `"abc,cde->abde"`."""
    operands, result = layer.equation.replace(".", "").replace(" ", "").split("->")
    inputs, kernel = operands.split(",")
    emitted = [letter for letter in result if letter in kernel]
    layouts = {
        "kernel": Layout(
            outputs=tuple(kernel.index(letter) for letter in emitted),
            inputs=tuple(axis for axis, letter in enumerate(kernel) if letter in inputs),
        )
    }
    if layer.bias_axes and set(emitted) <= set(layer.bias_axes):
        first = min(result.index(letter) for letter in layer.bias_axes)
        layouts["bias"] = Layout(outputs=tuple(result.index(letter) - first for letter in emitted))
    return layouts


# A layer type's layouts by weight name, or a function from the layer to them.
_LAYOUTS = {
    keras.layers.Dense: _plain,
    keras.layers.EinsumDense: _einsum_layouts,
    keras.layers.Embedding: {"embeddings": PLAIN},
    keras.layers.Conv1D: _plain,
    keras.layers.Conv2D: _plain,
    keras.layers.Conv3D: _plain,
    keras.layers.Conv1DTranspose: _transposed,
    keras.layers.Conv2DTranspose: _transposed,
    keras.layers.Conv3DTranspose: _transposed,
    keras.layers.DepthwiseConv1D: _depthwise,
    keras.layers.DepthwiseConv2D: _depthwise,
    keras.layers.SeparableConv1D: _separable,
    keras.layers.SeparableConv2D: _separable,
}


def supported_layers():
    """Names of the layer types whose layouts are known."""
    return sorted(kind.__name__ for kind in _LAYOUTS)


def weight_layouts(layer):
    """Layouts of a layer's weights by weight name, or `None` for a layer of unknown type.

    Args:
        layer: A Keras layer; a subclass has its parent's layouts.

    >>> weight_layouts(keras.layers.Conv2DTranspose(8, 3))["kernel"]
    Layout(outputs=(-2,), inputs=(-1,), inner=False)
    """
    kind = next((kind for kind in type(layer).__mro__ if kind in _LAYOUTS), None)
    layouts = _LAYOUTS.get(kind)
    return layouts(layer) if callable(layouts) else layouts
