"""The softmax that learns where attention has to look: a mask over scores, by offset or block, and a factor a head.

A score that is masked stays masked in the smaller model, as a constant that Keras's own layers take. That is why the
mask is all or nothing: numbers between would have no place in a stock layer.
"""

import keras
import numpy as np
from keras import ops

from tf_terngrad import checks
from tf_terngrad.sparsity.learn import hooks
from tf_terngrad.sparsity.rules import register_rule
from tf_terngrad.sparsity.rules.learned_attention import MaskedSoftmax, both, masked

_register = keras.saving.register_keras_serializable(package="tf_terngrad")

GROUPS = ("head", "offset", "block")

CREDIT = 0.1
"""What the weight of a group of scores begins with, and has at most: small, so that few updates show what matters.

A group that is not seen in a step changes the loss as if it joined, one that is seen as if it left. Only both ends show
what it is worth: where all the attention goes through one group, the loss has no slope, however much it would lose.
"""

LEAST_REST = 1e-3
"""The least share that the scores beside a group count with."""

LEAST_CHANCE = 0.1
"""The least probability of what was drawn that a gradient is divided by; of less, it would be mostly noise."""


@_register
class Credited(keras.constraints.Constraint):
    """Weights that stay between zero and the credit."""

    def __call__(self, w):
        return ops.clip(w, 0.0, CREDIT)


@_register
class AttentionMask(keras.layers.Layer):
    """A softmax over scores that learns which steps have to look at which, and which heads are needed.

    Use it when you write attention yourself: in place of its softmax. For `keras.layers.MultiHeadAttention` there is
    `SparseAttention`.

    `y[h] = g[h] * softmax(scores[h])`, over the scores whose `m > 0`; the others are masked. `m` begins at 0.1 and is
    between 0 and 0.1. Under `tt.sparsify(model, strength)` a step of training sees a group with the probability
    `m / 0.1`, so that the loss is known with it and without it. The gradient of `m` is how much the loss falls or rises
    with the group, to first order from where the weights are, `-dL/dm = sum_k (p' - p)_k dL/dp_k` for the shares `p` of
    a query with the group and `p'` without it, as if both were drawn equally often. So a group stays that is worth more
    than the strength, and any other becomes zero, for good. Without a penalty `m` does not learn. What `tt.compact`
    makes of it is a `Softmax` of scores with a constant mask, which gives the same outputs.

    A step may always look at itself, so that a softmax never runs over nothing: there is no `m` for offset 0, and none
    for the blocks on the diagonal.

    Args:
        groups: what learns, one or two: "offset" (one `m` for each distance of query and key: a learned window) or
            "block" (one for each square of positions), and "head" (a factor `g` for each head, which begins at one).
        block: the side of a block, in steps; for "block" only.
        each_head: whether each head has an `m` of its own; else they share it.
        **kwargs: `name` and the like, as any Keras layer takes them.

    Call arguments:
        scores: tensor (..., heads, steps, steps) or, of one head, (batch, steps, steps), before the softmax.
        allowed: Boolean tensor that broadcasts to the scores, True where a step may look; None: everywhere. Where a
            step may look nowhere, it looks everywhere alike.
        training: whether the window learns in this call, if there is a penalty on it.

    Raises:
        TypeError: if `groups` is no text or list of texts, `block` no integer, `each_head` no Boolean.
        ValueError: for unknown groups, for both "offset" and "block", for a block without "block" or the other way
            round; at build, if the number of heads or steps is not known, or queries and keys differ in their number.

    Source: the mask over attention that Wen proposes in a talk on structured sparsity; compare adaptive spans
    (Sukhbaatar et al., 2019) and gates on heads (Voita et al., 2019).

    >>> layer = AttentionMask("offset")
    >>> layer.build((None, 2, 3, 3))
    >>> seen = layer.window.assign(np.repeat([0.0, 0.1], 4))  # a step of head 0 sees itself, one of head 1 all
    >>> np.round(layer(np.zeros((1, 2, 3, 3))).numpy()[0, :, 1].astype(float), 2).tolist()
    [[0.0, 1.0, 0.0], [0.33, 0.33, 0.33]]
    """

    def __init__(self, groups="offset", block=None, each_head=True, **kwargs):
        super().__init__(**kwargs)
        owner = f"{type(self).__name__} {self.name!r}"
        self.groups = checks.strings(groups, "groups", owner, or_one=True)
        for group in self.groups:
            checks.one_of(group, GROUPS, "groups", owner)
        if not self.groups or {"offset", "block"} <= {*self.groups}:
            expected = '"head", and at most one of "offset" and "block"'
            raise ValueError(checks.refusal(owner, "groups", expected, groups))
        if ("block" in self.groups) != (block is not None):
            expected = 'a number of steps where groups has "block", and None elsewhere'
            raise ValueError(checks.refusal(owner, "block", expected, block))
        self.block = checks.integer(block, "block", owner, least=1, or_none=True)
        self.each_head = checks.flag(each_head, "each_head", owner)
        self.softmax = keras.layers.Softmax(dtype=self.dtype_policy)
        self.gate = self.window = self.kinds = self.seed_generator = None

    @property
    def groups_of_scores(self):
        """What its window is made of, "offset" or "block"; None if there is no window."""
        return next((group for group in self.groups if group != "head"), None)

    def build(self, scores_shape):
        """Makes a factor for each head, and a weight for each group of scores."""
        if self.built:
            return
        queries, keys = scores_shape[-2:]
        heads = scores_shape[-3] if len(scores_shape) > 3 else 1
        if heads is None or len(scores_shape) < 3:
            expected = "(batch, heads, steps, steps) with a known number of heads, or (batch, steps, steps)"
            raise ValueError(
                f"{type(self).__name__} {self.name!r}: expected scores of shape {expected}. Received: {scores_shape}."
            )
        if "head" in self.groups:
            self.gate = self._weight(heads, "gate", 1.0, keras.constraints.NonNeg())
        if self.groups_of_scores:
            self._check_steps(queries, keys)
            self.index, self.kinds = numbered(*(blocks(queries, self.block) if self.block else offsets(queries)))
            rows = heads if self.each_head else 1
            self.window = self._weight(rows * len(self.kinds), "window", CREDIT, Credited())
            self.seed_generator = keras.random.SeedGenerator()
        self.built = True

    def call(self, scores, allowed=None, training=None):
        """The weights with which each step looks at the others."""
        return self.weighed(self.shares(scores, allowed, training), -3)

    def shares(self, scores, allowed=None, training=None):
        """The softmax without the factors of the heads."""
        steps = scores.shape[-1]
        trains = training and self.window is not None
        if not trains or all(owner.released for owner in hooks.owners([self.window])):
            shares = self.softmax(masked(scores, self.narrowed(allowed, steps)))
            if trains:  # Keras warns of variables without a gradient
                shares += ops.cast(0 * ops.sum(self.window), shares.dtype)
            return shares
        drawn = keras.random.uniform(self.window.shape, seed=self.seed_generator) < self.window / CREDIT
        seen = self._spread(drawn, True, steps)
        shares = self.softmax(masked(scores, both(allowed, seen)))
        change = self._spread(self._weighed_change(drawn), 0.0, steps)
        return shares + ops.cast(self._credit(change, scores, allowed, seen, shares), shares.dtype)

    def compute_output_shape(self, scores_shape):
        """The shape does not change."""
        return scores_shape

    def narrowed(self, mask, steps):
        """What of a mask of so many steps the window leaves; a step that the window masks is False."""
        if self.window is None:
            return mask
        return both(mask, self._spread(self.window > 0, True, steps))

    def weighed(self, tensor, axis):
        """A tensor times the factor of each head; `axis`: its axis of heads, from the end."""
        if self.gate is None:
            return tensor
        return tensor * ops.cast(ops.reshape(self.gate, (-1,) + (1,) * (-axis - 1)), tensor.dtype)

    def seen(self, tolerance=0.0):
        """Which scores are not masked, a Boolean array (heads or 1, steps, steps); None if there is no window.

        Args:
            tolerance: a group counts as masked up to this weight.
        """
        if self.window is None:
            return None
        groups = ops.convert_to_numpy(self.window).reshape(-1, len(self.kinds)) > tolerance
        return np.concatenate([groups, np.ones((len(groups), 1), bool)], 1)[:, self.index]

    def get_config(self):
        """The groups, plain values."""
        own = {"groups": list(self.groups), "block": self.block, "each_head": self.each_head}
        return {**super().get_config(), **own}

    def _weight(self, size, name, first, constraint):
        first = keras.initializers.Constant(first)
        return self.add_weight((size,), first, constraint=constraint, name=name, autocast=False)

    def _weighed_change(self, drawn):
        """Zeros with the gradient of m, weighed as if each group were seen half of the time; what is dead has none."""
        window = ops.stop_gradient(self.window)
        often = ops.where(drawn, window / CREDIT, 1 - window / CREDIT)
        weight = ops.where(window > 0, 0.5 / ops.maximum(often, LEAST_CHANCE), 0.0)
        return (self.window - window) * weight

    def _credit(self, change, scores, allowed, seen, shares):
        """Zeros that carry to m what its group changes: sum_k (p - p')_k dL/dp_k, with the shares p, and p' without it.

        Where others have a share below 0.001, it counts as 0.001: float32 does not know them better.
        """
        scores, shares = (ops.stop_gradient(ops.cast(each, "float32")) for each in (scores, shares))
        low = scores if allowed is None else ops.where(ops.cast(allowed, "bool"), scores, -np.inf)
        parts = ops.exp(low - ops.maximum(ops.max(low, axis=-1, keepdims=True), -1e30))
        total = ops.sum(ops.where(seen, parts, 0.0), axis=-1, keepdims=True) + self._of_groups(parts)
        leaving = shares / ops.maximum(1 - self._of_groups(shares), LEAST_REST)
        moved = change * ops.where(seen, leaving, parts / ops.maximum(total, 1e-30))
        return moved - shares * ops.sum(moved, axis=-1, keepdims=True)

    def _of_groups(self, shares):
        """For each key the sum over those of its group, (..., steps, steps); an offset has one key for each query."""
        if self.block is None:
            return shares
        _, together = blocks(shares.shape[-1], self.block)
        return ops.matmul(shares, together.astype("float32"))

    def _spread(self, groups, always, steps):
        """The value of each score's group; `always` where a step may always look."""
        if steps is not None and steps > len(self.index):
            raise ValueError(
                f"{type(self).__name__} {self.name!r}: expected at most {len(self.index)} steps, for which it was "
                f"built. Received: {steps}. Build it for the longest sequence first."
            )
        groups = ops.reshape(groups, (-1, len(self.kinds)))
        fixed = ops.full((groups.shape[0], 1), always, groups.dtype)
        return ops.take(ops.concatenate([groups, fixed], 1), self.index[:steps, :steps], axis=1)

    def _check_steps(self, queries, keys):
        owner = f"{type(self).__name__} {self.name!r}"
        if None in (queries, keys):
            raise ValueError(
                f"{owner}: expected a known number of steps, for each offset or block has a weight of its own. "
                f"Received: {queries} queries, {keys} keys. Give the model an input of a known length, or learn "
                'groups="head".'
            )
        if queries != keys:
            raise ValueError(
                f"{owner}: expected as many queries as keys, for a step may always look at itself. Received: {queries} "
                f'queries, {keys} keys. For attention to another sequence learn groups="head".'
            )


def offsets(steps):
    """The distance of each query from each key, (steps, steps), and where it is zero.

    >>> offsets(2)[0].tolist()  # positive: the key lies behind
    [[0, -1], [1, 0]]
    """
    places = np.arange(steps)
    found = places[:, None] - places
    return found, found == 0


def blocks(steps, side):
    """The number of each score's block, (steps, steps), and which blocks lie on the diagonal.

    >>> blocks(4, 2)[0].tolist()
    [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    """
    places = np.arange(steps) // side
    count = -(-steps // side)
    return places[:, None] * count + places, places[:, None] == places


def numbered(kinds, always):
    """The number of each score's group, the last one where a step may always look; and the kind of each but that."""
    found, number = np.unique(kinds[~always], return_inverse=True)
    index = np.full(kinds.shape, len(found))
    index[~always] = number.ravel()
    return index, found


register_rule(AttentionMask, MaskedSoftmax())
