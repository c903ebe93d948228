"""Weights that a layer uses with bare operations, such as `x * self.scale` or `ops.matmul(x, self.kernel)`.

A product with a matrix stands in the opened graph as the stock layer that computes it, and holds the user's variable.
Any other weight stands there as a tensor that `BareWeight` gives; what holds it in a smaller model is an Embedding.
"""

import keras
import numpy as np
from keras import ops, tree

from tf_terngrad.keras_internals import add_call, like, named, nodes, operation, with_kernel
from tf_terngrad.sparsity.rules.bare import BareWeight


class BareWeights:
    """Puts the weights and the constants of one trace into its copy.

    Args:
        layer: the layer that was traced.
        seen: the `Trace`.
        inputs: the inputs of the copy.
    """

    def __init__(self, layer, seen, inputs):
        self._policy = layer.dtype_policy
        self._inputs = inputs
        self._tensors = {}
        self._biasless = {}  # by id of the tensor that it gives, a stock layer that can take a bias
        self._readers = _readers(seen.graph)
        self.values = [*map(_Weight, seen.weights), *map(_Constant, seen.constants)]

    def call(self, node, args, kwargs):
        """The outputs of a call that a stock layer with a weight makes; None: no stock layer does."""
        given = tree.flatten((args, kwargs))
        if len(given) < 2 or not any(isinstance(value, _Weight) for value in given):
            return None
        make = _STOCK.get(type(node.operation))
        return make and make(self, node, *given)

    def tensors(self, values):
        """A structure of values with symbolic tensors in place of weights and constants."""
        return tree.map_structure(lambda v: self._tensor(v) if isinstance(v, (_Weight, _Constant)) else v, values)

    def _tensor(self, value):
        if id(value) not in self._tensors:
            self._tensors[id(value)] = self._weight(value) if isinstance(value, _Weight) else self._constant(value.array, "constant")
        return self._tensors[id(value)]

    def _weight(self, weight):
        """The variable's numbers as a tensor of the graph, by an index that is none."""
        variable, index = weight.variable, self._constant(np.zeros((), np.int32), weight.name)
        layer = BareWeight(variable, name=weight.name, dtype=self._policy)
        (output,) = add_call(layer, (index,), {}, [keras.KerasTensor(variable.shape, self._policy.compute_dtype)])
        return output

    def _constant(self, array, name):
        """A constant as a tensor of the graph, which wants to come from an input: its shape's zeros, summed."""
        source = next(tensor for tensor in self._inputs if tensor.dtype != "string")
        zero = named(operation("Sum")(), f"{name}_zero")(
            named(operation("ZerosLike")(dtype="int32"), f"{name}_zeros")(source)
        )
        if array.dtype != np.int32:
            zero = named(operation("Cast")(str(array.dtype)), f"{name}_cast")(zero)
        return named(operation("Add")(), f"{name}_constant")(zero, array)

    def matmul(self, node, tensor, weight, *rest):
        """x @ W, a dense layer."""
        if rest or not isinstance(weight, _Weight) or len(weight.variable.shape) != 2 or len(tensor.shape) < 2:
            return None
        layer = keras.layers.Dense(weight.variable.shape[1], use_bias=False, name=weight.name, dtype=self._policy)
        return self._holding(layer, node, tensor, weight)

    def einsum(self, node, tensor, weight, *rest):
        """An equation of a tensor and a weight, a dense layer with an equation."""
        equation = node.operation.subscripts.replace(" ", "")
        if rest or not isinstance(weight, _Weight) or isinstance(tensor, _Weight) or "->" not in equation:
            return None
        output = node.output_tensors[0].shape
        layer = keras.layers.EinsumDense(equation, output[1:], name=weight.name, dtype=self._policy)
        return self._holding(layer, node, tensor, weight)

    def add(self, node, tensor, weight, *rest):
        """A vector that is added to such a product, its bias."""
        if isinstance(tensor, _Weight):
            tensor, weight = weight, tensor
        layer = self._biasless.pop(id(tensor), None)
        if layer is None or rest or weight.variable.shape != (tensor.shape[-1],):
            return None
        layer.use_bias, layer.bias = True, weight.variable
        return [tensor]

    def _holding(self, layer, node, tensor, weight):
        with_kernel(layer, weight.variable)
        (output,) = add_call(layer, (tensor,), {}, [like(node.output_tensors[0])])
        if isinstance(layer, keras.layers.Dense) and self._readers[id(node.output_tensors[0])] == 1:
            self._biasless[id(output)] = layer
        return [output]


class _Weight:
    def __init__(self, variable):
        self.variable = variable

    @property
    def name(self):
        return self.variable.name


class _Constant:
    def __init__(self, array):
        self.array = array


def _readers(graph):
    """How many calls, or outputs of the graph, read each tensor."""
    counts = {}
    for tensor in [*graph.outputs, *(t for node in nodes(graph) for t in node.arguments.keras_tensors)]:
        counts[id(tensor)] = counts.get(id(tensor), 0) + 1
    return counts


_STOCK = {
    operation("Matmul"): BareWeights.matmul,
    operation("Einsum"): BareWeights.einsum,
    operation("Add"): BareWeights.add,
}
