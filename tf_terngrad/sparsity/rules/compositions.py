"""Layers made of layers: nested models, TimeDistributed, and this package's own wrappers."""

import keras
from keras.src.models.functional import Functional

from tf_terngrad.sparsity.channels import Edge
from tf_terngrad.sparsity.rules.base import Rule, register_rule
from tf_terngrad.sparsity.wrappers import GroupSparse, SkippableBranch


class NestedModel(Rule):
    """A model used as a layer: its inside is followed once a call, with the same units in its weights."""

    expands = True

    def expand(self, call):
        call.graph.port(call.layer, call.inputs)
        return call.graph.run(call.layer, call.inputs, f"{call.path}/")


class TimeDistributed(Rule):
    """The same layer at each step: the step axis is fixed, the others are the layer's own."""

    expands = True

    def expand(self, call):
        graph, edge, inner = call.graph, call.inputs[0], call.layer.layer
        step = Edge((edge.shape[0], *edge.shape[2:]), edge.dtype, edge.name)
        step.axes[1:] = edge.axes[2:]
        if edge.axes[1] is not None:
            graph.freeze(edge.axes[1].units, f"{call.path}: these are the steps it runs over")
        graph.link(call, edge, step)
        (result,) = graph.apply(inner, (call.site, "step"), f"{call.path}/", (step,))
        output = Edge((result.shape[0], edge.shape[1], *result.shape[1:]), result.dtype, result.name)
        output.axes[2:] = result.axes[1:]
        graph.link(call, result, output)
        return [output]

    def rebuild(self, builder, call, args, kwargs):
        inner = builder.layer(builder.call_at((call.site, "step")))
        config = {**call.layer.get_config(), "layer": inner}
        return builder.adopt(call.layer, lambda c: keras.layers.TimeDistributed(**c), config)(*args, **kwargs)


class Wrapped(Rule):
    """A wrapper that only watches its layer: the layer alone is what stays."""

    expands = True

    def expand(self, call):
        return call.graph.apply(call.layer.layer, (call.site, "layer"), f"{call.path}/", call.args)

    def rebuild(self, builder, call, args, kwargs):
        return builder.rebuild((call.site, "layer"), args, {})


class Residual(Rule):
    """x + branch(x), as an ordinary sum: a branch that gives zero leaves."""

    expands = True
    _sum = keras.layers.Add

    def expand(self, call):
        graph, edge = call.graph, call.inputs[0]
        branch = graph.apply(call.layer.branch, (call.site, "branch"), f"{call.path}/", (edge,))
        addition = self._sum(name=call.layer.name)
        return graph.apply(addition, (call.site, "sum"), "", ([edge, *branch],))

    def rebuild(self, builder, call, args, kwargs):
        branch = builder.rebuild((call.site, "branch"), args, {})
        return builder.rebuild((call.site, "sum"), ([args[0], branch],), {})


register_rule(Functional, NestedModel())
register_rule(keras.layers.TimeDistributed, TimeDistributed())
register_rule(GroupSparse, Wrapped())
register_rule(SkippableBranch, Residual())
