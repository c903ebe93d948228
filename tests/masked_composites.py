"""Composites as people write them, by what they do with masks, and models that show it."""

import keras
import pytest
from keras import layers, ops
from laws import randomize


class Feed(layers.Layer):
    """It hands the mask on, for it says so."""

    def __init__(self, width=6):
        super().__init__()
        self.inner, self.outer = layers.Dense(2 * width, "relu"), layers.Dense(width)
        self.supports_masking = True

    def call(self, x):
        return ops.tanh(x + self.outer(self.inner(x)))


class Zeroing(Feed):
    """It takes the mask, too."""

    def call(self, x, mask=None):
        x = super().call(x)
        return x if mask is None else x * ops.cast(mask, x.dtype)[..., None]


class Forgetting(layers.Layer):
    """It says nothing of masks, and computes with a weight by itself: what comes behind sees none."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 6), name="kernel")
        self.bias = self.add_weight(shape=(6,), name="bias")

    def call(self, x):
        return ops.matmul(x, self.kernel) + self.bias


class Transparent(layers.Layer):
    """It says nothing of masks, but its layers do."""

    def __init__(self):
        super().__init__()
        self.steps, self.last = layers.GRU(6, return_sequences=True), layers.Dense(6)

    def call(self, x):
        return self.last(self.steps(x))


class Halving(layers.Layer):
    """Every other step, and a mask to match."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(6)

    def call(self, x, mask=None):
        return self.dense(x)[:, ::2]

    def compute_mask(self, inputs, mask=None):
        return None if mask is None else mask[:, ::2]


class Tokens(layers.Layer):
    """Two tables; where the words end says the first of them."""

    def __init__(self):
        super().__init__()
        self.token, self.position = layers.Embedding(5, 6, mask_zero=True), layers.Embedding(6, 6)

    def call(self, ids):
        return self.token(ids) + self.position(ops.arange(ops.shape(ids)[-1]))

    def compute_mask(self, ids, mask=None):
        return self.token.compute_mask(ids)


class Attending(layers.Layer):
    """A transformer's block; attention reads the masks of its queries and values."""

    def __init__(self):
        super().__init__()
        self.attention = layers.MultiHeadAttention(2, 3)
        self.sum, self.norm, self.feed = layers.Add(), layers.LayerNormalization(), Feed()
        self.supports_masking = True

    def call(self, x, training=None):
        x = self.norm(self.sum([x, self.attention(x, x, training=training)]))
        return self.feed(x)


class Decoding(layers.Layer):
    """A translation's decoder, whose feed-forward part is a model in it; the last normalization has the mask."""

    def __init__(self):
        super().__init__()
        self.attention, self.across = layers.MultiHeadAttention(2, 3), layers.MultiHeadAttention(2, 3)
        self.feed = keras.Sequential([layers.Dense(12, "relu"), layers.Dense(6)])
        self.norms, self.sum = [layers.LayerNormalization() for _ in range(3)], layers.Add()
        self.supports_masking = True

    def call(self, inputs, mask=None):
        x, encoded = inputs
        own, others = mask or (None, None)
        x = self.norms[0](self.sum([x, self.attention(x, x, query_mask=own, use_causal_mask=True)]))
        x = self.norms[1](self.sum([x, self.across(x, encoded, query_mask=own, key_mask=others)]))
        return self.norms[2](self.sum([x, self.feed(x)]))


class Crossing(layers.Layer):
    """Two sequences, the mask of one of them."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(6)

    def call(self, query, value, value_mask=None):
        scores = ops.matmul(self.dense(query), ops.transpose(self.dense(value), (0, 2, 1)))
        if value_mask is not None:
            scores = scores - 1e9 * (1 - ops.cast(value_mask, "float32"))[:, None]
        return ops.matmul(ops.softmax(scores), value)


class Recalling(layers.Layer):
    """Attention to steps that are weights; the mask of the queries goes on."""

    def __init__(self):
        super().__init__()
        self.attention = layers.Attention()

    def build(self, shape):
        self.memory = self.add_weight(shape=(1, 4, shape[-1]), name="memory")

    def call(self, x):
        return self.attention([x, self.memory])


class Mean(layers.Layer):
    """The mean of the steps that are there; no mask is left."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(6, "relu")
        self.supports_masking = True

    def call(self, x, mask=None):
        x = self.dense(x)
        if mask is None:
            return ops.mean(x, 1)
        shown = ops.cast(mask, x.dtype)[..., None]
        return ops.sum(x * shown, 1) / (ops.sum(shown, 1) + 1e-3)

    def compute_mask(self, inputs, mask=None):
        return None


class Stack(keras.layers.Layer):
    """Composites in a composite that are told `training`."""

    def __init__(self):
        super().__init__()
        self.parts, self.supports_masking = [Zeroing(), Feed(), Attending()], True

    def call(self, x, training=None):
        for part in self.parts:
            x = part(x, training=training) if isinstance(part, Attending) else part(x)
        return x


def words(ids):
    return layers.Embedding(5, 6, mask_zero=True, name="words")(ids)


def explicit(ids):
    mask = ops.not_equal(ids, 0)
    return Zeroing()(layers.Embedding(5, 6, name="words")(ids), mask=mask)


class After(layers.Layer):
    """A recurrent layer reads what attention has taken the mask off, with what attention gives."""

    def __init__(self):
        super().__init__()
        self.attention, self.sum, self.steps = layers.MultiHeadAttention(2, 3), layers.Add(), layers.LSTM(6)

    def call(self, x):
        return self.steps(self.sum([x, self.attention(x, x)]))


def decoded(ids):
    return Decoding()([words(ids), layers.Embedding(5, 6, mask_zero=True, name="source")(ids)])


def crossed(ids):
    x = words(ids)
    return Crossing()(layers.Dense(6, name="query")(x), x)


STYLES = {
    "handed on": lambda ids: Feed()(words(ids)),
    "taken": lambda ids: Zeroing()(words(ids)),
    "taken as an argument": explicit,
    "forgotten": lambda ids: Forgetting()(words(ids)),
    "left by parts": lambda ids: Transparent()(words(ids)),
    "changed": lambda ids: Halving()(words(ids)),
    "made": lambda ids: Tokens()(ids),
    "read by attention": lambda ids: Attending()(words(ids)),
    "decoded": decoded,
    "through a model": lambda ids: keras.Sequential([layers.Dense(6), layers.LayerNormalization()])(words(ids)),
    "beside a weight": lambda ids: Recalling()(words(ids)),
    "of one of two": crossed,
    "told training": lambda ids: Stack()(words(ids)),
    "blocks": lambda ids: Attending()(Attending()(words(ids))),
    "one after another": lambda ids: Feed()(Forgetting()(Zeroing()(Halving()(words(ids))))),
}

NOT_READ = ("changed", "one after another")
"""In these a call is given a mask that it does not read."""

WANTS_READERS = tuple(map(int, keras.__version__.split(".")[:2])) < (3, 14)
"""Whether this Keras refuses a graph with an input that nothing reads; such a call stays closed there."""

# Keras's own words for what a layer that says nothing of masks is given; it has them for the user's model too.
QUIET = pytest.mark.filterwarnings("ignore:Layer '.*' .* was passed an input with a mask:UserWarning")


def reading(style, **options):
    """A model that reads a composite's output by a recurrent layer, whose output a mask changes."""
    keras.utils.set_random_seed(1)
    ids = keras.Input((6,), dtype="int32")
    x = layers.LSTM(5, name="steps")(style(ids), **options)
    return randomize(keras.Model(ids, layers.Dense(3, name="reader")(x)))
