"""Operations that put tensors along a new axis, or make one tensor of each position of an axis."""

from tf_terngrad.keras_internals import operation
from tf_terngrad.sparsity.rules.base import Rule
from tf_terngrad.sparsity.rules.registry import register_rule
from tf_terngrad.sparsity.rules.selection import agree, are_all_tensors


class Stack(Rule):
    """Tensors of one shape along a new axis: their channels leave together."""

    def follow(self, call):
        if not are_all_tensors(call):
            call.freeze(call.inputs, "stacked with a constant array")
            return
        call.output.axes = [agree(call, [edge.axes[axis] for edge in call.inputs]) for axis in _axes(call.inputs[0])]
        call.output.axes.insert(call.layer.axis % (len(call.output.axes) + 1), None)


class Unstack(Rule):
    """A tensor for each position of one axis."""

    def follow(self, call):
        edge = call.inputs[0]
        gone = call.layer.axis % len(edge.shape)
        call.freeze_axis(edge.axes[gone], "each of them becomes a tensor")
        for output in call.outputs:
            output.axes = [edge.axes[axis] for axis in _axes(edge) if axis != gone]


def _axes(edge):
    return range(len(edge.shape))


register_rule(operation("Stack"), Stack())
register_rule(operation("Unstack"), Unstack())
