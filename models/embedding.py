"""What is below and above a language model's recurrent layers."""

from collections.abc import Callable

import keras


def embedding_and_logits(vocabulary: int, width: int, tied: bool, initializer) -> tuple[Callable, Callable]:
    """A layer from words to vectors, and one from vectors to logits of words; one and the same matrix where tied.

    Args:
        vocabulary: number of words.
        width: of the vectors below.
        tied: whether the logits are products with the embedding.
        initializer: of the matrices.
    """
    if not tied:
        return (
            keras.layers.Embedding(vocabulary, width, embeddings_initializer=initializer, name="embedding"),
            keras.layers.Dense(vocabulary, kernel_initializer=initializer, name="logits"),
        )
    both = keras.layers.ReversibleEmbedding(vocabulary, width, embeddings_initializer=initializer, name="embedding")
    return both, lambda x: both(x, reverse=True)
