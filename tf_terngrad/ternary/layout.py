"""How digits lie in bytes and words: how many in each, and in which order.

Digits are integers in [-L, L]. A byte holds q = floor(log(256) / log(2L + 1)) of them, offset by L, in base 2L + 1. A
word for N workers holds k of them in balanced base B = 2NL + 1, the largest k with B^k <= 2^64 - 1: the words of N
workers add up digit by digit, for |sum| <= (B^k - 1) / 2 never carries.

Blocks of q * W digits are planar: output j holds the digits j, j + W, j + 2W, ... of its block, so that loops over j
vectorize. The last block of r digits has ceil(r / q) outputs in place of W; what its digits leave empty is zero.
"""

import bisect

import numpy as np
import tensorflow as tf

BYTE_STRIDE = 64
WORD_STRIDE = 8
LARGEST_DIGITS = 40  # in a word: 3^40 < 2^64
LARGEST_LEVELS = 127  # of digits in bytes
HIGH = 2 * LARGEST_LEVELS + 1  # what the high one of two such digits stands for
LARGEST_IN_TWO = LARGEST_LEVELS * (HIGH + 1)  # the largest sum that two hold
LARGEST_SUM = 2**21 - 1  # of a word's digits: workers times levels


def digits_per_byte(levels):
    """How many digits in [-levels, levels] a byte holds; a tensor for a tensor.

    >>> digits_per_byte(1), digits_per_byte(2), digits_per_byte(127)
    (5, 3, 1)
    """
    base = 2 * levels + 1
    if not tf.is_tensor(base):
        return _exponent(base, 2**8)
    return tf.reduce_sum(tf.cast(tf.cast(base, tf.int32) <= _LARGEST_BASES_IN_BYTES, tf.int32))


def digits_per_word(workers, levels: int = 1):
    """How many digits an int64 word holds whose sums over all workers must not carry; a tensor for a tensor.

    >>> [digits_per_word(workers) for workers in (1, 2, 4, 8, 64)]
    [40, 27, 20, 15, 9]
    """
    base = 2 * levels * workers + 1
    if not tf.is_tensor(base):
        return _exponent(base, 2**64)
    return tf.reduce_sum(tf.cast(tf.cast(base, tf.int64) <= _LARGEST_BASES, tf.int32))


def outputs(size, digits: int, stride: int):
    """How many bytes or words hold `size` digits: a number, or a tensor if `size` is one."""
    block = digits * stride
    return size // block * stride + -(-(size % block) // digits)


def spread(values: tf.Tensor, digits: int, stride: int) -> tf.Tensor:
    """Digits of shape (size,) as rows of shape (outputs, digits): what each byte or word holds."""
    size = tf.size(values)
    full = size // (digits * stride) * digits * stride
    head = tf.reshape(tf.transpose(tf.reshape(values[:full], (-1, digits, stride)), (0, 2, 1)), (-1, digits))
    rows = -(-(size - full) // digits)
    tail = tf.pad(values[full:], [[0, rows * digits - (size - full)]])
    return tf.concat([head, tf.transpose(tf.reshape(tail, (digits, rows)))], axis=0)


def gather(rows: tf.Tensor, digits: int, stride: int) -> tf.Tensor:
    """The inverse of `spread`, with the zeros behind the last digit."""
    full = tf.shape(rows)[0] // stride * stride
    head = tf.transpose(tf.reshape(rows[:full], (-1, stride, digits)), (0, 2, 1))
    return tf.concat([tf.reshape(head, (-1,)), tf.reshape(tf.transpose(rows[full:]), (-1,))], axis=0)


def _exponent(base: int, bound: int) -> int:
    """The largest k with base^k < bound."""
    return next(k for k in range(65) if base ** (k + 1) >= bound)


def _largest_bases(count: int, bound: int, dtype) -> np.ndarray:
    """The largest base of the dtype with base^exponent below the bound, for each exponent from 1 to count."""
    bases = range(min(bound, np.iinfo(dtype).max))
    found = [bisect.bisect_left(bases, bound, key=lambda base: base**exponent) - 1 for exponent in range(1, count + 1)]
    return np.array(found, dtype)


_LARGEST_BASES_IN_BYTES = _largest_bases(digits_per_byte(1), 2**8, np.int32)
_LARGEST_BASES = _largest_bases(LARGEST_DIGITS, 2**64, np.int64)
