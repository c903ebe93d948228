"""How packed bytes travel: as streams of a Huffman code. cc/huffman.h tells what lies where.

Digits are far from equally frequent, above all sums of many workers' digits: of normally distributed gradients, clipped
at 2.5 standard deviations, a ternary digit takes 1.22 bits in place of 1.6, a sum of sixteen of them 3.3 in place of 8.
"""

import functools
import heapq

import numpy as np
import tensorflow as tf

LONGEST_CODE = 12
LANES = 4
LANE = 960
BLOCK = LANES * LANE
LENGTH_BYTES = 128
STORED = 255


@functools.cache
def reversed_bits(count: int) -> np.ndarray:
    """Every number of so many bits with its bits in reverse order.

    >>> reversed_bits(3).tolist()
    [0, 4, 2, 6, 1, 5, 3, 7]
    """
    numbers = np.arange(2**count, dtype=np.int32)
    return sum((numbers >> bit & 1) << (count - 1 - bit) for bit in range(count))


def granule(letters):
    """Streams of so many letters are padded to multiples of so many bytes; a tensor for a tensor."""
    return tf.maximum(letters // 256, 1) if tf.is_tensor(letters) else max(letters // 256, 1)


def stream_bytes(letters: float, bits: float) -> float:
    """About how many bytes the stream of so many letters has, of so many bits each on average.

    >>> stream_bytes(3840, 4.0), stream_bytes(100, 4.0)
    (2065.0, 101)
    """
    lanes = -(-letters // BLOCK) * LANES
    padding = (granule(letters) - 1) / 2
    return min(LENGTH_BYTES + letters * bits / 8 + 2.5 * lanes + padding, 1 + letters)


def average_bits(probabilities) -> float:
    """How many bits a letter takes on average, if letters have these probabilities: Huffman's code.

    >>> average_bits([0.5, 0.25, 0.25])
    1.5

    Paper: Huffman, A method for the construction of minimum-redundancy codes, 1952.
    """
    nodes, bits = sorted(float(probability) for probability in probabilities if probability > 0), 0.0
    heapq.heapify(nodes)
    while len(nodes) > 1:
        both = heapq.heappop(nodes) + heapq.heappop(nodes)
        bits += both
        heapq.heappush(nodes, both)
    return max(bits, 1.0)
