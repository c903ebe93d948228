"""What an exchange costs: bytes and seconds of each schedule, for any number of workers and any link."""

import dataclasses
import functools
from collections.abc import Callable

from tf_terngrad.ternary.layout import BYTE_STRIDE, WORD_STRIDE, digits_per_byte, digits_per_word, outputs

LARGEST = 1024
"""The schedule of more workers than this is that of so many."""

FRAME = 1514 / 1448
"""Bytes on an Ethernet for each byte of data: a full frame has headers of 66 bytes."""

COLLECTIVE = 2.5e-3
"""Seconds until Horovod's workers have agreed on an exchange, whatever its size."""

HOST = 0.8e-9
"""Seconds that a processor spends for a byte sent and received, while the link is at work."""


@dataclasses.dataclass(frozen=True)
class Link:
    """What every worker is connected by.

    Args:
        rate: bits a second, in each direction at once.
        delay: seconds from one worker to another.
    """

    rate: float = 1e9
    delay: float = 1e-4


def float_bytes(size: int, workers: int, width: int = 4) -> float:
    """Bytes that each worker sends in a ring allreduce of `size` numbers of `width` bytes: 2 (N - 1) / N of them.

    >>> float_bytes(1000, 4)
    6000.0
    """
    return 2 * (workers - 1) / workers * width * size


def words_bytes(size: int, workers: int, levels: int = 1) -> float:
    """Bytes that each worker sends in a ring allreduce of words."""
    return float_bytes(_words(size, workers, levels), workers, width=8)


def bytes_bytes(size: int, workers: int, levels: int = 1) -> float:
    """Bytes that each worker sends in an allgather of bytes."""
    return (workers - 1) * _bytes(size, levels)


def shards_bytes(size: int, workers: int, levels: int = 1) -> float:
    """Bytes that each worker sends in an alltoall of bytes and an allgather of its shard's words."""
    return (workers - 1) / workers * (_bytes(size, levels) + 8 * _words(size, workers, levels))


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to average the workers' gradients.

    Attributes:
        bytes: of (size, workers, levels), that each worker sends.
        rounds: of (workers), how many messages follow one another.
        collectives: how many of Horovod's exchanges it makes.
        work: of (workers), a processor's seconds for each element, to encode, add and decode.
    """

    bytes: Callable
    rounds: Callable
    collectives: int
    work: Callable


def _ring(workers):
    return 2 * (workers - 1)


METHODS = {
    "float32": Method(lambda n, w, _: float_bytes(n, w), _ring, 1, lambda w: 2e-9),
    "float16": Method(lambda n, w, _: float_bytes(n, w, 2), _ring, 1, lambda w: 10e-9),
    "words": Method(words_bytes, _ring, 2, lambda w: 2e-9),
    "bytes": Method(bytes_bytes, lambda w: w - 1, 2, lambda w: (1 + 0.5 * w) * 1e-9),
    "shards": Method(shards_bytes, lambda w: w, 3, lambda w: 2e-9),
}
SCHEDULES = ("words", "bytes", "shards")
BYTES = {name: method.bytes for name, method in METHODS.items()}


def seconds(name, size: int, workers: int, levels: int = 1, link: Link = Link(), crowding: float = 1) -> float:
    """The time of one exchange: agreeing on it, work of the processor, bytes over the rate, and the delay of each round.

    Args:
        name: of one of METHODS.
        size: how many elements.
        workers: N.
        levels: L.
        link: what connects the workers.
        crowding: how many workers share a processor; a fast link then waits for it.
    """
    method = METHODS[name]
    data = method.bytes(size, workers, levels)
    crowding = max(crowding, 1)
    work = size * method.work(workers) * crowding
    wire = max(8 * data * FRAME / link.rate, HOST * data * crowding)
    return method.collectives * COLLECTIVE + work + wire + method.rounds(workers) * link.delay


@functools.cache
def choose(size: int, workers: int, levels: int = 1, link: Link = Link()) -> str:
    """The schedule that takes the least time.

    >>> [choose(5_000_000, workers) for workers in (2, 4, 64)]
    ['bytes', 'shards', 'shards']
    """
    return min(SCHEDULES, key=lambda schedule: seconds(schedule, size, workers, levels, link))


def _bytes(size, levels):
    return outputs(size, digits_per_byte(levels), BYTE_STRIDE)


def _words(size, workers, levels):
    return outputs(size, digits_per_word(workers, levels), WORD_STRIDE)
