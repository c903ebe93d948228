"""What must be the same on all workers: asked of them, and an error on all of them where it is not."""

import collections
import itertools
import re

from tf_terngrad.ternary import transport

NUMBER = re.compile(r"_\d+(?=/|$)")


SAME_MODEL = "Build the same model with the same arguments everywhere."


def require(lines, subject: str, process_set=None, remedy: str = SAME_MODEL) -> None:
    """Refuse, on all workers, what is not the same on all of them.

    Args:
        lines: list of str, this worker's.
        subject: what they describe, for the message.
        process_set: the workers; None: all of them.
        remedy: a sentence, the message's last.

    Raises:
        ValueError: they differ; it names the first difference, and who has what.
    """
    everyones = transport.everyones(list(lines), "tf_terngrad.agreement", process_set)
    for line in itertools.zip_longest(*everyones, fillvalue="nothing"):
        if len(set(line)) > 1:
            who = "; ".join(f"workers {ranks} have {value}" for value, ranks in parties(line).items())
            raise ValueError(f"{subject} must be the same on all workers. The first that differs: {who}. {remedy}")


def entry(name: str, content: str) -> str:
    """A line about a variable. Keras numbers names as they come, "dense_3"; a worker with another model has others."""
    return f"{re.sub(NUMBER, '', name)}: {content}"


def parties(values) -> dict:
    """Who has what: the workers of each value.

    >>> parties(["a", "b", "a"])
    {'a': [0, 2], 'b': [1]}
    """
    ranks = collections.defaultdict(list)
    for rank, value in enumerate(values):
        ranks[value].append(rank)
    return dict(ranks)
