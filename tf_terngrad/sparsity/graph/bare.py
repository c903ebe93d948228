"""Weights that a layer uses with bare operations, such as `x * self.scale` or `ops.matmul(x, self.kernel)`.

A product with a matrix or a kernel stands in the opened graph as the stock layer that computes it, and holds the
user's variable. Any other weight stands there as a tensor that `BareWeight` gives, which an Embedding keeps in a
smaller model.
"""

import dataclasses
import string

import keras
import numpy as np
from keras import tree

from tf_terngrad.keras_internals import add_call, mask_of, named, nodes, operation, with_bias, with_kernel
from tf_terngrad.sparsity.graph.trace import Constant, free_name
from tf_terngrad.sparsity.rules.bare import BareWeight
from tf_terngrad.sparsity.rules.equation import Equation


@dataclasses.dataclass
class _Weight:
    """A variable, seen with more axes of size one if `shape` says so."""

    variable: keras.Variable
    shape: tuple


class BareWeights:
    """Puts the weights and the constants of one trace into its copy.

    Args:
        layer: the layer that was traced.
        seen: the `Trace`.
        sources: makes the constants of the copy.

    Attributes:
        values: what stands for the trace's inputs that are weights.
    """

    def __init__(self, layer, seen, sources):
        self._policy, self._trainable = layer.dtype_policy, layer.trainable
        self._sources = sources
        self._tensors = {}
        self._biasless = {}  # by id of the tensor that it gives, a stock layer that can take a bias
        self._readers = _readers(seen.graph)
        self._names = {each.name for each in seen.graph.operations}
        self.values = [_Weight(variable, tuple(variable.shape)) for variable in seen.weights]

    def call(self, node, args, kwargs, outputs):
        """The outputs of a call that is a stock layer's with a weight, or None; `outputs`: new ones for it."""
        given = tree.flatten((args, kwargs))
        kind = tuple(isinstance(value, _Weight) for value in given)
        if kind == (True,):
            return _same(given[0], node)
        if kind == (True, False) and isinstance(node.operation, operation("Add")):
            given, kind = given[::-1], (False, True)
        make = _STOCK.get(type(node.operation)) if kind == (False, True) else None
        if make is None or not isinstance(given[0], keras.KerasTensor):
            return None
        return self._biased(*given) if make is _bias else self._product(make, node, outputs, *given)

    def tensors(self, values):
        """A structure of values, with symbolic tensors in place of weights and constants."""
        return tree.map_structure(self._tensor, values)

    def _tensor(self, value):
        if not isinstance(value, (_Weight, Constant)):
            return value
        if id(value) not in self._tensors:
            self._tensors[id(value)] = value, self._made(value)
        return self._tensors[id(value)][1]

    def _made(self, value):
        if isinstance(value, Constant):
            return self._sources.constant(value.array, value.batched)
        variable = value.variable
        if "float" not in variable.dtype:  # places, numbers or truth values: these do not train, and a table has none
            return self._sources.constant(variable.numpy().reshape(value.shape))
        layer = BareWeight(variable, name=self._name(variable), dtype=self._policy)
        index = self._sources.constant(np.zeros((), np.int32))
        (tensor,) = add_call(layer, (index,), {}, [keras.KerasTensor(variable.shape, self._policy.compute_dtype)])
        same = value.shape == tuple(variable.shape)
        return tensor if same else named(operation("Reshape")(value.shape), f"{layer.name}_axes")(tensor)

    def _name(self, variable):
        """The variable's name, with a number if the graph has another part of that name."""
        name = free_name(variable.name, self._names)
        self._names.add(name)
        return name

    def _product(self, make, node, outputs, tensor, weight):
        """The output of a stock layer that holds a weight as its kernel."""
        # Keras's layers hand masks on, operations do not.
        if weight.shape != tuple(weight.variable.shape) or mask_of(tensor) is not None:
            return None
        options = {"name": self._name(weight.variable), "dtype": self._policy, "trainable": self._trainable}
        layer = make(node, tensor, weight.shape, options)
        if layer is None:
            return None
        with_kernel(layer, weight.variable)
        (output,) = add_call(layer, (tensor,), {}, outputs)
        if self._readers[id(node.output_tensors[0])] == 1 and hasattr(layer, "use_bias"):
            self._biasless[id(output)] = output, layer
        return [output]

    def _biased(self, tensor, weight):
        """The output of such a layer again, once the vector that is added is its bias."""
        vector = weight.variable.shape == (tensor.shape[-1],) == weight.shape[-1:]
        if not vector or id(tensor) not in self._biasless:
            return None
        _, layer = self._biasless.pop(id(tensor))
        with_bias(layer, weight.variable)
        return [tensor]


def _bias():
    """Stands for the sum with a bias among the operations of stock layers."""


def _dense(node, tensor, shape, options):
    if len(shape) != 2 or len(tensor.shape) < 2:
        return None
    return keras.layers.Dense(shape[1], use_bias=False, **options)


def _tensordot(node, tensor, shape, options):
    axes = node.operation.axes
    if isinstance(axes, int):
        axes = range(-axes, 0), range(axes)
    ours, theirs = (
        [axis % rank for axis in np.ravel(one)] for one, rank in zip(axes, map(len, (tensor.shape, shape)), strict=True)
    )
    if ours == [len(tensor.shape) - 1] and theirs == [0] and len(shape) == 2:
        return _dense(node, tensor, shape, options)
    letters = iter(string.ascii_letters)
    source = [next(letters) for _ in tensor.shape]
    kernel = [source[ours[theirs.index(axis)]] if axis in theirs else next(letters) for axis in range(len(shape))]
    result = [letter for letter in (*source, *kernel) if (letter in source) != (letter in kernel)]
    return _by_equation(Equation(("".join(source), "".join(kernel)), "".join(result)), node, tensor, shape, options)


def _einsum(node, tensor, shape, options):
    return _by_equation(Equation.parse(node.operation.subscripts), node, tensor, shape, options)


def _by_equation(equation, node, tensor, shape, options):
    """EinsumDense takes few equations with an ellipsis, so each axis gets a letter; the batch is to stand in front."""
    ranks = (len(tensor.shape), len(shape)), len(node.output_tensors[0].shape)
    spelled = equation.spelled(*ranks)
    (source, kernel), result = spelled.operands, spelled.result
    sizes, inner = dict(zip(source, tensor.shape, strict=True)), dict(zip(kernel, shape, strict=True))
    one_batch = source[:1] == result[:1] and source[:1] not in inner
    broadcast = any(sizes.get(letter, size) != size for letter, size in inner.items())
    if not one_batch or broadcast or not {*result} <= {*source, *kernel} or not {*kernel} <= {*source, *result}:
        return None
    return keras.layers.EinsumDense(
        f"{source},{kernel}->{result}", [(sizes | inner)[one] for one in result[1:]], **options
    )


def _convolution(node, tensor, shape, options):
    kind = getattr(keras.layers, f"Conv{len(shape) - 2}D")
    return kind(shape[-1], shape[:-2], groups=_inputs(node, tensor) // shape[-2], **_moving(node), **options)


def _depthwise(node, tensor, shape, options):
    kind = getattr(keras.layers, f"DepthwiseConv{len(shape) - 2}D")
    return kind(shape[:-2], depth_multiplier=shape[-1], **_moving(node), **options)


def _inputs(node, tensor):
    return tensor.shape[1 if node.operation.data_format == "channels_first" else -1]


def _moving(node):
    """How a convolution moves, as its layer takes it."""
    names = ("strides", "padding", "data_format", "dilation_rate")
    return {"use_bias": False, **{name: getattr(node.operation, name) for name in names}}


_RESHAPING = tuple(map(operation, ("ConvertToTensor", "ExpandDims", "Reshape", "Squeeze")))
_STOCK = {
    operation("Matmul"): _dense,
    operation("Dot"): _dense,
    operation("Tensordot"): _tensordot,
    operation("Einsum"): _einsum,
    operation("Conv"): _convolution,
    operation("DepthwiseConv"): _depthwise,
    operation("Add"): _bias,
}


def _same(weight, node):
    """A weight with other axes of size one in front; None: the call makes another thing of it."""
    output = node.output_tensors[0]
    if not isinstance(node.operation, _RESHAPING) or output.shape[-1:] != weight.shape[-1:]:
        return None
    same = [size for size in output.shape if size != 1] == [size for size in weight.shape if size != 1]
    return [_Weight(weight.variable, tuple(output.shape))] if same else None


def _readers(graph):
    """How many calls, or outputs of the graph, read each tensor."""
    counts = {}
    for tensor in [*graph.outputs, *(tensor for node in nodes(graph) for tensor in node.arguments.keras_tensors)]:
        counts[id(tensor)] = counts.get(id(tensor), 0) + 1
    return counts
