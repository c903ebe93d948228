"""Small transformers of stock layers, as Keras's examples write them. Not a command."""

import keras
from keras import layers, ops

WIDTH, HEADS, UNITS, STEPS, WORDS = 32, 4, 128, 12, 50


def encoder():
    """Words, blocks with their normalization behind the sum, the mean of all steps, as in text classification."""
    given = keras.Input((STEPS,), dtype="int32")
    x = _words(given)
    for _ in range(2):
        x = layers.LayerNormalization()(x + layers.MultiHeadAttention(HEADS, WIDTH // HEADS)(x, x))
        x = layers.LayerNormalization()(x + _feed(x))
    return keras.Model(given, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


def decoder():
    """Words that look at those before them and at an encoder's, with the normalization in front of each sub-layer."""
    given, source = (keras.Input((STEPS,), dtype="int32", name=name) for name in ("words", "source"))
    memory = _encoded(_words(source))
    x = _words(given)
    for _ in range(2):
        y = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(HEADS, WIDTH // HEADS)(y, y, use_causal_mask=True)
        x = x + layers.MultiHeadAttention(HEADS, WIDTH // HEADS)(layers.LayerNormalization()(x), memory)
        x = x + _feed(layers.LayerNormalization()(x))
    return keras.Model([given, source], layers.Dense(WORDS)(layers.LayerNormalization()(x)))


def vision():
    """Patches of an image, a learnt position for each, encoder blocks, all patches read at once."""
    given = keras.Input((32, 32, 3))
    x = layers.Reshape((16, WIDTH))(layers.Conv2D(WIDTH, 8, strides=8)(given))
    x = Positions(16)(x)
    return keras.Model(given, layers.Dense(10)(layers.Flatten()(_encoded(_encoded(x)))))


def grouped():
    """A decoder as in recent language models: grouped queries, gated units, RMSNormalization, one table for words."""
    given = keras.Input((STEPS,), dtype="int32")
    table = layers.ReversibleEmbedding(WORDS, WIDTH)
    x = table(given)
    for _ in range(2):
        y = layers.RMSNormalization()(x)
        x = x + layers.GroupQueryAttention(WIDTH // HEADS, HEADS, 2, use_bias=False)(y, y, use_causal_mask=True)
        y = layers.RMSNormalization()(x)
        gated = layers.Dense(UNITS, "silu", use_bias=False)(y) * layers.Dense(UNITS, use_bias=False)(y)
        x = x + layers.Dense(WIDTH, use_bias=False)(gated)
    return keras.Model(given, table(layers.RMSNormalization()(x), reverse=True))


def by_hand():
    """A decoder whose heads lie in a flat axis, with one projection for queries, keys and values, as in nanoGPT."""
    given = keras.Input((STEPS,), dtype="int32")
    x = _words(given)
    for _ in range(2):
        parts = ops.split(layers.Dense(3 * WIDTH)(layers.LayerNormalization()(x)), 3, axis=-1)
        x = x + layers.Dense(WIDTH)(_attended(*parts))
        x = x + _feed(layers.LayerNormalization()(x))
    return keras.Model(given, layers.Dense(WORDS)(layers.LayerNormalization()(x)))


BUILDERS = {"encoder": encoder, "decoder": decoder, "vision": vision, "grouped": grouped, "by hand": by_hand}
"""By name, the function that makes each."""


class Positions(layers.Layer):
    """Adds a learnt vector for each step."""

    def __init__(self, steps, **options):
        super().__init__(**options)
        self.table = layers.Embedding(steps, WIDTH)

    def call(self, x):
        return x + self.table(ops.arange(x.shape[1]))


def _words(given):
    return Positions(STEPS)(layers.Embedding(WORDS, WIDTH)(given))


def _feed(x):
    return layers.Dense(WIDTH)(layers.Dense(UNITS, "gelu")(x))


def _encoded(x):
    """An encoder's block, with the normalization in front of each sub-layer."""
    y = layers.LayerNormalization()(x)
    x = x + layers.MultiHeadAttention(HEADS, WIDTH // HEADS)(y, y)
    return x + _feed(layers.LayerNormalization()(x))


def _attended(query, key, value):
    query, key, value = (
        ops.transpose(ops.reshape(each, (-1, STEPS, HEADS, WIDTH // HEADS)), (0, 2, 1, 3))
        for each in (query, key, value)
    )
    scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) * (WIDTH // HEADS) ** -0.5
    before = ops.tril(ops.ones((STEPS, STEPS)))
    weights = ops.softmax(ops.where(before > 0, scores, -1e9))
    return ops.reshape(ops.transpose(ops.matmul(weights, value), (0, 2, 1, 3)), (-1, STEPS, WIDTH))
