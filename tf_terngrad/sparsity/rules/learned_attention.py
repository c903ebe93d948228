"""Attention with a mask that learns: its weights leave, and a constant mask of Keras's own layers is what is left."""

import keras
import numpy as np
from keras import ops

from tf_terngrad.sparsity.graph.channels import Channels
from tf_terngrad.sparsity.rules.attention import Heads
from tf_terngrad.sparsity.rules.axes import Axes
from tf_terngrad.sparsity.rules.base import Rule

_ARGUMENTS = ("query", "value", "key", "query_mask", "value_mask", "key_mask", "attention_mask")


class MaskedSoftmax(Rule):
    """`AttentionMask`: a softmax over the last axis with a mask for each head or for all, times a factor a head."""

    def axes(self, layer):
        return {"gate": Axes(), "window": Axes()}

    def learned(self, layer):
        return layer.weights

    def follow(self, call):
        edge = call.inputs[0]
        for other in call.inputs:
            for channels in other.axes[-2:] if other is edge else other.axes:
                call.freeze_axis(channels, "these are the steps that it weighs")
        heads = _heads(edge)
        follow_mask(call, call.layer, heads and heads.units)
        call.output.axes[:-2] = [channels and channels.unknown() for channels in edge.axes[:-2]]
        if heads is not None:
            factors = factors_of(call.layer, call.graph, len(heads))
            call.output.axes[-3] = heads.with_values(np.where(factors == 0, 0.0, np.nan))

    def multiply_adds(self, layer, output, *args, **kwargs):
        return 0

    def layer(self, builder, call, name=None):
        return keras.layers.Softmax(name=name or call.layer.name, dtype=call.layer.dtype_policy)

    def rebuild(self, builder, call, args, kwargs):
        given = dict(zip(("scores", "allowed"), args, strict=False)) | kwargs
        heads, layer = _heads(call.inputs[0]), call.layer
        seen, stay = seen_by(builder, layer, heads and heads.units, call.inputs[0].shape[-1])
        weights = builder.layer(call)(masked(given["scores"], both(given.get("allowed"), seen)))
        count = call.inputs[0].shape[-3] if len(call.inputs[0].shape) > 3 else 1
        factors = factors_of(layer, builder.graph, count)[stay]
        whole = np.isin(np.arange(count), np.arange(count)[stay])
        for variable in by_head(layer):
            builder.leave(variable, np.repeat(whole, variable.shape[0] // count))
        return weights if (factors == 1).all() else weights * factors.astype(weights.dtype)[:, None, None]


def by_head(mask):
    """The variables of an `AttentionMask` of which each head has as many rows as the others."""
    return [each for each in (mask.gate, mask.window if mask.each_head else None) if each is not None]


def _heads(edge):
    """The channels of the heads of scores; None where they are not followed, or where scores are of one head."""
    return edge.axes[-3] if len(edge.axes) > 3 else None


class MaskedHeads(Heads):
    """`SparseAttention`: a `MultiHeadAttention` whose heads see a part of the steps, and have a factor each."""

    def held(self, layer):
        return (*super().held(layer), layer.attention_mask)

    def learned(self, layer):
        return layer.attention_mask.weights

    def _combine(self, call, part, values, heads, sizes):
        follow_mask(call, call.layer.attention_mask, heads, part="mask")
        factors = factors_of(call.layer.attention_mask, call.graph, len(heads))[:, None]
        return super()._combine(call, part, np.where(factors == 0, 0.0, values * factors), heads, sizes)

    def config(self, call, kept):
        own = ("groups", "block", "each_head")
        return {name: value for name, value in super().config(call, kept).items() if name not in own}

    def layer(self, builder, call, name=None):
        output = call.layer.output_dense.kernel
        factors = factors_of(call.layer.attention_mask, builder.graph, output.shape[0])
        if (factors != 1).any():
            builder.scale(output, factors.reshape(-1, *[1] * (len(output.shape) - 1)))
        return super().layer(builder, call, name)

    def stock_type(self, layer):
        return keras.layers.MultiHeadAttention

    def rebuild(self, builder, call, args, kwargs):
        given = dict(zip(_ARGUMENTS, args, strict=False)) | kwargs
        heads = builder.units_along(call.layer.query_dense.kernel, 1)
        seen, _ = seen_by(builder, call.layer.attention_mask, heads, call.inputs[0].shape[1])
        mask = self.cut_mask(builder, call, given.pop("attention_mask", None))
        if seen is not None and len(seen) == 1:  # for all heads alike, as Keras takes it
            mask = both(mask, seen[0])
            mask = mask[None] if len(mask.shape) == 2 else mask
        elif seen is not None:
            mask = both(mask if mask is None or len(mask.shape) != 3 else ops.expand_dims(mask, 1), seen[None])
        query, value = given.pop("query"), given.pop("value")
        return super(Heads, self).rebuild(builder, call, (query, value), {**given, "attention_mask": mask})


def follow_mask(call, mask, heads, part=""):
    """Say where what learns lies: one unit for each factor of a head, and for each group of scores.

    Args:
        call: of the layer.
        mask: the `AttentionMask`.
        heads: the units of the heads; None if they are not followed.
        part: how it is called in the layer, if it is a part of one.
    """
    columns = () if heads is None else (heads,)
    for variable in (each for each in (mask.gate, mask.window) if each is not None):
        units = call.graph.born(variable, 0, variable.shape[0])
        kind = "gate" if variable is mask.gate else mask.groups_of_scores
        call.label(variable, 0, units, "scale", produced=kind, part=part)

        def matrix(variable=variable):
            """Which of the weights are read for which head."""
            values = call.graph.value(variable)
            values = values if variable is mask.gate else np.maximum(values, 0)
            if heads is None:
                return values[:, None, None]
            rows = len(values) // len(heads) if variable is mask.gate or mask.each_head else len(values)
            own = np.repeat(np.eye(len(heads)), rows, 0) if rows < len(values) or len(heads) == 1 else 1.0
            return (values[:, None] * own * np.ones((1, len(heads))))[..., None].astype(np.float32)

        call.read(variable, 0, Channels.of(units), matrix, columns, False, None)


def factors_of(mask, graph, heads):
    """The factor of each head, (heads,); zero where the analysis takes it for zero, and ones if there are none."""
    if mask.gate is None or graph.tolerance is None:
        return np.ones(heads)
    factors = graph.value(mask.gate).astype(np.float64)
    return np.where(np.abs(factors) <= graph.tolerance, 0.0, factors)


def seen_by(builder, mask, heads, steps):
    """Which scores the heads that stay see, (heads or 1, steps, steps), None if all; and which heads stay."""
    stay = slice(None) if heads is None else builder.kept.stays(heads)
    seen = mask.seen(builder.graph.tolerance)
    if seen is None:
        return None, stay
    seen = (seen if len(seen) == 1 else seen[stay])[:, :steps, :steps]
    seen = seen[:1] if (seen == seen[:1]).all() else seen
    return (None if seen.all() else seen), stay


def masked(scores, seen):
    """Scores that a softmax makes zeros of where a mask is False; a mask of None masks nothing."""
    if seen is None:
        return scores
    low = -3e4 if keras.backend.standardize_dtype(scores.dtype) == "float16" else -1e9
    return ops.where(ops.cast(seen, "bool"), scores, low)


def both(mask, seen):
    """A mask of a call and a constant one, either of which may be None."""
    if mask is None or seen is None:
        return mask if seen is None else seen
    return ops.logical_and(ops.cast(mask, "bool"), seen)
