"""Operations that were traced with a number for each open size, for any size."""

import keras
import numpy as np
from keras import tree

from tf_terngrad.keras_internals import add_call, like, named, operation
from tf_terngrad.sparsity.graph.alike import BATCH, Open
from tf_terngrad.sparsity.graph.trace import Closed, Constant


class AnySize:
    """Puts the calls of a trace into its copy where an open size is among their arguments.

    Args:
        generals: by id of a call the `General` one; and the same again from each trace with odd sizes.
        takes_all: whether the layer takes all such sizes.
        sources: makes the constants of the copy.
    """

    def __init__(self, generals, takes_all, sources):
        self._general, *self._odd = generals
        self._takes_all = takes_all
        self._sources = sources

    def arguments(self, node, args, kwargs):
        """The arguments of a call, with a row for each example where it has such an array."""
        flat = tree.flatten((args, kwargs))
        for position, value in enumerate(self._general[id(node)].given):
            if isinstance(value, Constant):
                flat[position] = self._sources.constant(value.array, value.batched)
            elif _is_open(value):
                raise Closed(f"gives {_what(value)} to {type(node.operation).__name__}")
        return tree.pack_sequence_as((args, kwargs), flat)

    def outputs(self, node):
        """New outputs of a call, for any size."""
        shapes = map(_known, self._general[id(node)].shapes)
        return [like(tensor, shape) for tensor, shape in zip(tree.flatten(node.output_tensors), shapes, strict=True)]

    def call(self, node, args, kwargs):
        """The outputs of an operation that was made with an open size; None: it was not."""
        settings = self._general[id(node)].settings
        opens = list(filter(_is_open, settings.values()))
        if not opens:
            return None
        make = _MAKE.get(type(node.operation))
        made = make and make(self, node, settings, *tree.flatten((args, kwargs)))
        if made is None:
            raise Closed(f"makes {type(node.operation).__name__} with {_what(opens)}")
        return [made]

    def reshape(self, node, settings, tensor):
        """Another shape, in which one size follows an open one, and beside it the batch may stay in front."""
        general, name = self._general[id(node)], node.operation.name
        shape = [size or -1 for size in _known(general.shapes[0])]
        if shape.count(-1) == 1:
            reshape = named(operation("Reshape")(tuple(shape)), name)
        elif shape.count(-1) == 2 and general.shapes[0][0] == general.entering[0][0] == BATCH:
            reshape = keras.layers.Reshape(shape[1:], name=name, dtype=tensor.dtype)
        else:
            return None
        return add_call(reshape, (tensor,), {}, self.outputs(node))[0]

    def resize(self, node, settings, tensor):
        """An image several times as large, whether its size is odd or not."""
        space = slice(1, 3) if settings["data_format"] == "channels_last" else slice(2, 4)
        factors = {_factors(general[id(node)], space) for general in (self._general, *self._odd)}
        only = any(settings.get(name) for name in _ONLY)
        is_images = len(tensor.shape) == 4 and keras.backend.is_float_dtype(tensor.dtype)
        if not self._takes_all or only or not is_images or len(factors) > 1 or None in tree.flatten([*factors]):
            return None
        options = {name: settings[name] for name in ("data_format", "interpolation")}
        larger = keras.layers.UpSampling2D(factors.pop(), name=node.operation.name, dtype=tensor.dtype, **options)
        return add_call(larger, (tensor,), {}, self.outputs(node))[0]

    def broadcast(self, node, settings, tensor):
        """A tensor as often as there are examples: to which zeros of that shape are added."""
        first, *rest = settings["shape"]
        entering = self._general[id(node)].entering[0]
        if entering[:1] == (BATCH,) and len(entering) == len(settings["shape"]):
            return self._spread(node, tensor, entering, settings["shape"])
        if first != BATCH or any(map(_is_open, rest)):
            return None
        return self._repeated(operation("BroadcastTo")((1, *rest))(tensor) if self._smaller(tensor, rest) else tensor)

    def _spread(self, node, tensor, old, new):
        """Each example with axes of size one as often as a shape says."""
        times = [1 if before == after else after for before, after in zip(old, new, strict=True)]
        if any(map(_is_open, times)):
            return None
        return add_call(named(operation("Tile")(times), node.operation.name), (tensor,), {}, self.outputs(node))[0]

    def tile(self, node, settings, tensor):
        """The same of a row."""
        first, *rest = settings["repeats"]
        once = first == BATCH and all(count == 1 for count in rest) and len(rest) + 1 == len(tensor.shape)
        return self._repeated(tensor) if once and tensor.shape[0] == 1 else None

    def repeat(self, node, settings, tensor):
        """The same of a row."""
        once = settings["repeats"] == BATCH and settings["axis"] == 0 and tensor.shape[0] == 1
        return self._repeated(tensor) if once else None

    def slice(self, node, settings, tensor, *starts):
        """All examples, and so many of each; Keras before 3.14 takes no "all" as a size."""
        first, *rest = settings["shape"]
        if first != BATCH or any(map(_is_open, rest)) or not _are_whole(starts) or starts[0] != 0:
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


def _is_open(value):
    return isinstance(value, Open) or (isinstance(value, tuple) and any(map(_is_open, value)))


def _what(values):
    """What an open size among values is."""
    found = {value for value in tree.flatten(values) if isinstance(value, Open)}
    return "the size of the batch" if found == {BATCH} else "a size that is open (give keras.Input a number for it)"


def _known(shape):
    return tuple(None if isinstance(size, Open) else size for size in shape)


def _factors(general, axes):
    """How many times as large each of these axes is."""
    return tuple(_factor(*pair) for pair in zip(general.shapes[0][axes], general.entering[0][axes], strict=True))


def _factor(new, old):
    """How many times as large a size is as another one; None: that is no whole number for all sizes."""
    if not isinstance(new, Open) or not isinstance(old, Open):
        return new // old if isinstance(new, int) and isinstance(old, int) and not new % old else None
    factor = new.inference // old.inference
    return factor if factor and new == Open(factor * old.inference, factor * old.training) else None


_ONLY = ("antialias", "crop_to_aspect_ratio", "pad_to_aspect_ratio")
"""What Resize can do, and UpSampling2D cannot."""

_MAKE = {
    operation("Reshape"): AnySize.reshape,
    operation("BroadcastTo"): AnySize.broadcast,
    operation("Tile"): AnySize.tile,
    operation("Repeat"): AnySize.repeat,
    operation("Slice"): AnySize.slice,
    operation("Resize"): AnySize.resize,
}
