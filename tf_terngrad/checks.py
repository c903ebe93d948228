"""What can only be told when it runs: refused with a message that reads as one, eagerly and in a graph."""

import numpy as np
import tensorflow as tf


def expect(good, *message) -> list:
    """Refuse what is not good.

    Args:
        good: boolean scalar, a tensor.
        message: texts and tensors, one after the other.

    Returns:
        The operations of a graph that check it, for `tf.control_dependencies`; none where it was checked already.

    Raises:
        tf.errors.InvalidArgumentError: it is not good. In a graph, when that runs.
    """
    if not tf.executing_eagerly():
        return [tf.debugging.Assert(good, message, summarize=8)]
    if not good:
        raise tf.errors.InvalidArgumentError(None, None, " ".join(map(_text, message)))
    return []


def _text(part) -> str:
    return part if isinstance(part, str) else np.array2string(np.asarray(part), threshold=8)
