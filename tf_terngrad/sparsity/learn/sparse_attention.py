"""Keras's attention with a mask that learns. What learns, and how, is in attention_mask."""

import functools

import keras

from tf_terngrad.keras_internals import NarrowedAttention
from tf_terngrad.sparsity.learn.attention_mask import AttentionMask
from tf_terngrad.sparsity.rules import register_rule
from tf_terngrad.sparsity.rules.learned_attention import MaskedHeads


@keras.saving.register_keras_serializable(package="tf_terngrad")
class SparseAttention(NarrowedAttention):
    """`keras.layers.MultiHeadAttention` that learns how far each head has to look, and which heads are needed.

    Use it when you have a `keras.layers.MultiHeadAttention`: in its place, for it is one, and before training it
    computes what that one does.

    What it learns is what an `AttentionMask` in the place of its softmax does: see there. `tt.sparsify(model, strength,
    kinds=["offset", "gate"])` lets offsets and heads die that the loss does not need; `tt.compact` makes a
    `MultiHeadAttention` of it, with a constant `attention_mask`, without the heads whose factor is zero; the factors of
    the others go into its output kernel.

    Args:
        num_heads: As `MultiHeadAttention` takes it.
        key_dim: Likewise.
        groups: "offset", "block", "head", or one of the first two with "head", as `AttentionMask` takes it.
        block: The side of a block, in steps; for "block" only.
        each_head: Whether each head has a window of its own; else they share one. Masks that travel with tensors
            (`mask_zero=True`) need a shared one, for Keras's attention takes them for all heads alike.
        **kwargs: What else `MultiHeadAttention` takes.

    Raises:
        TypeError: As `AttentionMask`.
        ValueError: As `AttentionMask`; at build, for a window over more than one axis of steps; when it is called, for
            tensors that come with masks of steps, if each head has a window of its own.

    >>> layer = SparseAttention(num_heads=2, key_dim=4, groups=["head", "offset"])
    >>> layer(np.ones((1, 5, 8)), np.ones((1, 5, 8))).shape
    TensorShape([1, 5, 8])
    >>> [tuple(weight.shape) for weight in layer.attention_mask.weights]  # a factor a head; 8 offsets
    [(2,), (16,)]
    """

    def __init__(self, num_heads, key_dim, *args, groups="offset", block=None, each_head=True, **kwargs):
        super().__init__(num_heads, key_dim, *args, **kwargs)
        self.attention_mask = AttentionMask(groups, block, each_head, name=f"{self.name}_mask", dtype=self.dtype_policy)

    def build(self, query_shape, value_shape, key_shape=None):
        """Builds the projections, and what learns."""
        if self.built:
            return
        super().build(query_shape, value_shape, key_shape)
        if self.attention_mask.groups_of_scores and (len(query_shape) != 3 or len(value_shape) != 3):
            raise ValueError(
                f"SparseAttention {self.name!r}: expected queries and values of shape (batch, steps, width) where a "
                f'window is learned. Received: {query_shape} and {value_shape}. Learn groups="head" there.'
            )
        self.attention_mask.build((None, self.num_heads, query_shape[1], value_shape[1]))

    def learning(self, training):
        """The weights that a window samples, where there is one and it trains."""
        learns = training and self.attention_mask.window is not None
        return functools.partial(self.attention_mask.shares, training=True) if learns else None

    def narrowed(self, mask, steps):
        """What of a mask of so many steps the window leaves."""
        narrowed = self.attention_mask.narrowed(mask, steps)
        return narrowed if narrowed is None or len(narrowed.shape) > 3 else narrowed[None]

    def weighed(self, heads):
        """What each head gives, times its factor."""
        return self.attention_mask.weighed(heads, -2)

    def refuse_masks(self):
        """Raises if each head has a window of its own."""
        if self.attention_mask.window is not None and self.attention_mask.each_head:
            raise ValueError(
                f"SparseAttention {self.name!r}: expected tensors without masks of steps, for each head learns a "
                "window of its own, and Keras's attention takes such masks for all heads alike. Share the window "
                "(each_head=False), or give the mask as attention_mask, without mask_zero or Masking."
            )

    def get_config(self):
        """The configuration of a `MultiHeadAttention`, and what learns."""
        own = self.attention_mask.get_config()
        return {**super().get_config(), **{name: own[name] for name in ("groups", "block", "each_head")}}


register_rule(SparseAttention, MaskedHeads())
