"""Attention: layers and operations that weigh the steps of a sequence by one another. Their widths stay."""

import math

from tf_terngrad.keras_internals import attention_axes, attention_parts, layers, operation
from tf_terngrad.sparsity.rules.base import Frozen
from tf_terngrad.sparsity.rules.registry import register_rule


class Heads(Frozen):
    """Projections into and out of the heads, the scores and the weighted sum; masks cost nothing."""

    def multiply_adds(self, layer, output, query, value, key=None, **kwargs):
        queries, values, parts = math.prod(query.shape[:-1]), math.prod(value.shape[:-1]), attention_parts(layer)
        sizes = {name: math.prod(part.kernel.shape) for name, part in parts.items()}
        projections = queries * sum(sizes.get(name, 0) for name in ("query", "output", "gate"))
        projections += values * (sizes["key"] + sizes["value"])
        attended = math.prod(value.shape[axis] for axis in attention_axes(layer))
        heads, key_size = parts["query"].kernel.shape[-2:]
        value_size = parts["value"].kernel.shape[-1]
        return projections + queries * attended * heads * (key_size + value_size)


class Scores(Frozen):
    """The scores and the weighted sum, of a list (query, value, perhaps key)."""

    def multiply_adds(self, layer, output, inputs, *args, **kwargs):
        query, value = inputs[:2]
        return math.prod(query.shape[:-1]) * value.shape[1] * (query.shape[-1] + value.shape[-1])


class AttentionOperation(Frozen):
    """The scores and the weighted sum of tensors (batch, positions, heads, size)."""

    def multiply_adds(self, layer, output, query, key, value, *args, **kwargs):
        return (math.prod(query.shape) + math.prod(output.shape)) * key.shape[1]


_REASON = "attention layers keep their widths"
for _type in layers("MultiHeadAttention", "GroupQueryAttention"):
    register_rule(_type, Heads(_REASON))
for _type in layers("Attention", "AdditiveAttention"):
    register_rule(_type, Scores(_REASON))
register_rule(operation("DotProductAttention"), AttentionOperation(_REASON))
