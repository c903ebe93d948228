"""What enters the trace of a call: an input for each tensor and for the masks that come with them."""

import keras
from keras import tree

from tf_terngrad.keras_internals import is_read, mask_of, node_of, set_mask
from tf_terngrad.sparsity.graph.sizes import INFERENCE, SIZES, shape_in


class Entering:
    """Makes the inputs of a trace: one for each tensor that the call is given, with the same masks among them.

    Args:
        names: of the inputs.
        trace: which trace it is: each has other numbers for open sizes.
        in_parts: whether the batch is as many parts of examples, such as windows of images, as there are.

    Attributes:
        inputs: what was made so far.
    """

    def __init__(self, names, trace, in_parts=False):
        self._names, self._trace, self._in_parts = names, trace, in_parts
        self._given, self.inputs = [], []

    def enter(self, value):
        """An input like a tensor; what is no tensor as it is."""
        if not isinstance(value, keras.KerasTensor):
            return value
        shape = list(shape_in(value, self._trace))
        if value.shape[:1] == (None,):
            shape[0] = self._batch(shape[0])
        self._given.append(value)
        self.inputs.append(keras.Input(batch_shape=shape, dtype=value.dtype, name=self._names[len(self.inputs)]))
        return self.inputs[-1]

    def _batch(self, size):
        """Whatever it is made of, it is the batch of this call; of parts not the number that says BATCH."""
        return size * (3 if self._trace == INFERENCE else 5) if self._in_parts else SIZES[self._trace][0]

    def hang_masks(self):
        """Let each input have the input that stands for its tensor's mask, if there is one."""
        inputs = {id(value): tensor for value, tensor in zip(self._given, self.inputs, strict=True)}
        for value, tensor in zip(self._given, self.inputs, strict=True):
            set_mask(tensor, inputs.get(id(mask_of(value))))


def names_of(layer, given, masks):
    """Names for the inputs: the keys of a dict, which Keras wants so, or the layer's with numbers."""
    if len(given[0]) == 1 and isinstance(given[0][0], dict) and not tree.flatten(given[1]) and not masks:
        return sorted(given[0][0])
    count = len(tree.flatten((given, masks)))
    return [f"{layer.name}_input{number or ''}" for number in range(count)]


def masks_inside(outputs):
    """The masks of all tensors from which outputs are computed, those of inputs that no call reads left out."""
    tensors = computed_from(outputs, _mask_in_graph)
    masks = [mask for tensor in tensors for mask in _mask_in_graph(tensor)]
    return list({id(mask): mask for mask in masks}.values())


def computed_from(outputs, more=lambda tensor: ()):
    """All tensors that are needed for outputs, these among them, each once; `more`: what else each of them needs."""
    found, waiting = {}, tree.flatten(outputs)
    while waiting:
        tensor = waiting.pop()
        if id(tensor) not in found:
            found[id(tensor)] = tensor
            waiting += [*more(tensor), *node_of(tensor).arguments.keras_tensors]
    return list(found.values())


def _mask_in_graph(tensor):
    mask = mask_of(tensor)
    if not isinstance(mask, keras.KerasTensor) or (node_of(mask).is_input and not is_read(mask)):
        return []
    return [mask]
