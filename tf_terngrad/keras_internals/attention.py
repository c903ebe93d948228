"""The parts of an attention layer, and one whose scores take a bias."""

import keras

from tf_terngrad.keras_internals.masks import mask_of


def attention_parts(layer) -> dict:
    """The projections of an attention layer by name ("query", "key", "value", "output", "gate" if it has one)."""
    parts = {name: getattr(layer, f"_{name}_dense", None) for name in ("query", "key", "value", "output", "gate")}
    return {name: part for name, part in parts.items() if part is not None}


def attention_axes(layer) -> tuple:
    """The axes of the values that an attention layer attends over."""
    return getattr(layer, "_attention_axes", None) or (1,)


class BiasedAttention(keras.layers.MultiHeadAttention):
    """Keras's attention, whose scores take a bias and a mask, and whose heads take a factor each.

    `_compute_attention` is what Keras has for attention of other kinds. What is computed is what Keras computes.
    """

    def bias(self, steps):
        """What is added to the scores of so many steps, (1, heads or 1, steps, steps); None: nothing."""
        return None

    def narrowed(self, mask, steps):
        """The mask of the scores, given that of the call, each a tensor of the rank of scores; None: there is none."""
        return mask

    def weighed(self, heads):
        """What each head gives, (batch, steps, heads, size), times its factor."""
        return heads

    def refuse_masks(self):
        """Raise, if masks of steps that travel with tensors cannot be taken."""

    def compute_output_spec(self, query, value, key=None, **options):
        """What Keras says; where a graph is made, this is all that Keras calls."""
        if any(mask_of(tensor) is not None for tensor in (query, value, key)):
            self.refuse_masks()
        return super().compute_output_spec(query, value, key, **options)

    def _compute_attention_mask(self, query, value, query_mask=None, value_mask=None, key_mask=None, **options):
        if any(mask is not None for mask in (query_mask, value_mask, key_mask)):
            self.refuse_masks()
        masks = {"query_mask": query_mask, "value_mask": value_mask, "key_mask": key_mask}
        return super()._compute_attention_mask(query, value, **masks, **options)

    def _compute_attention(self, query, key, value, mask=None, training=None, return_attention_scores=False):
        if mask is not None:
            for _ in range(len(query.shape) + len(attention_axes(self)) - 1 - len(mask.shape)):
                mask = keras.ops.expand_dims(mask, -2 * len(attention_axes(self)) - 1)
            mask = keras.ops.cast(mask, "bool")
        mask = self.narrowed(mask, query.shape[1])
        if self._dropout > 0 or return_attention_scores or len(query.shape) != 4:  # as Keras chooses
            found, scores = super()._compute_attention(query, key, value, mask, training, return_attention_scores)
        else:
            options = {"bias": self.bias(query.shape[1]), "mask": mask, "scale": self._inverse_sqrt_key_dim}
            found, scores = keras.ops.dot_product_attention(query, key, value, **options), None
        return self.weighed(found), scores

    def _masked_softmax(self, attention_scores, attention_mask=None):
        bias = self.bias(attention_scores.shape[-1])
        return super()._masked_softmax(attention_scores if bias is None else attention_scores + bias, attention_mask)
