"""The calls of a graph or of a trace, noted in a copy: of the same operations, or of what stands for them."""

import keras
from keras import tree

from tf_terngrad.keras_internals import add_call, like
from tf_terngrad.sparsity.graph.sizes import output_shapes
from tf_terngrad.sparsity.graph.stand_in import StandIn
from tf_terngrad.sparsity.graph.trace import Closed


class GraphCopy:
    """Copies the calls of a graph: of the same operations, or of what stands for them.

    `known`: more sizes are known than when the graph was made.
    """

    def __init__(self, opening, known):
        self._opening = opening
        self._known = known
        self.opens = False

    def call(self, node, args, kwargs):
        """Note the call of a node in the copy; gives its outputs."""
        operation, args, kwargs = self._opening.of(node.operation, args, kwargs)
        self.opens |= operation is not node.operation
        outputs = tree.flatten(node.output_tensors)
        shapes = self._shapes(operation, args, kwargs) if self._known else [tensor.shape for tensor in outputs]
        return add_call(operation, args, kwargs, [like(*pair) for pair in zip(outputs, shapes, strict=True)])

    def _shapes(self, operation, args, kwargs):
        if isinstance(operation, StandIn):
            return [tensor.shape for tensor in operation.outputs]
        return output_shapes(operation, args, kwargs)


class TraceCopy:
    """Copies the calls of a trace, with the weights in place and for any size where one is open."""

    def __init__(self, opening, weights, sizes):
        self._opening = opening
        self._weights = weights
        self._sizes = sizes

    def call(self, node, args, kwargs):
        """Note the call of a node in the copy; gives its outputs."""
        kwargs.pop("training", None)  # what the graph is called with reaches every part
        args, kwargs = self._sizes.arguments(node, args, kwargs)
        new = self._sizes.outputs(node)
        outputs = self._weights.call(node, args, kwargs, new)
        if outputs:
            return outputs
        args, kwargs = self._weights.tensors((args, kwargs))
        outputs = self._sizes.call(node, args, kwargs)
        self._check_shape(node.operation, args, kwargs, new)
        return outputs or add_call(*self._opening.of(node.operation, args, kwargs), new)

    def _check_shape(self, operation, args, kwargs, outputs):
        """Refuse what Keras takes for a tensor of another shape: it would not take the calls behind it."""
        if isinstance(operation, keras.layers.EinsumDense):
            said = operation.compute_output_spec(*args, **kwargs).shape
            if any(size not in (None, true) for size, true in zip(said, outputs[0].shape, strict=True)):
                raise Closed(f"calls {operation.name}, whose output Keras takes for one of another shape")
