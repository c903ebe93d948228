"""What is below and above a language model's recurrent layers. It is no network of its own."""

import math
from collections.abc import Callable

import keras


def embedding_and_logits(vocabulary: int, width: int, tied: bool, initializer) -> tuple[Callable, Callable]:
    """A layer from words to vectors, and one from vectors to logits of words; one and the same matrix where tied.

    Args:
        vocabulary: number of words.
        width: of the vectors below.
        tied: whether the logits are products with the embedding.
        initializer: of the matrices; each gets a clone, for one initializer gives equal values to all that share it.
    """
    if not tied:
        return (
            keras.layers.Embedding(vocabulary, width, embeddings_initializer=initializer.clone(), name="embedding"),
            keras.layers.Dense(vocabulary, kernel_initializer=initializer.clone(), name="logits"),
        )
    both = keras.layers.ReversibleEmbedding(
        vocabulary, width, embeddings_initializer=initializer.clone(), name="embedding"
    )
    return both, lambda x: both(x, reverse=True)


def uniform(width: int, width_of_paper: int) -> keras.initializers.Initializer:
    """Uniform initial values: within 0.04 at the paper's width, and more where layers are narrower.

    The scale of what a layer puts out then stays alike, `0.04 sqrt(width_of_paper / width)`. Zaremba et al. (2014) have
    0.1, 0.05 and 0.04 for 200, 650 and 1,500 units.

    Args:
        width: of the layers.
        width_of_paper: for which the paper has 0.04.
    """
    limit = 0.04 * math.sqrt(width_of_paper / width)
    return keras.initializers.RandomUniform(-limit, limit)
