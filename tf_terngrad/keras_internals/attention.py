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


class NarrowedAttention(keras.layers.MultiHeadAttention):
    """Keras's attention, whose mask takes another one, whose heads take a factor each, and whose weights can learn.

    `_compute_attention` is what Keras has for attention of other kinds. What is computed is what Keras computes.
    """

    def narrowed(self, mask, steps):
        """The mask of the scores, given that of the call, each a tensor of the rank of scores; None: there is none."""
        return mask

    def learning(self, training):
        """What gives the weights of scores and their mask in a call that learns; None: what Keras does is enough."""
        return None

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
        weigh = self.learning(training)
        if weigh is None:
            mask = self.narrowed(mask, query.shape[1])
            found, weights = super()._compute_attention(query, key, value, mask, training, return_attention_scores)
        else:
            scores = keras.ops.einsum(self._dot_product_equation, key, query * self._inverse_sqrt_key_dim)
            weights = weigh(scores, mask)
            dropped = self._dropout_layer(weights, training=training)
            found = keras.ops.einsum(self._combine_equation, dropped, value)
        return self.weighed(found), weights
