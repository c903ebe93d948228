"""The heads of attention layers: which are left, how much their dimensions weigh, and what each of them looks at."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf
from keras import tree

from tf_terngrad import checks
from tf_terngrad.keras_internals import attention_parts, graph_of, is_graph, nodes
from tf_terngrad.sparsity.graph.replay import replay
from tf_terngrad.sparsity.graph.stand_in import entering
from tf_terngrad.sparsity.graph.symbolic import is_array
from tf_terngrad.sparsity.learn.attention_mask import AttentionMask
from tf_terngrad.sparsity.rules import rule_for
from tf_terngrad.sparsity.rules.attention import Heads as HeadsRule
from tf_terngrad.sparsity.rules.learned_attention import by_head

EXAMPLES = 64  # of the data that a report runs


@dataclasses.dataclass(frozen=True)
class Heads:
    """One attention layer, before compaction; arrays have one row a head.

    Args:
        title: the layer.
        left: Boolean (heads,): which heads left the model.
        weights: by "keys" and "values" the pair of what each dimension weighs, (heads, size), and of which of them
            stay, Boolean (size,); empty for a softmax that stands by itself.
        seen: the share of the scores at each offset that a learned mask leaves, (heads, offsets), without those that
            the calls of the layer rule out, as causal ones do; None without a learned mask.
        looks: the mean weight with which a query looks at the key at each offset, likewise; None without data.
        offsets: how many steps the key lies behind the query, increasing; negative: ahead.
    """

    title: str
    left: np.ndarray
    weights: dict
    seen: np.ndarray | None = None
    looks: np.ndarray | None = None
    offsets: np.ndarray | None = None

    @property
    def scores(self):
        """The share of the scores that the heads that stay need; None where nothing is masked."""
        if self.seen is None or self.left.all():
            return None
        steps = (len(self.offsets) + 1) // 2 - np.abs(self.offsets)
        return float((self.seen[~self.left] * steps).sum() / ((~self.left).sum() * steps.sum()))

    @property
    def reach(self):
        """How many steps behind and ahead the heads that stay see at most; None where nothing is masked."""
        if self.seen is None or self.left.all():
            return None
        found = self.offsets[self.seen[~self.left].any(0)]
        return int(found.max()), int(-found.min())


def heads_of(pairs, known, allowed, looks):
    """The `Heads` of each attention layer.

    Args:
        pairs: (cost before, cost after) a layer, as a report matches them; None where there is none.
        known: what became of variables, a `Fate` by id of the old one.
        allowed: what `allowed_in` gave.
        looks: what `looks_of` gave.
    """
    found = []
    for before, after in pairs:
        layer = before and before.layer
        scores = allowed.get(id(layer), True), looks.get(id(layer))
        if isinstance(layer, AttentionMask):
            found.append(_of_mask(before.path, layer, known, *scores))
        elif layer is not None and projections(layer):
            found.append(_of_layer(before.path, layer, after, known, *scores))
    return found


def allowed_in(model):
    """The scores that the calls of each learned mask allow, Boolean (queries, keys) by id of the layer.

    Where no call says so in numbers, all are allowed. `model`: opened.
    """
    found = {}
    for node in nodes(graph_of(model)):
        layer = node.operation
        inside = allowed_in(layer) if is_graph(layer) else {id(layer): _allowed(layer, node.arguments)}
        for key, each in inside.items():
            found[key] = _either(found.get(key, np.False_), each)
    return found


def _either(one, other):
    return one | other if np.ndim(one) == 0 or np.shape(one) == np.shape(other) else np.True_


def _allowed(layer, arguments):
    """What one call allows; True: all."""
    if arguments.kwargs.get("use_causal_mask"):
        queries, keys = (tensor.shape[1] for tensor in arguments.keras_tensors[:2])
        return np.True_ if None in (queries, keys) else np.tri(queries, keys, dtype=bool)
    given = [*arguments.args[1:2], arguments.kwargs.get("allowed")] if isinstance(layer, AttentionMask) else []
    arrays = [np.asarray(each, bool) for each in given if is_array(each)]
    return arrays[0].reshape(-1, *arrays[0].shape[-2:]).any(0) if arrays else np.True_


def looks_of(model, examples):
    """The mean weights of each attention layer on some examples, (heads, queries, keys) by id of the layer.

    Args:
        model: a built model, opened.
        examples: an array, or one for each input of the model.
    """
    arrays = [np.asarray(array)[:EXAMPLES] for array in tree.flatten(examples)]
    if len(arrays) != len(model.inputs):
        expected = f"an array for each of the {len(model.inputs)} inputs of model {model.name!r}"
        raise ValueError(checks.refusal("compare", "examples", expected, [array.shape for array in arrays]))
    watch = _Watch()
    pairs = zip(arrays, model.inputs, strict=True)
    replay(model, [_Value(keras.ops.convert_to_tensor(array, tensor.dtype)) for array, tensor in pairs], watch.call)
    return {key: np.mean(means, 0) for key, means in watch.means.items()}


@dataclasses.dataclass
class _Value:
    """A tensor that flows through a model; constants that a layer is given do not."""

    tensor: tf.Tensor


class _Watch:
    """Runs a model call by call, and keeps the weights of its attention layers, the mean of each call."""

    def __init__(self):
        self.means = {}

    def call(self, node, args, kwargs):
        """The outputs of a call."""
        layer = node.operation
        if is_graph(layer):
            return replay(layer, entering(layer, args, kwargs, _Value), self.call)
        args, kwargs = tree.map_structure(lambda v: v.tensor if isinstance(v, _Value) else v, (args, kwargs))
        outputs = tree.flatten(self._outputs(layer, args, kwargs))
        return list(map(_Value, outputs[: len(tree.flatten(node.output_tensors))]))

    def _outputs(self, layer, args, kwargs):
        scored = bool(projections(layer))
        outputs = layer(*args, **{**kwargs, **({"return_attention_scores": True} if scored else {})})
        weights = outputs[1] if scored else outputs if isinstance(layer, AttentionMask) else None
        if weights is not None and len(weights.shape) in (3, 4):  # of one head, or of several
            mean = np.asarray(weights, np.float64).mean(0)
            self.means.setdefault(id(layer), []).append(mean.reshape(-1, *mean.shape[-2:]))
        return outputs


def of_scores(heads):
    """A sentence on the scores that a layer computes and does not need; none where nothing is masked."""
    if heads.scores is None or heads.scores == 1:
        return ""
    behind, ahead = heads.reach
    return (
        f"{heads.title}: its heads look at most {behind} steps back and {ahead} ahead, at {heads.scores:.0%} of the "
        "scores. Keras computes all scores and masks the others, so the multiply-adds count them all; a kernel for "
        "local attention would save them."
    )


def projections(layer):
    """The projections of an attention layer by name; none of any other layer."""
    return attention_parts(layer) if isinstance(rule_for(layer), HeadsRule) else {}


def by_offset(scores):
    """The mean over each diagonal of (heads, queries, keys): (heads, offsets), and how far each key lies behind.

    >>> by_offset(np.array([[[1.0, 0.0], [0.6, 0.4]]]))
    (array([[0. , 0.7, 0.6]]), array([-1,  0,  1]))
    """
    queries, keys = scores.shape[1:]
    offsets = np.arange(1 - keys, queries)
    return np.stack([scores.diagonal(-offset, 1, 2).mean(-1) for offset in offsets], -1), offsets


def _of_mask(title, mask, known, allowed, looks):
    """A softmax with a mask that stands by itself: nothing is known of its heads' weights."""
    heads = len(looks if looks is not None else mask.seen() if mask.gate is None else mask.gate.numpy())
    left = np.zeros(heads, bool) if mask.gate is None else mask.gate.numpy() == 0
    for variable in by_head(mask):
        if id(variable) in known:
            stay = np.isin(np.arange(variable.shape[0]), known[id(variable)].kept[0])
            left = left | ~stay.reshape(heads, -1).any(1)
    return _with_offsets(Heads(title, left, {}), mask, allowed, looks)


def _of_layer(title, layer, after, known, allowed, looks):
    parts = projections(layer)
    query, key, value, output = (parts[name].kernel for name in ("query", "key", "value", "output"))
    heads, mask = query.shape[1], getattr(layer, "attention_mask", None)
    left, keys, values = (_gone(*place, known, after) for place in ((query, 1), (query, 2), (value, 2)))
    sizes = [_norms(each, (0,)) for each in (query, key, value)]
    sizes = [np.repeat(each, heads // len(each), 0) for each in sizes]
    out = _norms(output, tuple(range(2, len(output.shape))))
    if mask is not None and mask.gate is not None:
        out = out * np.abs(mask.gate.numpy())[:, None]
    pairs = {"keys": (sizes[0] * sizes[1], keys), "values": (sizes[2] * out, values)}
    weights = {name: (np.sqrt(product), ~gone) for name, (product, gone) in pairs.items()}
    return _with_offsets(Heads(title, left, weights), mask, allowed, looks)


def _with_offsets(found, mask, allowed, looks):
    """The heads of a layer, with what they see and look at by offset."""
    seen = mask.seen() if isinstance(mask, AttentionMask) else None
    seen = None if seen is None else seen & allowed
    scores = [None if each is None else np.asarray(each, np.float64) for each in (seen, looks)]
    whole = [each for each in scores if each is not None]
    if not whole:
        return found
    spread = [None if each is None else np.broadcast_to(each, (len(found.left), *each.shape[1:])) for each in scores]
    means = [None if each is None else by_offset(each)[0] for each in spread]
    return dataclasses.replace(found, seen=means[0], looks=means[1], offsets=by_offset(whole[0])[1])


def _gone(variable, axis, known, after):
    """Which positions along an axis of a variable left; none where nobody knows."""
    fate, size = known.get(id(variable)), variable.shape[axis]
    if after is None:
        return np.ones(size, bool)
    return np.zeros(size, bool) if fate is None or fate.new is None else ~np.isin(np.arange(size), fate.kept[axis])


def _norms(kernel, axes):
    return np.sqrt(np.square(keras.ops.convert_to_numpy(kernel).astype(np.float64)).sum(axes))
