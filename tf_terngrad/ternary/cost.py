"""What an exchange costs: bytes and seconds of each schedule, for any number of workers and any link."""

import dataclasses
import functools
import math
from collections.abc import Callable

import numpy as np

from tf_terngrad.ternary import huffman
from tf_terngrad.ternary.layout import (
    HIGH,
    LARGEST_IN_TWO,
    LARGEST_LEVELS,
    WORD_STRIDE,
    digits_per_byte,
    digits_per_word,
    outputs,
)

LARGEST = 1025
"""So many workers, and more, have one schedule: "words" or "bytes", for the sums of shards may become too large."""

FRAME = 1.065
"""Bytes on an Ethernet for each byte of data: headers of 66 bytes for 1,448 of data, and acknowledgements."""

MEETING = 0.2e-3
"""Seconds for each doubling of the workers until all of them are there."""

CYCLE = 1.0e-3
"""Seconds until Horovod's workers have agreed on one of the collectives of an exchange: about a cycle of Horovod's."""


@dataclasses.dataclass(frozen=True)
class Link:
    """What every worker is connected by.

    Args:
        rate: bits a second, in each direction at once.
        delay: seconds from one worker to another.
        burst: seconds for which it sends at full speed after a pause, as emulated links do.

    Raises:
        ValueError: no rate, or a negative delay or burst.
    """

    rate: float = 1e9
    delay: float = 5e-5
    burst: float = 0.0

    def __post_init__(self):
        if not (self.rate > 0 and self.delay >= 0 and self.burst >= 0):
            raise ValueError(f"Expected a rate above 0, and a delay and a burst of 0 or more. Received: {self}")


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
    """Bytes that each worker sends in an allgather of bytes, in a Huffman code."""
    return (workers - 1) * _stream(size, 1, levels)


def shards_bytes(size: int, workers: int, levels: int = 1) -> float:
    """Bytes that each worker sends in an alltoall of bytes and an allgather of its shard's sums."""
    shard = size / workers
    return (workers - 1) * (_stream(shard, 1, levels) + _stream(shard, workers, levels))


def digit_bits(workers: int = 1, levels: int = 1) -> float:
    """Bits that a sum of the workers' digits takes as bytes in a Huffman code, of normally distributed gradients.

    Clipped at 2.5 standard deviations, as TernGrad's digits are by default; real gradients have more zeros.

    >>> [round(digit_bits(workers), 2) for workers in (1, 4, 16)]
    [1.22, 2.24, 3.26]
    """
    return sum(_letter_bits(workers, levels)) / _digits_per_letter(workers, levels)


def _digits_per_letter(workers, levels):
    return digits_per_byte(min(workers * levels, LARGEST_LEVELS))


@functools.cache
def _letter_bits(workers, levels):
    """Of the bytes that hold some sums, or of the low and the high one that hold each."""
    one = _digit_probabilities(levels)
    most = workers * levels
    if most > LARGEST_LEVELS:
        # as good as normally distributed, and far from the largest
        deviation = np.sqrt(workers * one @ np.arange(-levels, levels + 1) ** 2)
        sums = np.arange(-min(most, int(8 * deviation)), min(most, int(8 * deviation)) + 1)
        of_sum = np.exp(-((sums / deviation) ** 2) / 2)
        of_sum /= of_sum.sum()
        low, high = (sums + LARGEST_LEVELS) % HIGH, (sums + LARGEST_LEVELS) // HIGH
        return tuple(huffman.average_bits(np.bincount(part - part.min(), of_sum)) for part in (low, high))
    of_sum = np.fft.irfft(np.fft.rfft(one, 2 * most + 1) ** workers, 2 * most + 1)
    of_letter = of_sum = np.maximum(of_sum, 0)
    for _ in range(_digits_per_letter(workers, levels) - 1):
        of_letter = np.outer(of_letter, of_sum).ravel()
    return (huffman.average_bits(of_letter),)


@functools.cache
def _digit_probabilities(levels):
    """Of -L, ..., L: P(digit = k) = E max(0, 1 - |L f(g) / s - k|), g normal."""
    values = np.linspace(-8, 8, 20_001)
    density = np.exp(-(values**2) / 2)
    scaled = np.clip(values / 2.5, -1, 1) * levels
    digits = np.arange(-levels, levels + 1)
    return np.maximum(0, 1 - np.abs(scaled - digits[:, None])) @ density / density.sum()


def _stream(size, workers, levels):
    """Bytes of the streams of so many sums of digits."""
    letters = size / _digits_per_letter(workers, levels)
    return sum(huffman.stream_bytes(letters, bits) for bits in _letter_bits(workers, levels))


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to average gradients, and what it costs a core of a processor.

    The seconds are fitted to what tools/benchmark_network.py measured with Gloo on 2 shared cores, of 1,000 to 5M
    elements and up to 8 workers; docs/results.md says how well they predict.

    Attributes:
        bytes: of (size, workers, levels): what each worker sends.
        steps: of (workers, levels): how many messages wait for one another.
        exchanges: of (workers, levels): how many collectives move the gradient.
        codec: seconds for each element, before and after its travel.
        decode: the same, for each element of each worker.
        travel: seconds for each byte sent, to copy and to add it while others travel.
        questions: how many small collectives come before: whether the gradients are alike, and their scales.
    """

    bytes: Callable
    steps: Callable
    exchanges: Callable
    codec: float
    travel: float
    decode: float = 0.0
    questions: int = 0


def _ring(workers, levels):
    return 2 * (workers - 1)


def _gather(workers, levels):
    return workers - 1


def _one(workers, levels):
    return 1


def _bytes_of_a_sum(workers, levels):
    return 1 if workers * levels <= LARGEST_LEVELS else 2


def _shards_steps(workers, levels):
    """An alltoall, whose messages go out together; then all of the low bytes, and of the high ones, around a ring."""
    return 1 + _bytes_of_a_sum(workers, levels) * (workers - 1)


def _shards_exchanges(workers, levels):
    """The alltoall, and the gathering of the bytes of sums."""
    return 1 + _bytes_of_a_sum(workers, levels)


def _float32(size, workers, levels=1):
    return float_bytes(size, workers)


def _float16(size, workers, levels=1):
    return float_bytes(size, workers, width=2)


METHODS = {
    "float32": Method(_float32, _ring, _one, codec=0.0, travel=0.48e-9),
    "float16": Method(_float16, _ring, _one, codec=5.0e-9, travel=4.8e-9),
    "words": Method(words_bytes, _ring, _one, codec=1.26e-9, travel=1.03e-9, questions=2),
    "bytes": Method(bytes_bytes, _gather, _one, codec=0.37e-9, travel=0.06e-9, decode=0.59e-9, questions=2),
    "shards": Method(shards_bytes, _shards_steps, _shards_exchanges, codec=2.3e-9, travel=1.0e-9, questions=2),
}
SCHEDULES = ("words", "bytes", "shards")
BYTES = {name: method.bytes for name, method in METHODS.items()}


def seconds(name: str, size: int, workers: int, levels: int = 1, link: Link = Link(), cores: float = 1) -> float:
    """The time of one exchange.

        t = (MEETING log2(N) + CYCLE (questions + exchanges)) / c + size (codec + N decode) / cores
            + max(8 FRAME bytes / rate - burst exchanges, travel bytes / c) + delay steps,    c = min(cores, 1)

    Only the codec has work for several cores. It is the native one; its TensorFlow twin takes longer, and sends bytes
    without their Huffman code.

    Args:
        name: one of METHODS.
        size: how many elements.
        workers: N.
        levels: L.
        link: what connects the workers.
        cores: of the processor that a worker has for it; less than one where workers share one.

    Raises:
        ValueError: another name, a negative size, or no workers.
    """
    if name not in METHODS:
        raise ValueError(f"Expected one of {tuple(METHODS)}. Received: name={name!r}")
    if size < 0 or workers < 1:
        raise ValueError(f"Expected a size of 0 or more, and workers. Received: size={size}, workers={workers}")
    method, core = METHODS[name], min(cores, 1)
    sent = method.bytes(size, workers, levels)
    exchanges = method.exchanges(workers, levels)
    agreeing = (MEETING * math.log2(workers) + CYCLE * (method.questions + exchanges)) / core
    codec = size * (method.codec + workers * method.decode) / cores
    travel = max(8 * FRAME * sent / link.rate - link.burst * exchanges, method.travel * sent / core)
    return agreeing + codec + travel + link.delay * method.steps(workers, levels)


@functools.cache
def choose(size: int, workers: int, levels: int = 1, link: Link = Link()) -> str:
    """The schedule that takes the least time, of those that can hold the sums; what schedule="auto" asks.

    Nobody measures the link: "auto" takes it for one of 1 Gb/s, and a worker to have a core for itself. Nor does it ask
    where a graph does not know the size, as of `tf.IndexedSlices`: those travel as "words". On another link, or for
    such gradients, another schedule may be faster: `seconds` tells, and `TernGrad(schedule=...)` chooses.

    Args:
        size: how many elements.
        workers: N; of LARGEST and more, "shards" is not chosen.
        levels: L.
        link: what connects the workers.

    >>> [choose(5_000_000, workers) for workers in (2, 4, 64)]
    ['bytes', 'shards', 'shards']
    """
    shards_hold = workers < LARGEST and workers * levels <= LARGEST_IN_TWO
    able = SCHEDULES if shards_hold else ("words", "bytes")
    return min(able, key=lambda schedule: seconds(schedule, size, workers, levels, link))


def step_seconds(name: str, compute: float, size: int, workers: int, **where) -> float:
    """The time of a training step: the gradients of one worker's examples, and their exchange if there are others.

        t = t_comp + t_comm

    Args:
        name: one of METHODS.
        compute: t_comp, seconds.
        size: how many elements the gradients have.
        workers: N.
        **where: levels, link and cores, as of `seconds`.

    Paper: Wen et al., TernGrad, 2017.
    """
    return compute + (seconds(name, size, workers, **where) if workers > 1 else 0)


def _words(size, workers, levels):
    return outputs(size, digits_per_word(workers, levels), WORD_STRIDE)
