"""The multiply-adds of a model with any number of members.

Nothing is built for it: the layers' own formulas are asked about layers whose weights are shapes alone.
"""

import dataclasses

import keras
from keras import tree

from tf_terngrad.sparsity.costs.layers import CostlyCall
from tf_terngrad.sparsity.costs.resources import Resource, term
from tf_terngrad.sparsity.costs.sizes import Axes


def terms(sizes):
    """A `Term` for each call; those that nobody knows count zero."""
    return [_term(sizes, _Call(call, edges, sizes)) for call, edges in sizes.calls]


def _term(sizes, call):
    return term(sizes, call.axes, call.variables, lambda shares: call.multiply_adds(shares) or 0)


MULTIPLY_ADDS = Resource("multiply_adds", terms, lambda number: f"{number:,.0f} multiply-adds")


class _Call:
    """A call that costs something, and what it would cost with fewer members.

    Args:
        call: a `CostlyCall`.
        edges: what is known of the call's tensors in a graph: a list for the arguments, and that of the first output.
        sizes: the `Sizes` of the model.
    """

    def __init__(self, call: CostlyCall, edges, sizes):
        self._call, self._sizes = call, sizes
        self.variables = getattr(call.layer, "variables", ())
        inputs, output = edges
        tensors = [value for value in tree.flatten((call.args, call.kwargs)) if isinstance(value, keras.KerasTensor)]
        inputs = inputs if len(inputs) == len(tensors) else [None] * len(tensors)
        pairs = [*zip(tensors, inputs, strict=True), (call.output, output)]
        self._axes = {id(tensor): Axes.of_tensor(tensor, edge) for tensor, edge in pairs}

    @property
    def axes(self):
        """The `Axes` of its tensors and variables."""
        return [*self._axes.values(), *map(self._axes_of, self.variables)]

    def multiply_adds(self, shares):
        """For one example; None when nobody knows."""

        def smaller(value):
            if isinstance(value, keras.KerasTensor) and id(value) in self._axes:
                return keras.KerasTensor(self._axes[id(value)].shape(self._sizes.lengths, shares), value.dtype)
            return value

        def shape_of(variable):
            return self._axes_of(variable).shape(self._sizes.lengths, shares)

        call = self._call
        args, kwargs, outputs = tree.map_structure(smaller, (call.args, call.kwargs, call.outputs))
        layer = _Shells(shape_of).of(call.layer)
        return dataclasses.replace(call, layer=layer, outputs=outputs, args=args, kwargs=kwargs).multiply_adds()

    def _axes_of(self, variable):
        return Axes.of_variable(variable, self._sizes.graph)


class _Shells:
    """Layers of the same classes whose variables are symbolic tensors of other shapes; each layer has one.

    Args:
        shape_of: a function of a variable.
    """

    def __init__(self, shape_of):
        self._shape_of, self._made = shape_of, {}

    def of(self, value):
        """What stands for a variable, for a layer with variables, for each value of a list; of the rest, itself."""
        if isinstance(value, keras.Variable):
            return keras.KerasTensor(self._shape_of(value), value.dtype)
        if isinstance(value, list):
            return [self.of(each) for each in value]
        if not isinstance(value, keras.Layer) or not value.variables:
            return value
        if id(value) not in self._made:
            self._made[id(value)] = new = object.__new__(type(value))
            for name, held in vars(value).items():
                new.__dict__[name] = self.of(held)  # as it is: Keras's own way notes what a layer holds
        return self._made[id(value)]
