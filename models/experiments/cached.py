"""A decoder that is given one word at a time, and keeps the keys and values of the words before."""

import keras
from keras import ops

from tf_terngrad.keras_internals import attention_parts
from tf_terngrad.sparsity.graph.replay import replay


def cached(model: keras.Model) -> keras.Model:
    """The same decoder for one word at a time: what it gives for word t, and what it has to keep until the next.

    Its inputs are a word (1, 1), its position (1, 1), and of each attention the keys and values of all positions,
    (1, steps, heads, dimensions), zeros at first; its outputs are the logits (1, 1, vocabulary) and the same caches
    with this word's own in their place, under the names of the inputs. A text ends with the last position: the table
    of positions has no more.

    Args:
        model: `models.decoder_lm.decoder_lm`, or a smaller one that `tt.compact` made of it.
    """
    steps = model.input_shape[1]
    word, position = (keras.Input(batch_shape=(1, 1), dtype="int32", name=name) for name in ("word", "position"))
    given, kept = {}, {}

    def follow(node, args, kwargs):
        layer = node.operation
        if isinstance(layer, keras.layers.MultiHeadAttention):
            return _attend(layer, args[0], position, steps, given, kept)
        return layer(position if layer.name == "positions" else args[0], *args[1:], **kwargs)

    (logits,) = replay(model, [word], follow)
    return keras.Model({"word": word, "position": position, **given}, {"logits": logits, **kept}, name=model.name)


def _attend(layer, x, position, steps, given, kept):
    """What an attention layer without biases gives for one word; its caches join `given` and `kept`."""
    kernels = {name: part.kernel for name, part in attention_parts(layer).items()}
    caches, here = {}, ops.reshape(ops.equal(ops.arange(steps), position), (1, steps, 1, 1))
    for part in ("key", "value"):
        name, made = f"{layer.name}_{part}", ops.einsum("btd,dhk->bthk", x, kernels[part])
        given[name] = keras.Input(batch_shape=(1, steps, *made.shape[2:]), name=name)
        caches[part] = kept[name] = ops.where(here, made, given[name])
    query = ops.einsum("btd,dhk->bthk", x, kernels["query"]) / kernels["query"].shape[-1] ** 0.5
    scores = ops.einsum("bthk,bshk->bhts", query, caches["key"])
    seen = ops.reshape(ops.less_equal(ops.arange(steps), position), (1, 1, 1, steps))
    weights = ops.softmax(ops.where(seen, scores, -1e9))
    return ops.einsum("bthv,hvd->btd", ops.einsum("bhts,bshv->bthv", weights, caches["value"]), kernels["output"])
