"""Layers made of layers: nested models, TimeDistributed, and this package's own wrappers.

The parts of a composition are followed at sites of their own, the same in all its calls, as the smaller layer is one.
"""

import keras
from keras import tree

from tf_terngrad.keras_internals import Functional, computes_mask
from tf_terngrad.sparsity.graph.channels import Edge
from tf_terngrad.sparsity.graph.stand_in import StandIn, entering, is_traced
from tf_terngrad.sparsity.rules.base import Frozen, Part, Rule
from tf_terngrad.sparsity.rules.registry import register_rule, rule_for


class NestedModel(Rule):
    """A model used as a layer: its inside is followed once a call, with the same units in its weights.

    Use it when a class of your own is a whole model that is used as a layer.
    """

    expands = True

    def expand(self, call):
        inputs = self._inputs(call)
        call.graph.port(call, inputs)
        entering = [self._enter(call, *pair) for pair in zip(inputs, call.layer.inputs, strict=True)]
        return call.graph.run(call.layer, entering, f"{call.path}/")

    def _inputs(self, call):
        return entering(call.layer, call.args, call.kwargs, Edge)

    def _enter(self, call, edge, tensor):
        if len(edge.shape) == len(tensor.shape):
            return edge
        call.freeze([edge], "it enters this model with another rank")
        return Edge.like(tensor)

    def layer(self, builder, call, name=None):
        smaller = builder.model(call.layer, self._inputs(call), name)
        if call.layer.supports_masking:
            smaller.supports_masking = True
        return smaller


class Composite(NestedModel):
    """A graph that stands for a user's model or layer: a model of its parts, with none of the old class's code."""

    def layer(self, builder, call, name=None):
        smaller = super().layer(builder, call, name)
        if _hands_on_its_mask(call.layer):
            smaller.supports_masking = True  # what it is called with hangs the mask on too; a file does not say so
        return smaller

    def rebuild(self, builder, call, args, kwargs):
        if is_traced(call.layer):
            tensors = entering(call.layer, args, kwargs, keras.KerasTensor)
            args = (tensors if len(tensors) > 1 else tensors[0],)
            kwargs = {name: value for name, value in kwargs.items() if name == "training"}
        return super().rebuild(builder, call, args, kwargs)


def _hands_on_its_mask(graph):
    """Whether a composite gives one tensor with the mask of the one that it is given, as Keras does it."""
    layer = graph.original
    same = layer.supports_masking and not computes_mask(layer)
    return same and graph.traced and len(graph.outputs) == len(graph.inputs) - len(graph.masks) == 1


class TimeDistributed(Rule):
    """The same layer at each step: the step axis is fixed, the others are the layer's own."""

    expands = True

    def held(self, layer):
        return (layer.layer,)

    def parts(self, layer, args, kwargs):
        (sequence,) = (*args, *kwargs.values())[:1]
        batch, steps, *rest = sequence.shape
        return [Part(layer.layer, (keras.KerasTensor((batch, *rest), sequence.dtype),), times=steps)]

    def expand(self, call):
        graph, edge, inner = call.graph, call.inputs[0], call.layer.layer
        step = Edge((edge.shape[0], *edge.shape[2:]), edge.dtype, edge.name)
        step.axes[1:] = edge.axes[2:]
        step.masked = edge.masked
        call.freeze_axis(edge.axes[1], "these are the steps it runs over")
        graph.alias(call, edge, step)
        (result,) = graph.apply(inner, (id(call.layer), "step"), f"{call.path}/", (step,))
        output = Edge((result.shape[0], edge.shape[1], *result.shape[1:]), result.dtype, result.name)
        output.axes[2:] = result.axes[1:]
        output.masked = edge.masked
        graph.alias(call, result, output)
        return [output]

    def layer(self, builder, call, name=None):
        inner = builder.layer(builder.call_at((id(call.layer), "step")))
        config = {key: value for key, value in keras.layers.Layer.get_config(call.layer).items() if key != "name"}
        return keras.layers.TimeDistributed(inner, name=name or call.layer.name, **config)


class Wrapped(Rule):
    """A wrapper that only watches its layer: the layer alone is what stays, under the wrapper's name.

    Use it when a wrapper of your own changes nothing in what its `layer` computes.

    Example, a wrapper of one's own that computes nothing but its layer::

        tt.register_rule(Watcher, tt.rules.Wrapped())
    """

    expands = True

    def held(self, layer):
        return (layer.layer,)

    def parts(self, layer, args, kwargs):
        return [Part(layer.layer, args, kwargs, stands_in=True)]

    def expand(self, call):
        return call.graph.apply(call.layer.layer, (id(call.layer), "layer"), f"{call.path}/", call.args, call.kwargs)

    def layer(self, builder, call, name=None):
        return builder.layer(builder.call_at((id(call.layer), "layer")), name or call.layer.name)

    def rebuild(self, builder, call, args, kwargs):
        builder.layer(call)  # with the wrapper's name
        inner = builder.call_at((id(call.layer), "layer"))
        return rule_for(inner.layer).rebuild(builder, inner, args, kwargs)


class Residual(Rule):
    """x + branch(x): a model of the branch and a sum, or nothing where the branch gives zero."""

    expands = True

    def held(self, layer):
        return (layer.branch,)

    def parts(self, layer, args, kwargs):
        return [Part(layer.branch, args, kwargs)]

    def expand(self, call):
        graph, layer, edge = call.graph, call.layer, call.inputs[0]
        branch = graph.apply(layer.branch, (id(layer), "branch"), f"{call.path}/", (edge,))
        addition = keras.layers.Add(name=layer.name, dtype=layer.dtype_policy)
        addition.build([edge.shape, edge.shape])
        return graph.apply(addition, (id(layer), "sum"), call.path.removesuffix(layer.name), ([edge, *branch],))

    def layer(self, builder, call, name=None):
        name = name or call.layer.name
        if not self._branch_stays(builder, call):
            return keras.layers.Identity(name=name, dtype=call.layer.compute_dtype)
        parts = [builder.call_at((id(call.layer), part)) for part in ("branch", "sum")]
        inputs = builder.input(call.inputs[0], f"{call.layer.name}_input")
        branch = builder.layer(parts[0])(inputs)
        return keras.Model(inputs, builder.layer(parts[1], "sum")([inputs, branch]), name=name)

    def rebuild(self, builder, call, args, kwargs):
        (tensor,) = tree.flatten((args, kwargs))
        return builder.layer(call)(tensor) if self._branch_stays(builder, call) else builder.alone(call, tensor)

    def _branch_stays(self, builder, call):
        return (id(call.layer), "branch") in builder.sites


class SpectralNormalization(Frozen):
    """A layer whose kernel is divided by its norm: not followed. The layer itself is nearly all that it costs."""

    def parts(self, layer, args, kwargs):
        return [Part(layer.layer, args, kwargs)]


register_rule(Functional, NestedModel())
register_rule(StandIn, Composite())
register_rule(keras.layers.TimeDistributed, TimeDistributed())
register_rule(keras.layers.SpectralNormalization, SpectralNormalization("its norm runs across channels"))
