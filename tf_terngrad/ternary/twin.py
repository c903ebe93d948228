"""The codec in TensorFlow operations, for GPUs and where the native one was not built: same laws, other random bits."""

import numpy as np
import tensorflow as tf

from tf_terngrad.ternary.layout import (
    BYTE_STRIDE,
    WORD_STRIDE,
    digits_per_byte,
    digits_per_word,
    gather,
    outputs,
    spread,
)


def scale(gradient, lengths, clip):
    """Thresholds and scales of the buckets; see `quantize.scale`."""
    values, owner, buckets = tf.cast(gradient, tf.float64), _owner(lengths), tf.size(lengths)
    count = tf.cast(tf.maximum(lengths, 1), tf.float64)
    mean = tf.math.unsorted_segment_sum(values, owner, buckets) / count
    squares = tf.square(values - tf.gather(mean, owner))
    sigma = tf.sqrt(tf.math.unsorted_segment_sum(squares, owner, buckets) / count)
    magnitude = tf.where(tf.math.is_finite(values), tf.abs(values), _INFINITY)
    largest = tf.maximum(tf.math.unsorted_segment_max(magnitude, owner, buckets), 0)
    thresholds = tf.fill(tf.shape(sigma), _INFINITY) if clip is None else tf.maximum(clip * sigma, tf.abs(mean))
    scales = tf.where(largest < _INFINITY, tf.minimum(thresholds, largest), _INFINITY)
    return tf.cast(thresholds, tf.float32), tf.cast(scales, tf.float32)


def ternarize(gradient, lengths, thresholds, scales, seed, levels=1):
    """The digits, int8; see `quantize.ternarize`."""
    gradient, owner = tf.cast(gradient, tf.float32), _owner(lengths)
    factors = tf.where((scales > 0) & tf.math.is_finite(scales), tf.math.divide_no_nan(float(levels), scales), 0)
    x = tf.minimum(tf.abs(gradient), tf.gather(thresholds, owner)) * tf.gather(factors, owner)
    chance = tf.random.stateless_uniform(tf.shape(x), _stream(seed))
    digits = tf.minimum(tf.floor(x) + tf.cast(chance < x - tf.floor(x), x.dtype), levels)
    return tf.cast(tf.sign(gradient) * digits, tf.int8)


def encode_bytes(gradient, lengths, thresholds, scales, seed, levels=1):
    """Ternarize and pack into bytes."""
    return pack_bytes(ternarize(gradient, lengths, thresholds, scales, seed, levels), levels)


def encode_words(gradient, lengths, thresholds, scales, seed, workers, levels=1):
    """Ternarize and pack into words for so many workers."""
    return pack_words(ternarize(gradient, lengths, thresholds, scales, seed, levels), workers, levels)


def pack_bytes(digits, levels=1):
    """Digits in [-levels, levels] as bytes, uint8 (outputs,)."""
    count = digits_per_byte(levels)
    checked = _within(tf.cast(digits, tf.int32), levels)
    rows = spread(checked, count, BYTE_STRIDE) + levels
    return tf.cast(tf.reduce_sum(rows * _powers(2 * levels + 1, count, tf.int32), axis=1), tf.uint8)


def unpack_bytes(data, size, levels=1):
    """The digits of bytes, int8 (size,)."""
    base, count = 2 * levels + 1, digits_per_byte(levels)
    values = tf.cast(data, tf.int32)
    _refuse(tf.size(values) == outputs(size, count, BYTE_STRIDE), "bytes of another length than the digits need", data)
    _refuse(values < base**count, f"a byte that is not below {base**count}: no encoder made it", data)
    rows = values[:, None] // _powers(base, count, tf.int32) % base - levels
    return tf.cast(_without_padding(gather(rows, count, BYTE_STRIDE), size), tf.int8)


def pack_words(digits, workers, levels=1):
    """Digits, or sums of digits of up to so many workers, as int64 words."""
    count, base = digits_per_word(workers, levels), 2 * levels * tf.cast(workers, tf.int64) + 1
    checked = _within(tf.cast(digits, tf.int64), base // 2)
    rows = spread(checked, count, WORD_STRIDE)
    return tf.reduce_sum(rows * _powers(base, count, tf.int64), axis=1)


def unpack_words(words, size, workers, levels=1):
    """The sums of digits in words, int32 (size,)."""
    count, base = digits_per_word(workers, levels), 2 * levels * tf.cast(workers, tf.int64) + 1
    limit = tf.reduce_sum(base // 2 * _powers(base, count, tf.int64))
    _refuse(tf.size(words) == outputs(size, count, WORD_STRIDE), "words of another length than the digits need", words)
    _refuse((-limit <= words) & (words <= limit), "a word out of range: no encoder made it, or too many workers", words)
    rest, columns = words, tf.TensorArray(tf.int32, count)
    for position in tf.range(count):
        digit = tf.math.floormod(rest, base)
        digit = tf.where(digit > base // 2, digit - base, digit)
        columns = columns.write(position, tf.cast(digit, tf.int32))
        rest = (rest - digit) // base
    return _without_padding(gather(tf.transpose(columns.stack()), count, WORD_STRIDE), size)


def mean_of_bytes(data, lengths, scales, levels=1, dtype=tf.float32):
    """The mean of what the rows of bytes hold, each with its row of scales."""
    workers, size = tf.shape(data)[0], tf.reduce_sum(lengths)
    total = tf.zeros((size,), tf.float32)
    for worker in tf.range(workers):
        digits = tf.cast(unpack_bytes(data[worker], size, levels), tf.float32)
        total += digits * _each(scales[worker], lengths)
    return tf.cast(total / tf.cast(levels * workers, tf.float32), dtype)


def mean_of_words(words, lengths, scales, workers, levels=1, dtype=tf.float32):
    """The mean that the sum of the workers' words holds, with scales that all of them shared."""
    sums = tf.cast(unpack_words(words, tf.reduce_sum(lengths), workers, levels), tf.float32)
    return tf.cast(sums * _each(scales, lengths) / tf.cast(levels * workers, tf.float32), dtype)


def sum_bytes(data, size, levels=1):
    """The rows of bytes, summed digit by digit, as words for as many workers as there are rows."""
    workers = tf.shape(data)[0]
    total = tf.zeros((size,), tf.int32)
    for worker in tf.range(workers):
        total += tf.cast(unpack_bytes(data[worker], size, levels), tf.int32)
    return pack_words(total, workers, levels)


# No tensor: to make one would start TensorFlow, whose threads and devices can only be chosen before.
_INFINITY = np.float64("inf")


def _owner(lengths):
    """The bucket of each element."""
    return tf.repeat(tf.range(tf.size(lengths)), lengths)


def _each(scales, lengths):
    """The scale of each element; NaN where the scale is not finite."""
    return tf.repeat(tf.where(tf.math.is_finite(scales), scales, float("nan")), lengths)


def _stream(seed):
    """The two numbers that TensorFlow's generator wants, from any more."""
    seed = tf.cast(tf.convert_to_tensor(seed), tf.int64)
    stream = seed[:2]
    for position in range(2, seed.shape[0]):
        stream = tf.random.experimental.stateless_fold_in(stream, seed[position])
    return stream


def _powers(base, count, dtype):
    """1, base, base^2, ...: count of them."""
    ones = tf.fill((count,), tf.cast(base, dtype))
    return tf.math.cumprod(ones, exclusive=True)


def _within(digits, largest):
    _refuse(tf.abs(digits) <= tf.cast(largest, digits.dtype), "a digit out of range", digits)
    return digits


def _without_padding(digits, size):
    _refuse(digits[size:] == 0, "digits behind the last one", digits[size:])
    return digits[:size]


def _refuse(good, found, values):
    tf.debugging.Assert(tf.reduce_all(good), [f"Malformed digits. Found: {found}.", values], summarize=4)
