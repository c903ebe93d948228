"""What an exchange costs: the model of bytes and seconds, for any number of workers and any link.

Here are its formula and the two ways to send floats; each schedule of digits says its own numbers
(the package `schedules`).
"""

import abc
import dataclasses
import functools
import math

import numpy as np

from tf_terngrad.checks import integer
from tf_terngrad.ternary import huffman
from tf_terngrad.ternary.layout import HIGH, LARGEST_LEVELS, digits_per_byte

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


GIGABIT = Link()
"""What "auto" takes every link for."""


def float_bytes(size: int, workers: int, width: int = 4) -> float:
    """Bytes that each worker sends in a ring allreduce of `size` numbers of `width` bytes: 2 (N - 1) / N of them.

    >>> float_bytes(1000, 4)
    6000.0
    """
    return 2 * (workers - 1) / workers * width * size


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


def stream_bytes(size: float, workers: int, levels: int) -> float:
    """Bytes of so many sums of the workers' digits, in a Huffman code."""
    letters = size / _digits_per_letter(workers, levels)
    return sum(huffman.stream_bytes(letters, bits) for bits in _letter_bits(workers, levels))


class Method(abc.ABC):
    """A way to average gradients, and what it costs a core of a processor.

    The seconds of this package's own are fitted to what tools/benchmark_network.py measured with Gloo on 2 shared
    cores, of 1,000 to 5M elements and up to 8 workers; docs/results.md says how well they predict.

    Attributes:
        name: what users call it.
        codec: seconds for each element, before and after its travel.
        decode: the same, for each element of each worker.
        travel: seconds for each byte sent, to copy and to add it while others travel.
        questions: how many small exchanges come before: whether the gradients are alike, and their scales.
    """

    name: str
    codec: float
    travel: float
    decode: float = 0.0
    questions: int = 0

    @abc.abstractmethod
    def bytes(self, size: int, workers: int, levels: int = 1) -> float:
        """What each worker sends, to average so many elements."""

    def steps(self, workers: int, levels: int = 1) -> int:
        """How many messages wait for one another; by default those of a ring allreduce."""
        return 2 * (workers - 1)

    def exchanges(self, workers: int, levels: int = 1) -> int:
        """How many of the network's operations move the gradient."""
        return 1

    def holds(self, workers: int, levels: int) -> bool:
        """Whether so many workers can use it; of floats, any number can."""
        return True

    def seconds(self, size: int, workers: int, levels: int = 1, link: Link = GIGABIT, cores: float = 1) -> float:
        """The time of one exchange.

            t = (MEETING log2(N) + CYCLE (questions + exchanges)) / c + size (codec + N decode) / cores
                + max(8 FRAME bytes / rate - burst exchanges, travel bytes / c) + delay steps,    c = min(cores, 1)

        Only the codec has work for several cores. It is the native one; its TensorFlow twin takes longer, and sends
        bytes without their Huffman code.

        Args:
            size: how many elements.
            workers: N.
            levels: L.
            link: what connects the workers.
            cores: of the processor that a worker has for it; less than one where workers share one.

        Raises:
            TypeError, ValueError: a negative size, or no workers.
        """
        size, workers = integer(size, "size", "seconds", 0), integer(workers, "workers", "seconds", 1)
        core = min(cores, 1)
        sent, exchanges = self.bytes(size, workers, levels), self.exchanges(workers, levels)
        agreeing = (MEETING * math.log2(workers) + CYCLE * (self.questions + exchanges)) / core
        codec = size * (self.codec + workers * self.decode) / cores
        travel = max(8 * FRAME * sent / link.rate - link.burst * exchanges, self.travel * sent / core)
        return agreeing + codec + travel + link.delay * self.steps(workers, levels)


@dataclasses.dataclass(frozen=True)
class Floats(Method):
    """A ring allreduce of floats of so many bytes each, as Horovod has it."""

    name: str
    width: int
    codec: float
    travel: float

    def bytes(self, size, workers, levels=1):
        return float_bytes(size, workers, self.width)


FLOATS = {
    method.name: method
    for method in (Floats("float32", 4, codec=0.0, travel=0.48e-9), Floats("float16", 2, codec=5.0e-9, travel=4.8e-9))
}


def step_seconds(method: Method, compute: float, size: int, workers: int, **where) -> float:
    """The time of a training step: the gradients of one worker's examples, and their exchange if there are others.

        t = t_comp + t_comm

    Args:
        method: one of FLOATS, or a schedule.
        compute: t_comp, seconds.
        size: how many elements the gradients have.
        workers: N.
        **where: levels, link and cores, as of `Method.seconds`.

    Paper: Wen et al., TernGrad, 2017.
    """
    return compute + (method.seconds(size, workers, **where) if workers > 1 else 0)
