"""Operations that were traced with a batch of one size, for batches of any."""

import numpy as np
from keras import tree

from tf_terngrad.keras_internals import add_call, like, named, operation
from tf_terngrad.sparsity.graph.alike import BATCH, Multiple
from tf_terngrad.sparsity.graph.trace import Closed, Constant


class AnyBatch:
    """Puts the calls of a trace into its copy where the size of the batch is among their arguments.

    Args:
        general: by id of a call, the `General` one.
        sources: makes the constants of the copy.
    """

    def __init__(self, general, sources):
        self._general = general
        self._sources = sources

    def arguments(self, node, args, kwargs):
        """The arguments of a call, with a row for each example where it has such an array."""
        flat = tree.flatten((args, kwargs))
        for position, value in enumerate(self._general[id(node)].given):
            if isinstance(value, Constant):
                flat[position] = self._sources.constant(value.array, value.batched)
            elif _names_batch(value):
                raise Closed(f"gives the size of the batch to {type(node.operation).__name__}")
        return tree.pack_sequence_as((args, kwargs), flat)

    def outputs(self, node):
        """New outputs of a call, for batches of any size."""
        shapes = self._general[id(node)].shapes
        return [like(tensor, shape) for tensor, shape in zip(tree.flatten(node.output_tensors), shapes, strict=True)]

    def call(self, node, args, kwargs):
        """The outputs of an operation that was made with the size of the batch; None: it was not."""
        settings = self._general[id(node)].settings
        if not any(map(_names_batch, settings.values())):
            return None
        make = _MAKE.get(type(node.operation))
        made = make and make(self, node, settings, *tree.flatten((args, kwargs)))
        if made is None:
            raise Closed(f"makes {type(node.operation).__name__} with the size of the batch")
        return [made]

    def reshape(self, node, settings, tensor):
        """Another shape, in which one size follows the batch's."""
        (shape,) = self._general[id(node)].shapes
        if shape.count(None) != 1:
            return None
        reshape = named(operation("Reshape")(tuple(size or -1 for size in shape)), node.operation.name)
        return add_call(reshape, (tensor,), {}, self.outputs(node))[0]

    def broadcast(self, node, settings, tensor):
        """A tensor as often as there are examples: to which zeros of that shape are added."""
        first, *rest = settings["shape"]
        if first is not BATCH or any(map(_names_batch, rest)):
            return None
        return self._repeated(operation("BroadcastTo")((1, *rest))(tensor) if self._smaller(tensor, rest) else tensor)

    def tile(self, node, settings, tensor):
        """The same of a row."""
        first, *rest = settings["repeats"]
        once = first is BATCH and all(count == 1 for count in rest) and len(rest) + 1 == len(tensor.shape)
        return self._repeated(tensor) if once and tensor.shape[0] == 1 else None

    def slice(self, node, settings, tensor, *starts):
        """All examples, and so many of each; Keras before 3.14 takes no "all" as a size."""
        first, *rest = settings["shape"]
        if first is not BATCH or any(map(_names_batch, rest)) or not _are_whole(starts) or starts[0] != 0:
            return None
        key = (slice(None), *(slice(start, start + size) for start, size in zip(starts[1:], rest, strict=True)))
        getting = named(operation("GetItem")(), node.operation.name)
        return add_call(getting, (tensor, key), {}, self.outputs(node))[0]

    def _smaller(self, tensor, rest):
        return tuple(tensor.shape[1:]) != tuple(rest) or len(tensor.shape) != len(rest) + 1

    def _repeated(self, tensor):
        return self._sources.sum(self._sources.batch(len(tensor.shape), tensor.dtype), tensor)


def _are_whole(numbers):
    return all(isinstance(number, (int, np.integer)) for number in numbers)


def _names_batch(value):
    return any(value is each for each in (BATCH, Multiple)) or (
        isinstance(value, tuple) and any(map(_names_batch, value))
    )


_MAKE = {
    operation("Reshape"): AnyBatch.reshape,
    operation("BroadcastTo"): AnyBatch.broadcast,
    operation("Tile"): AnyBatch.tile,
    operation("Slice"): AnyBatch.slice,
}
