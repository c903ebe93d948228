"""The language model of intrinsic sparse structures: an embedding, LSTMs, a softmax over the vocabulary."""

import keras

from models.embedding import embedding_and_logits, uniform
from models.registry import WORDS, network


@network(WORDS, recipe={"units": ["200", "200"]})
def lstm_lm(
    vocabulary: int = 10_000,
    units: tuple[int, ...] = (1500, 1500),
    embedding: int | None = None,
    dropout: float = 0.0,
    tied: bool = False,
    batch_size: int | None = None,
    steps: int | None = None,
    stateful: bool = False,
    layer: type[keras.layers.RNN] = keras.layers.LSTM,
) -> keras.Model:
    """Embedding - LSTM - ... - LSTM - logits, with dropout before, between and behind the LSTMs.

    66,022,000 parameters with the defaults. The dropouts touch what goes up from layer to layer, not what an LSTM hands
    on to its next step (Zaremba et al., Recurrent neural network regularization, 2014).

    Args:
        vocabulary: number of words.
        units: of each recurrent layer, from the bottom.
        embedding: its width; None: that of the first LSTM.
        dropout: share of the values that are dropped, 0 to 1.
        tied: whether the logits are products with the embedding itself; the last LSTM is then as wide as it is.
        batch_size: how many texts at once; `stateful` needs it.
        steps: words of each text at once; None: any number.
        stateful: whether a batch goes on where the one before has stopped, until `reset_state()`.
        layer: `keras.layers.LSTM`, or `keras.layers.GRU` in its place.

    Returns:
        A Functional model from words (batch, steps) int32 to logits (batch, steps, vocabulary) of the next words.

    Raises:
        ValueError: tied with another width of the last LSTM, or stateful without a batch size.

    >>> lstm_lm(vocabulary=100, units=(8, 6)).count_params()
    2404

    Paper: Wen et al., Learning intrinsic sparse structures within long short-term memory, 2018.
    """
    width = units[0] if embedding is None else embedding
    if tied and width != units[-1]:
        raise ValueError(
            f"A tied embedding is as wide as the last LSTM. Expected embedding={units[-1]}. Received: {width}"
        )
    if stateful and batch_size is None:
        raise ValueError("States that are kept belong to a batch of known size. Expected batch_size, such as 20.")
    words = keras.Input(batch_shape=(batch_size, steps), dtype="int32", name="words")
    initial = uniform(units[0], 1500)
    embed, logits = embedding_and_logits(vocabulary, width, tied, initial)
    x = embed(words)
    for number, size in enumerate(units, start=1):
        x = keras.layers.Dropout(dropout, name=f"dropout{number}")(x)
        x = layer(
            size,
            return_sequences=True,
            stateful=stateful,
            kernel_initializer=initial.clone(),
            recurrent_initializer=initial.clone(),
            name=f"{layer.__name__.lower()}{number}",
        )(x)
    x = keras.layers.Dropout(dropout, name=f"dropout{len(units) + 1}")(x)
    return keras.Model(words, logits(x), name="lstm_lm")
