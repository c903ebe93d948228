"""What must be the same on all workers: asked of them, and an error on all of them where it is not."""

import collections
import functools
import hashlib
import itertools
import re

import tensorflow as tf

from tf_terngrad.ternary.transport import QUESTION, Transport

NUMBER = re.compile(r"_\d+(?![^\W_])")

SAME_MODEL = "Build the same model with the same arguments everywhere."


def require(lines, subject: str, network: Transport, remedy: str = SAME_MODEL) -> None:
    """Refuse, on all workers, what is not the same on all of them.

    Args:
        lines: list of str, this worker's.
        subject: what they describe, for the message.
        network: of the workers.
        remedy: a sentence, the message's last.

    Raises:
        ValueError: they differ; it names the first difference, and who has what.
    """
    everyones = network.everyones(list(lines), QUESTION)
    for line in itertools.zip_longest(*everyones, fillvalue="nothing"):
        if len(set(line)) > 1:
            who = "; ".join(f"workers {ranks} have {value}" for value, ranks in parties(line).items())
            raise ValueError(f"{subject} must be the same on all workers. The first that differs: {who}. {remedy}")


def digest(lines) -> int:
    """A positive number for a list of str; of other lists, others, but for once in 2^61."""
    return int.from_bytes(hashlib.blake2b("\n".join(lines).encode(), digest_size=8).digest()) >> 2 | 1


def require_if(differ, lines, subject: str, network: Transport):
    """`require` where the workers are known to differ, all of them knowing it; in graphs, of every step.

    Args:
        differ: boolean scalar, the same on all workers.
        lines: as in `require`.
        subject: likewise.
        network: likewise.

    Returns:
        What has to have run before anything is exchanged that could fail for the difference.

    Raises:
        ValueError: in eager mode.
        tf.errors.InvalidArgumentError: in graphs, of the same text.
    """
    ask = functools.partial(require, lines, subject, network)
    if tf.executing_eagerly():
        return ask() if differ else None
    return tf.cond(differ, lambda: tf.group(tf.py_function(ask, [], [])), tf.no_op)


def entry(name: str, content: str) -> str:
    """A line about a variable."""
    return f"{unnumbered(name)}: {content}"


def unnumbered(name: str) -> str:
    """A name without Keras' numbers. It counts names as they come; a worker that has built another model counts more.

    >>> unnumbered("adam/sequential_1_dense_3_kernel_momentum")
    'adam/sequential_dense_kernel_momentum'
    """
    return re.sub(NUMBER, "", name)


def parties(values) -> dict:
    """Who has what: the workers of each value.

    >>> parties(["a", "b", "a"])
    {'a': [0, 2], 'b': [1]}
    """
    ranks = collections.defaultdict(list)
    for rank, value in enumerate(values):
        ranks[value].append(rank)
    return dict(ranks)
