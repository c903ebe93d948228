"""A decoder that foresees the next word: attention to the words before, and gated units."""

from collections.abc import Sequence

import keras
from keras import ops

from models.blocks import per_block
from models.embedding import embedding_and_logits
from models.registry import WORDS, network


@network(WORDS, recurrent=False, recipe={"units": ["256", "256"], "optimizer": "adam", "learning_rate": 2e-3})
def decoder_lm(
    vocabulary: int,
    units: Sequence[int] = (256, 256),
    width: int = 128,
    heads: int | Sequence[int] = 4,
    keys: int | Sequence[int] = 32,
    values: int | Sequence[int] = 32,
    steps: int = 64,
    dropout: float = 0.0,
    tied: bool = False,
    batch_size: int | None = None,
) -> keras.Model:
    """A decoder of one block for each number of units.

    A block adds to its input what its attention gives, and to that what its gated units give; root-mean-square
    normalization is before both (pre-norm). Positions are learned.

    Args:
        vocabulary: number of words.
        units: of the gated feed-forward network of each block, from the bottom; 0: it has none.
        width: of the residual stream.
        heads: of each attention, one number or one a block; 0: the block has none.
        keys: dimensions of the queries and keys of each head, likewise.
        values: dimensions of the values of each head, likewise.
        steps: words of each text at once; there are no positions behind them.
        dropout: share of the values that are dropped, 0 to 1: of the sum of embeddings and of each addend.
        tied: whether the logits are products with the embedding itself.
        batch_size: how many texts at once; None: any.

    Returns:
        A Functional model from words (batch, steps) int32 to logits (batch, steps, vocabulary) of the next words.

    Raises:
        ValueError: another number of sizes than of blocks.

    >>> decoder_lm(vocabulary=100, units=(16, 16), width=8, heads=2, steps=5).output_shape
    (None, 5, 100)

    Papers: Vaswani et al., Attention is all you need, 2017; Zhang and Sennrich, Root mean square layer normalization,
    2019; Shazeer, GLU variants improve transformer, 2020.
    """
    words = keras.Input(batch_shape=(batch_size, steps), dtype="int32", name="words")
    initial = keras.initializers.RandomNormal(stddev=0.02)
    embed, logits = embedding_and_logits(vocabulary, width, tied, initial)
    order = ops.cumsum(ops.ones_like(words), axis=1) - 1  # a layer that is given a constant would not train
    positions = keras.layers.Embedding(steps, width, embeddings_initializer=initial.clone(), name="positions")
    x = keras.layers.Dropout(dropout, name="dropout")(embed(words) + positions(order))
    sizes = (per_block(size, len(units)) for size in (heads, keys, values))
    for number, (size, *attention) in enumerate(zip(units, *sizes, strict=True), start=1):
        x = _attend(x, f"block{number}_attention", *attention, dropout) if attention[0] else x
        x = _feed(x, f"block{number}", size, dropout) if size else x
    x = keras.layers.RMSNormalization(name="norm")(x)
    return keras.Model(words, logits(x), name="decoder_lm")


def _attend(x, name, heads, keys, values, dropout):
    """The first half of a block."""
    h = keras.layers.RMSNormalization(name=f"{name}_norm")(x)
    attention = keras.layers.MultiHeadAttention(heads, keys, values, use_bias=False, name=name)
    return x + keras.layers.Dropout(dropout, name=f"{name}_dropout")(attention(h, h, use_causal_mask=True))


def _feed(x, name, units, dropout):
    """The second half."""
    h = keras.layers.RMSNormalization(name=f"{name}_units_norm")(x)
    gate = keras.layers.Dense(units, activation="silu", use_bias=False, name=f"{name}_gate")(h)
    h = gate * keras.layers.Dense(units, use_bias=False, name=f"{name}_units")(h)
    h = keras.layers.Dense(x.shape[-1], use_bias=False, name=f"{name}_output")(h)
    return x + keras.layers.Dropout(dropout, name=f"{name}_dropout")(h)
