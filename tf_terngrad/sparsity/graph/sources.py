"""Constants, and zeros for each example of a batch, as tensors of a graph: Keras wants all to come from its inputs."""

import numpy as np

from tf_terngrad.keras_internals import named, operation


class Sources:
    """Makes constants of the inputs of a graph.

    Args:
        inputs: the symbolic tensors that enter it.
    """

    def __init__(self, inputs):
        self._input = next(tensor for tensor in inputs if tensor.dtype != "string")
        self._batch = next((tensor for tensor in inputs if tensor.shape[:1] == (None,)), None)
        self._made = 0

    def constant(self, array, batched=False):
        """An array as a tensor of the graph; `batched`: its one row for each example."""
        if not batched:
            return self.sum(self._zero(array.dtype), array)
        return self.sum(self.batch(array.ndim, array.dtype), array)

    def batch(self, rank, dtype):
        """Zeros of shape (batch, 1, ..., 1)."""
        zeros = self._zeros(self._batch)
        if zeros.ndim > 1:
            zeros = self._make("Sum", axis=tuple(range(1, zeros.ndim)))(zeros)
        if rank > 1:
            zeros = self._make("Reshape", newshape=(-1, *[1] * (rank - 1)))(zeros)
        return self._cast(zeros, dtype)

    def sum(self, first, second):
        """x + y, of numbers or of truth values."""
        return self._make("LogicalOr" if str(first.dtype) == "bool" else "Add")(first, second)

    def _zero(self, dtype):
        return self._cast(self._make("Sum")(self._zeros(self._input)), dtype)

    def _zeros(self, tensor):
        return self._make("ZerosLike", dtype="int32")(tensor)

    def _cast(self, tensor, dtype):
        return tensor if str(dtype) == tensor.dtype else self._make("Cast", dtype=str(np.dtype(dtype)))(tensor)

    def _make(self, kind, **settings):
        """An operation with a name of its own: a made-up one could be taken in the user's graph."""
        self._made += 1
        return named(operation(kind)(**settings), f"source_{self._made}_{kind.lower()}")
