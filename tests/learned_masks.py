"""Models whose attention has a learnable mask, as a layer and by hand, and masks that training may leave."""

import keras
import numpy as np
from keras import layers, ops
from laws import randomize

import tf_terngrad as tt
from tf_terngrad.keras_internals import all_layers

WIDTH, STEPS, HEADS, SIZE = 12, 6, 3, 4


class Attend(layers.Layer):
    """Attention as people write it, with a softmax of ours."""

    def __init__(self, causal=False, **options):
        super().__init__()
        self.parts = [layers.Dense(HEADS * SIZE, name=name) for name in ("query", "key", "value")]
        self.out, self.causal = layers.Dense(WIDTH, name="out"), causal
        self.mask = tt.layers.AttentionMask(name="mask", **options)

    def call(self, x):
        q, k, v = (ops.transpose(ops.reshape(p(x), (-1, STEPS, HEADS, SIZE)), (0, 2, 1, 3)) for p in self.parts)
        allowed = ops.tril(ops.ones((STEPS, STEPS))) > 0 if self.causal else None
        weights = self.mask(ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) / SIZE**0.5, allowed=allowed)
        return self.out(ops.reshape(ops.transpose(ops.matmul(weights, v), (0, 2, 1, 3)), (-1, STEPS, HEADS * SIZE)))


def one_head(x, **options):
    scores = ops.matmul(layers.Dense(SIZE)(x), ops.transpose(layers.Dense(SIZE)(x), (0, 2, 1)))
    return ops.matmul(tt.layers.AttentionMask(name="mask", **options)(scores), layers.Dense(WIDTH)(x))


def sparse(x, attend=None, call=None, **options):
    layer = tt.layers.SparseAttention(HEADS, SIZE, name="attention", **options)
    return layer(x, x, **(call or {}))


def twice(x):
    layer = tt.layers.SparseAttention(HEADS, SIZE, name="attention", groups=ALL)
    return layer(x, x) + ops.pad(layer(x[:, 2:], x[:, 2:]), [(0, 0), (1, 1), (0, 0)])


ALL = ["head", "offset"]

MASKS = np.random.default_rng(0).random((1, HEADS, STEPS, STEPS)) < 0.7

CASES = {
    "offsets": lambda x: sparse(x, groups=ALL),
    "offsets of all heads": lambda x: sparse(x, groups=ALL, each_head=False),
    "blocks": lambda x: sparse(x, groups=["head", "block"], block=2),
    "blocks that do not divide": lambda x: sparse(x, groups="block", block=4),
    "heads": lambda x: sparse(x, groups="head"),
    "causal": lambda x: sparse(x, groups=ALL, call={"use_causal_mask": True}),
    "given a mask": lambda x: sparse(x, groups=ALL, call={"attention_mask": np.tri(STEPS, k=1)[None] > 0}),
    "given a mask for each head": lambda x: sparse(x, groups=ALL, call={"attention_mask": MASKS}),
    "dropout": lambda x: sparse(x, groups=ALL, dropout=0.3),
    "scores": lambda x: sparse(x, groups=ALL, call={"return_attention_scores": True})[0],
    "no bias": lambda x: sparse(x, groups=ALL, use_bias=False, value_dim=5),
    "called on fewer steps too": lambda x: twice(x),
    "residual": lambda x: x + sparse(x, groups=ALL),
    "by hand": lambda x: Attend(groups=ALL)(x),
    "by hand, causal": lambda x: Attend(causal=True, groups=ALL, each_head=False)(x),
    "by hand, blocks": lambda x: Attend(groups=["block"], block=3)(x),
    "by hand, one head": lambda x: x + one_head(x, groups=ALL),
    "by hand, one head, blocks": lambda x: one_head(x, groups="block", block=2),
}  # fmt: skip


def model_of(attend, learned=True, seed=0):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((STEPS, 5))
    x = attend(layers.Dense(WIDTH, name="front")(inputs))
    model = randomize(keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x))))
    for mask in masks(model):
        learn(mask, np.random.default_rng(seed + 1) if learned else None)
    return model


def masks(model):
    return [layer for layer in all_layers(model) if isinstance(layer, tt.layers.AttentionMask)]


def learn(mask, rng=None):
    """Weights that training may leave: zeros, ones and numbers between; all ones without a generator."""
    for weight in mask.weights:
        values = (
            np.ones(weight.shape)
            if rng is None
            else rng.uniform(0.1, 1, weight.shape) * (rng.random(weight.shape) < 0.6)
        )
        weight.assign(values)
