"""Bidirectional attention flow: it reads a context and says where in it the answer to a question is.

Beside the networks of words, this one takes four tensors: the words of context and question, and their characters.
"""

import keras
import numpy as np
from keras import layers, ops

from models.registry import QUESTIONS, network

SETS = tuple(f"{layer}/{way}_{layer}" for layer in ("g0", "g1", "g2") for way in ("forward", "backward"))
"""The six sets of hidden units that the paper makes sparse, by the names of their structures."""

OUTSIDE = -100.0
"""The logit of a place without a word: its probability, e^-100, is zero in float32."""

MASKED = -3e4
"""Stands in front of a softmax inside where no word is; float16 has it, too."""


@network(QUESTIONS, recipe={"units": ["32"]}, one_layer=True)
def bidaf(
    vocabulary: int = 10_000,
    units: int = 100,
    characters: int = 100,
    dropout: float = 0.2,
    embedding: int = 100,
    character_embedding: int = 8,
    width: int = 5,
    context: int | None = None,
    question: int | None = None,
    letters: int = 16,
    vectors: np.ndarray | None = None,
) -> keras.Model:
    """Embeddings - highways - LSTMs - attention flow - LSTMs, and two logits a word: the answer's start and its end.

    All LSTMs run both ways. Of each word the embedding e and the maxima of a convolution over its characters pass two
    highway layers, and an LSTM, the same for context and question, gives h (context) and u (question). Then

        S_tj = w [h_t; u_j; h_t * u_j],   u~_t = sum_j softmax_j(S_tj) u_j,   h~ = sum_t softmax_t(max_j S_tj) h_t
        p = [h; u~; h * u~; h * h~],   g0 = LSTM(p),   g1 = LSTM(g0),   start = v [g1; p]
        a = sum_t softmax_t(start_t) g1_t,   g2 = LSTM([p; g1; a; g1 * a]),   end = z [g2; p]

    2,571,503 weights with the defaults beside the vectors of the words.

    Args:
        vocabulary: number of words; 0 is no word at all, 1 any other word.
        units: of each LSTM in each direction.
        characters: number of characters; 0 is none, 1 any other.
        dropout: share of the values that are dropped in front of each LSTM, of the convolution and of the logits.
        embedding: width of the words' vectors.
        character_embedding: width of the characters' vectors.
        width: how many characters a filter sees; there are as many filters as `units`.
        context: words of a context; None: any number.
        question: words of a question; None: any number.
        letters: characters of each word.
        vectors: float (vocabulary, embedding), vectors of the words that were trained elsewhere, such as GloVe's, and
            that stay as they are; None: they are trained with the network.

    Returns:
        A Functional model of a list of int32 tensors, words (batch, context) and their characters (batch, context,
        letters), then those of the question, to logits (batch, 2, context): of the answer's first word, and its last.

    Raises:
        ValueError: words are shorter than a filter, or vectors of another shape.

    >>> bidaf(vocabulary=50, units=4, embedding=6).output_shape
    (None, 2, None)

    Papers: Seo et al., Bidirectional attention flow for machine comprehension, 2017; Wen et al., Learning intrinsic
    sparse structures within long short-term memory, 2018.
    """
    if letters < width:
        raise ValueError(f"bidaf: expected words of at least {width} letters, the filters' width. Received: {letters}")
    if vectors is not None and np.shape(vectors) != (vocabulary, embedding):
        raise ValueError(f"bidaf: expected vectors of shape {(vocabulary, embedding)}. Received: {np.shape(vectors)}")
    inputs = [
        keras.Input(shape, dtype="int32", name=name)
        for name, shape in {
            "context": (context,),
            "context_letters": (context, letters),
            "question": (question,),
            "question_letters": (question, letters),
        }.items()
    ]
    drop = _drops(dropout)
    words = layers.Embedding(vocabulary, embedding, name="words", **_fixed(vectors))
    spell = _spelling(characters, character_embedding, units, width, drop)
    pass_on = _highways(2, embedding + units)
    read = _both_ways(units, "reading")
    there = [ops.not_equal(tensor, 0) for tensor in (inputs[0], inputs[2])]
    encoded = [
        read(drop(pass_on(ops.concatenate([words(numbers), spell(spelled)], axis=-1))), mask=mask)
        for numbers, spelled, mask in zip(inputs[::2], inputs[1::2], there, strict=True)
    ]
    flow = attention_flow(*encoded, *there)
    g0 = _both_ways(units, "g0")(drop(flow), mask=there[0])
    g1 = _both_ways(units, "g1")(drop(g0), mask=there[0])
    start = layers.Dense(1, name="start")(drop(ops.concatenate([g1, flow], axis=-1)))
    chosen = _weighted_sum(g1, start, there[0])
    everywhere = ops.zeros_like(g1) + chosen
    g2 = _both_ways(units, "g2")(drop(ops.concatenate([flow, g1, everywhere, g1 * chosen], axis=-1)), mask=there[0])
    end = layers.Dense(1, name="end")(drop(ops.concatenate([g2, flow], axis=-1)))
    logits = ops.transpose(ops.concatenate([start, end], axis=-1), (0, 2, 1))
    return keras.Model(inputs, ops.where(ops.expand_dims(there[0], 1), logits, OUTSIDE), name="bidaf")


def attention_flow(h, u, h_there, u_there):
    """What a context h (batch, T, d) and a question u (batch, J, d) say of each other, (batch, T, 4 d).

    Args:
        h: of the context's words.
        u: of the question's.
        h_there: bool (batch, T), which of them are there.
        u_there: bool (batch, J).
    """
    weighed = layers.EinsumDense("bdj,d->bdj", (h.shape[-1], None), name="similarity_both")(ops.transpose(u, (0, 2, 1)))
    similarity = ops.matmul(h, weighed)
    similarity += layers.Dense(1, name="similarity_context")(h)
    similarity += ops.transpose(layers.Dense(1, use_bias=False, name="similarity_question")(u), (0, 2, 1))
    similarity = ops.where(ops.expand_dims(u_there, 1), similarity, MASKED)
    asked = ops.matmul(ops.softmax(similarity, axis=-1), u)
    told = _weighted_sum(h, ops.max(similarity, axis=-1, keepdims=True), h_there)
    return ops.concatenate([h, asked, h * asked, h * told], axis=-1)


def _weighted_sum(x, logits, there):
    """sum_t softmax_t(logits_t) x_t, (batch, 1, d), over the words that are there; logits (batch, T, 1)."""
    logits = ops.where(ops.expand_dims(there, -1), logits, MASKED)
    return ops.matmul(ops.transpose(ops.softmax(logits, axis=1), (0, 2, 1)), x)


def _both_ways(units, name):
    return layers.Bidirectional(layers.LSTM(units, return_sequences=True, name=name), name=name)


def _spelling(characters, embedding, filters, width, drop):
    """From letters (batch, words, letters) to the maxima of a convolution over each word, (batch, words, filters)."""
    vectors = layers.Embedding(characters, embedding, name="characters")
    convolve = layers.Conv2D(filters, (1, width), activation="relu", name="spelling")
    return lambda letters: ops.max(convolve(drop(vectors(letters))), axis=2)


def _highways(count, width):
    """t * relu(W x + b) + (1 - t) * x with a gate t = sigmoid(V x + c), so many times, the same in every call."""
    pairs = [
        (
            layers.Dense(width, "sigmoid", name=f"highway{number}_gate"),
            layers.Dense(width, "relu", name=f"highway{number}"),
        )
        for number in range(1, count + 1)
    ]

    def pass_on(x):
        for gate, new in pairs:
            share = gate(x)
            x = share * new(x) + (1 - share) * x
        return x

    return pass_on


def _drops(rate):
    return lambda x: layers.Dropout(rate)(x)


def _fixed(vectors):
    if vectors is None:
        return {"embeddings_initializer": "uniform"}
    return {"embeddings_initializer": keras.initializers.Constant(vectors), "trainable": False}
