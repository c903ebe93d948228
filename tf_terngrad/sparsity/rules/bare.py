"""A weight as a tensor of the graph: how one that a user's layer multiplies or adds by itself is followed and kept."""

import math

import keras
import numpy as np

from tf_terngrad.keras_internals import named, operation
from tf_terngrad.sparsity.graph.channels import Channels
from tf_terngrad.sparsity.rules.base import Rule
from tf_terngrad.sparsity.rules.registry import register_rule


class BareWeight(keras.layers.Layer):
    """Gives a variable of another layer, whatever index it is called on; stands in opened graphs only."""

    def __init__(self, variable, **options):
        super().__init__(**options)
        self.variable = variable
        self.built = True

    def call(self, index):
        return keras.ops.convert_to_tensor(self.variable)


class Bare(Rule):
    """The weight's own axes are the axes of the tensor; an Embedding with a row for each place keeps it."""

    def follow(self, call):
        variable = call.layer.variable
        for axis, size in enumerate(variable.shape):
            if size == 1 and len(variable.shape) > 1:
                continue
            units = call.graph.born(variable, axis, size)
            call.label(variable, axis, units, "scale")
            call.output.axes[axis] = Channels.of(units).with_values(self._values(call, axis))
        if call.graph.tolerance is not None and (np.abs(call.graph.value(variable)) <= call.graph.tolerance).all():
            call.output.number = 0.0

    def _values(self, call, axis):
        """What the positions of an axis emit: the weight's numbers, where they are the same along all other axes."""
        array = np.moveaxis(call.graph.value(call.layer.variable), axis, 0)
        array = array.reshape(len(array), -1)
        if call.graph.tolerance is None:
            return np.nan
        array = np.where(np.abs(array) <= call.graph.tolerance, 0.0, array)
        return np.where((array == array[:, :1]).all(1), array[:, 0], np.nan)

    def multiply_adds(self, layer, output, index):
        return 0

    def rebuild(self, builder, call, args, kwargs):
        (index,) = args
        rows, table = self._size(call, builder.kept)[:-1], builder.layer(call)
        if rows:
            places = np.arange(math.prod(rows), dtype=np.int32).reshape(rows)
            index = named(operation("Add")(), f"{table.name}_places")(index, places)
        tensor = table(index)
        return tensor if call.output.shape else named(operation("Reshape")(()), f"{table.name}_number")(tensor)

    def layer(self, builder, call, name=None):
        *rows, width = self._size(call, builder.kept)
        old = call.layer
        table = keras.layers.Embedding(math.prod(rows), width, name=name or old.name, dtype=old.dtype_policy)
        table.build()
        table.trainable = old.variable.trainable
        builder.follow(old, table)
        return table

    def _size(self, call, kept):
        """What stays of each axis; of a number, an axis of one."""
        shape, axes = call.output.shape, call.output.axes
        return [s if c is None else kept.width(c) for s, c in zip(shape, axes, strict=True)] or [1]


register_rule(BareWeight, Bare())
