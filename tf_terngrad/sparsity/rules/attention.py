"""Attention: layers and operations that weigh the steps of a sequence by one another."""

import math

import keras
import numpy as np

from tf_terngrad.keras_internals import attention_axes, attention_parts, layers, operation
from tf_terngrad.sparsity.graph.channels import Channels, Edge
from tf_terngrad.sparsity.rules.axes import EACH, Axes
from tf_terngrad.sparsity.rules.base import Rule
from tf_terngrad.sparsity.rules.registry import register_rule, rule_for
from tf_terngrad.sparsity.rules.selection import agree
from tf_terngrad.sparsity.rules.vectors import keep_columns


class Heads(Rule):
    """`MultiHeadAttention`: heads leave with their queries, keys and values; dimensions leave in all heads at once.

    out[t] = Σ_h Σ_s softmax_s(q_h[t] · k_h[s] / √K) v_h[s] · output[h] + bias, where q, k, v have a bias each. A head
    adds nothing if its values are zero or nobody reads them, and a constant if its values are one, for the weights of
    all steps sum to one. A key dimension adds nothing if its query is zero, or its key the same at every step.
    """

    def held(self, layer):
        return tuple(attention_parts(layer).values())

    def why_frozen(self, layer):
        reasons = (rule_for(part).why_frozen(part) for part in self.held(layer))
        return next(filter(None, reasons), None)

    def follow(self, call):
        reason = self.why_frozen(call.layer)
        if reason:
            call.freeze(call.inputs, reason)
            return
        inputs, parts = _inputs(call), attention_parts(call.layer)
        _hold_steps(call, inputs.values(), slice(-1))
        units = self.units(call)
        made = {
            name: self._project(call, parts[name], inputs[_READS[name]].axes[-1], *units[name])
            for name in parts
            if name != "output"
        }
        self._score(call, parts["query"].kernel, made["query"], self._by_head(call, made["key"]), *units["query"])
        values = self._by_head(call, made["value"])
        if "gate" in parts:
            values = np.where(values == 0, 0.0, np.nan)
        call.output.axes[-1] = self._combine(call, parts["output"], values, *units["output"])
        call.inside += [Channels.of(along) for pair in (units["query"], units["value"]) for along in pair]
        for name in made:
            keep_columns(call, parts[name].bias, (*inputs[_READS[name]].shape, None))
        self._show_scores(call, units["query"][0])

    def units(self, call):
        """By part, the units along its heads and along the dimensions of a head."""
        parts = attention_parts(call.layer)
        head, key = (self.born(call, parts["query"], axis, kind) for axis, kind in ((1, "head"), (2, "key")))
        value = self.born(call, parts["value"], 2, "value")
        return {"query": (head, key), "key": (head, key), **dict.fromkeys(("value", "gate", "output"), (head, value))}

    def born(self, call, part, axis, kind):
        """Units that are born along an axis of the kernel of a projection."""
        units = call.graph.born(part.kernel, axis, part.kernel.shape[axis])
        call.label(part.kernel, axis, units, "kernel", produced=kind, part=part.name)
        return units

    def _project(self, call, part, entering, heads, sizes):
        """One of the projections into the heads; what each (head, dimension) emits."""
        for axis, units in ((1, heads), (2, sizes)):
            call.label(part.kernel, axis, units, "kernel", part=part.name)
            call.label(part.bias, axis - 1, units, "bias", part=part.name)
        call.label(part.kernel, 0, entering and entering.units, "kernel", part=part.name)

        def matrix():
            return call.graph.value(part.kernel).reshape(part.kernel.shape[0], -1, 1)

        columns = np.repeat(heads, len(sizes)), np.tile(sizes, len(heads))
        return call.read(part.kernel, 0, entering, matrix, columns, False, part.bias).reshape(len(heads), len(sizes))

    def _by_head(self, call, emitted):
        """What each head of the queries is given."""
        return emitted

    def _score(self, call, kernel, queries, keys, heads, sizes):
        """The product of queries and keys reads the key dimensions, each of them in every head."""

        def matters():
            return (~((queries == 0) | ~np.isnan(keys))).T[..., None].astype(np.float32)

        call.read(kernel, 2, Channels.of(sizes), matters, (heads,), False, None)

    def _combine(self, call, part, values, heads, sizes):
        """The projection out of the heads, of values that are constants where they are known; its output's channels."""
        graph, kernel, bias, width = call.graph, part.kernel, part.bias, part.kernel.shape[2:]
        out = graph.born(kernel, -1, width[-1]) if len(width) == 1 else None
        for axis, units in ((0, heads), (1, sizes)):
            call.label(kernel, axis, units, "kernel", part=part.name)
        if out is not None:
            call.label(kernel, 2, out, "kernel", produced=True, part=part.name)
            call.label(bias, 0, out, "bias", part=part.name)
        pairs, columns = np.repeat(heads, len(sizes)), () if out is None else (out,)

        def matrix():
            rows = graph.value(kernel).reshape(len(pairs), -1, 1)
            return rows if columns else rows.transpose(0, 2, 1)

        weighed = Channels.of(pairs).with_values(values.ravel())
        foldable, partners = bool(columns) and bias is not None, np.tile(sizes, len(heads))
        made = call.read(kernel, 0, weighed, matrix, columns, foldable, bias, partners)
        graph.readings[id(kernel), 1] = graph.readings[id(kernel), 0]  # it reads both
        return None if out is None else Channels.of(out).with_values(made)

    def _show_scores(self, call, heads):
        """The scores have an axis of the heads, if they are given out."""
        for edge in call.outputs[1:]:
            edge.axes[_heads_of_scores(call)] = Channels.of(heads)
        if isinstance(call.kwargs.get("attention_mask"), Edge) and _is_by_head(call):
            call.freeze_axis(Channels.of(heads), "its mask has one for each head")

    def config(self, call, kept):
        layer, parts, out = call.layer, attention_parts(call.layer), call.output.axes[-1]
        config = layer.get_config()
        query, value = parts["query"].kernel, parts["value"].kernel
        width = config["output_shape"] if out is None else (kept.width(out),)
        entering = _inputs(call)["query"]
        if not config["output_shape"] and width == (_width(entering, kept),):
            width = None
        return {
            **{**config, "output_shape": width, "num_heads": call.width(query, 1, kept)},
            **{"key_dim": call.width(query, 2, kept), "value_dim": call.width(value, 2, kept)},
        }

    def bias(self, layer):
        return attention_parts(layer)["output"].bias

    def layer(self, builder, call, name=None):
        if self.why_frozen(call.layer):
            return builder.carried(call.layer, name)
        query = attention_parts(call.layer)["query"]
        factor = math.sqrt(call.width(query.kernel, 2, builder.kept) / query.kernel.shape[2])
        for variable in (query.kernel, query.bias):
            builder.scale(variable, factor)
        return builder.remake(call, name)

    def rebuild(self, builder, call, args, kwargs):
        if "attention_mask" in kwargs:
            kwargs = {**kwargs, "attention_mask": self.cut_mask(builder, call, kwargs["attention_mask"])}
        return super().rebuild(builder, call, args, kwargs)

    def cut_mask(self, builder, call, mask):
        """What stays of the mask of a call: an array with a mask for each head loses those of the heads that leave."""
        if isinstance(call.kwargs.get("attention_mask"), Edge) or not _is_by_head(call):
            return mask
        heads = builder.units_along(attention_parts(call.layer)["query"].kernel, 1)
        return np.take(mask, np.flatnonzero(builder.kept.stays(heads)), _heads_of_scores(call))

    def multiply_adds(self, layer, output, query, value, key=None, **kwargs):
        queries, values, parts = math.prod(query.shape[:-1]), math.prod(value.shape[:-1]), attention_parts(layer)
        sizes = {name: math.prod(part.kernel.shape) for name, part in parts.items()}
        projections = queries * sum(sizes.get(name, 0) for name in ("query", "output", "gate"))
        projections += values * (sizes["key"] + sizes["value"])
        attended = math.prod(value.shape[axis] for axis in attention_axes(layer))
        heads, key_size = parts["query"].kernel.shape[-2:]
        value_size = parts["value"].kernel.shape[-1]
        return projections + queries * attended * heads * (key_size + value_size)


class Groups(Heads):
    """`GroupQueryAttention`: keys and values leave with all the queries that share them, so each group stays as large.

    Where all queries share one group, any query can leave. Keys and values have one size, and leave as one; all that
    enters and the output have one width.
    """

    def units(self, call):
        parts = attention_parts(call.layer)
        groups, queries = (parts[name].kernel.shape[1] for name in ("key", "query"))
        size = self.born(call, parts["key"], 2, "key")
        group = self.born(call, parts["key"], 1, "head")
        if groups > 1:
            head = np.repeat(group, queries // groups)
        else:
            call.freeze_axis(Channels.of(group), "its queries share these keys and values")
            head = self.born(call, parts["query"], 1, "head")
        queries, keys = (head, size), (group, size)
        return {"query": queries, "key": keys, "value": keys, "gate": queries, "output": queries}

    def _by_head(self, call, emitted):
        return np.repeat(emitted, call.layer.num_query_heads // len(emitted), axis=0)

    def _combine(self, call, part, values, heads, sizes):
        made = super()._combine(call, part, values, heads, sizes)
        widths = [made, *(edge.axes[-1] for edge in _inputs(call).values())]
        for channels in widths:
            if None in widths:
                call.freeze_axis(channels, "what enters and what leaves it have one width")
            else:
                call.graph.units.tie(made.units, channels.units)
        return made

    def config(self, call, kept):
        query, key = (attention_parts(call.layer)[name].kernel for name in ("query", "key"))
        heads = {"num_query_heads": call.width(query, 1, kept), "num_key_value_heads": call.width(key, 1, kept)}
        return {**call.layer.get_config(), **heads, "head_dim": call.width(key, 2, kept)}


class Scores(Rule):
    """`Attention`: out[t] = Σ_s softmax_s(Σ_d query[t, d] · key[s, d]) value[s], of a list (query, value, perhaps key).

    A dimension of queries and keys leaves where its product is zero; one of the values is what comes out.
    """

    def follow(self, call):
        query, value, *key = call.args[0]
        key = key[0] if key else value
        _hold_steps(call, (query, value, key), slice(-1))
        scored = agree(call, [query.axes[-1], key.axes[-1]])
        if scored is not None:
            zero = self.is_zero(call, query.axes[-1].values, key.axes[-1].values)
            call.contract(scored.with_values(np.where(zero, 0.0, np.nan)))
        emitted, masked = value.axes[-1], query.masked or call.args[1:] or call.kwargs.get("mask") is not None
        if emitted is not None and masked:  # Keras gives zeros at the steps that the mask of the queries leaves out
            emitted = emitted.with_values(np.where(emitted.values == 0, 0.0, np.nan))
        call.output.axes[-1] = emitted

    def is_zero(self, call, queries, keys):
        """Which dimensions add nothing to the scores, given what they hold."""
        both = (queries == 0) & (keys == 0)
        return both if call.layer.score_mode == "concat" else (queries == 0) | (keys == 0)

    def axes(self, layer):
        return {"scale": Axes(), "concat_score_weight": Axes()}

    def multiply_adds(self, layer, output, inputs, *args, **kwargs):
        query, value = inputs[:2]
        return math.prod(query.shape[:-1]) * value.shape[1] * (query.shape[-1] + value.shape[-1])


class AdditiveScores(Scores):
    """`AdditiveAttention`: the scores are Σ_d scale[d] · tanh(query[t, d] + key[s, d])."""

    def follow(self, call):
        super().follow(call)
        if call.layer.use_scale and call.inputs[0].axes[-1] is not None:
            call.label(call.layer.scale, 0, call.inputs[0].axes[-1].units, "scale")

    def is_zero(self, call, queries, keys):
        unscaled = call.layer.use_scale and call.graph.tolerance is not None
        unscaled = unscaled and np.abs(call.graph.value(call.layer.scale)) <= call.graph.tolerance
        return ((queries == 0) & (keys == 0)) | unscaled

    def axes(self, layer):
        return {"scale": EACH}


class AttentionOperation(Rule):
    """The scores and the weighted sum of tensors (batch, steps, heads, size)."""

    def follow(self, call):
        query, key, value = (call.argument(i, name) for i, name in enumerate(("query", "key", "value")))
        _hold_steps(call, (query, key, value), slice(2))
        if query.shape[2] == key.shape[2]:
            heads = agree(call, [edge.axes[2] for edge in (query, key, value)])
            call.graph.grids.cross(heads)
            call.output.axes[2] = heads and heads.with_values(value.axes[2].values)
        else:
            for edge in (query, key, value):
                call.freeze_axis(edge.axes[2], "several queries share a head of the keys")
        sizes = [edge.axes[3] for edge in (query, key, value)]
        if query.shape[3] != value.shape[3]:
            for channels in sizes:
                call.freeze_axis(channels, "Keras takes its output to be as wide as its queries")
        elif agree(call, sizes) is not None and None not in sizes:  # so dimensions of all three leave together
            zero = (sizes[0].values == 0) | (sizes[1].values == 0)
            call.contract(sizes[0].with_values(np.where(zero, 0.0, np.nan)))
            call.output.axes[3] = sizes[2]

    def rebuild(self, builder, call, args, kwargs):
        given = dict(zip(("query", "key", "value", "bias", "mask", "scale"), args, strict=False)) | kwargs
        if given.get("scale") is None:  # by default it is that of the size that it sees
            given["scale"] = call.inputs[0].shape[3] ** -0.5
        return super().rebuild(builder, call, (), given)

    def multiply_adds(self, layer, output, query, key, value, *args, **kwargs):
        return (math.prod(query.shape) + math.prod(output.shape)) * key.shape[1]


def _hold_steps(call, weighed, steps):
    """Keep the steps of the tensors that are weighed by one another, and all of the others, such as masks."""
    for edge in call.inputs:
        for channels in edge.axes[steps] if any(edge is each for each in weighed) else edge.axes:
            call.freeze_axis(channels, "these are the steps that it weighs")


_READS = {"query": "query", "gate": "query", "key": "key", "value": "value"}
"""By projection, the argument of the call that it reads."""


def _named(call):
    return dict(zip(("query", "value", "key"), call.args, strict=False)) | call.kwargs


def _inputs(call):
    """The edges that are weighed by one another, by name."""
    named = _named(call)
    key = named.get("key")
    return {"query": named["query"], "value": named["value"], "key": named["value"] if key is None else key}


def _heads_of_scores(call):
    """The axis of the heads in scores and in a mask of them, from the end."""
    return -2 * len(attention_axes(call.layer)) - 1


def _is_by_head(call):
    """Whether a call is given a mask for each head."""
    given, place = getattr(call.kwargs.get("attention_mask"), "shape", ()), _heads_of_scores(call)
    return len(given) == len(_inputs(call)["query"].shape) + len(attention_axes(call.layer)) and given[place] != 1


def _width(edge, kept):
    channels = edge.axes[-1]
    return edge.shape[-1] if channels is None else kept.width(channels)


for _type in layers("MultiHeadAttention"):
    register_rule(_type, Heads())
for _type in layers("GroupQueryAttention"):
    register_rule(_type, Groups())
register_rule(keras.layers.Attention, Scores())
register_rule(keras.layers.AdditiveAttention, AdditiveScores())
register_rule(operation("DotProductAttention"), AttentionOperation())
