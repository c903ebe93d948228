"""The codec in TensorFlow operations, for GPUs and where the native one was not built: same laws, other random bits."""

import numpy as np
import tensorflow as tf

from tf_terngrad.checks import expect
from tf_terngrad.ternary import huffman
from tf_terngrad.ternary.layout import (
    BYTE_STRIDE,
    LARGEST_LEVELS,
    LARGEST_SUM,
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
    power = tf.where(scales > 2.0**100, 2.0**-60, 1.0)  # without it, the quotient of a large scale would vanish
    finite = (scales > 0) & tf.math.is_finite(scales)
    factors = tf.where(finite, tf.math.divide_no_nan(float(levels), scales * power), 0)
    x = tf.minimum(tf.abs(gradient), tf.gather(thresholds, owner)) * tf.gather(power, owner) * tf.gather(factors, owner)
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
    checked = _within(tf.cast(digits, _DIGITS), levels)
    rows = spread(checked, count, BYTE_STRIDE) + tf.cast(levels, _DIGITS)
    return tf.cast(tf.reduce_sum(rows * _powers(2 * levels + 1, count, _DIGITS), axis=1), tf.uint8)


def unpack_bytes(data, size, levels=1):
    """The digits of bytes, int8 (size,)."""
    base, count = 2 * levels + 1, digits_per_byte(levels)
    values = tf.cast(data, _DIGITS)
    _refuse(tf.size(values) == outputs(size, count, BYTE_STRIDE), "bytes of another length than the digits need", data)
    _refuse(values < tf.cast(base**count, _DIGITS), f"a byte that is not below {base**count}: no encoder made it", data)
    rows = values[:, None] // _powers(base, count, _DIGITS) % tf.cast(base, _DIGITS) - tf.cast(levels, _DIGITS)
    return tf.cast(_without_padding(gather(rows, count, BYTE_STRIDE), size), tf.int8)


def pack_words(digits, workers, levels=1):
    """Digits, or sums of digits of up to so many workers, as int64 words."""
    count, base = _word_layout(workers, levels)
    checked = _within(tf.cast(digits, tf.int64), base // 2)
    rows = spread(checked, count, WORD_STRIDE)
    return tf.reduce_sum(rows * _powers(base, count, tf.int64), axis=1)


def unpack_words(words, size, workers, levels=1):
    """The sums of digits in words, int32 (size,)."""
    count, base = _word_layout(workers, levels)
    limit = tf.reduce_sum(base // 2 * _powers(base, count, tf.int64))
    _refuse(tf.size(words) == outputs(size, count, WORD_STRIDE), "words of another length than the digits need", words)
    _refuse((-limit <= words) & (words <= limit), "a word out of range: no encoder made it, or too many workers", words)

    def next_digit(position, rest, columns):
        digit = tf.math.floormod(rest, base)
        digit = tf.where(digit > base // 2, digit - base, digit)
        return (rest - digit) // base, columns.write(position, tf.cast(digit, tf.int32))

    _, columns = _times(count, next_digit, words, tf.TensorArray(tf.int32, count))
    return _without_padding(gather(tf.transpose(columns.stack()), count, WORD_STRIDE), size)


def mean_of_bytes(data, lengths, scales, levels=1, dtype=tf.float32):
    """The mean of what the rows of bytes hold, each with its row of scales."""
    units = scales / tf.cast(levels * tf.shape(data)[0], tf.float32)
    total = _sum_of_rows(data, tf.reduce_sum(lengths), levels, tf.float32, lambda row: _each(units[row], lengths))
    return tf.cast(total, dtype)


def mean_of_words(words, lengths, scales, workers, levels=1, dtype=tf.float32):
    """The mean that the sum of the workers' words holds, with scales that all of them shared."""
    sums = tf.cast(unpack_words(words, tf.reduce_sum(lengths), workers, levels), tf.float32)
    return tf.cast(sums * _each(scales / tf.cast(levels * workers, tf.float32), lengths), dtype)


def sum_bytes(data, size, levels=1):
    """The rows of bytes, summed digit by digit, as words for as many workers as there are rows."""
    return pack_words(_sum_of_rows(data, size, levels), tf.shape(data)[0], levels)


def add_bytes(data, size, levels=1):
    """The rows of bytes, summed digit by digit, as bytes of levels times the number of rows."""
    workers = tf.shape(data)[0]
    _refuse(levels * workers <= LARGEST_LEVELS, f"more rows than make {LARGEST_LEVELS} levels", tf.shape(data))
    return pack_bytes(_sum_of_rows(data, size, levels), levels * workers)


def compress(data, counts):
    """Bytes as streams of so many bytes each, and the sizes of the streams; the bytes stay as they are.

    To code letter by letter is no work for operations on whole tensors; to read what the native codec has coded is.
    """
    counts = tf.cast(counts, tf.int32)
    _refuse(tf.reduce_sum(counts) == tf.size(data), "counts that do not add up to the number of bytes", counts)
    marks = tf.cast(counts > 0, tf.int32)
    mark = tf.fill((tf.reduce_sum(marks),), tf.constant(huffman.STORED, tf.uint8))
    streams = tf.concat([tf.RaggedTensor.from_row_lengths(*part) for part in ((mark, marks), (data, counts))], axis=1)
    return streams.flat_values, marks + counts


def decompress(streams, counts):
    """The bytes of streams, one after the other."""
    counts, left = tf.cast(counts, tf.int32), tf.cast(streams, tf.int32)
    parts = tf.TensorArray(tf.uint8, tf.size(counts), infer_shape=False, element_shape=(None,))

    def next_stream(stream, left, parts):
        letters, left = _first_stream(left, counts[stream])
        return left, parts.write(stream, tf.cast(letters, tf.uint8))

    left, parts = _times(tf.size(counts), next_stream, left, parts)
    _refuse(tf.size(left) == 0, "more bytes than the streams have", counts)
    return parts.concat()


def _first_stream(data, count):
    """The letters of the stream that the data begins with, and the data behind it."""
    stored = tf.reduce_all(data[: tf.minimum(count, 1)] == huffman.STORED)
    return tf.cond(stored, lambda: _stored_letters(data, count), lambda: _coded_letters(data, count))


def _stored_letters(data, count):
    end = count + tf.minimum(count, 1)
    _refuse(tf.size(data) >= end, "streams cut short", count)
    return data[end - count : end], data[end:]


def _coded_letters(data, count):
    lanes = _lanes(count)
    body = huffman.LENGTH_BYTES + 2 * tf.size(lanes)
    _refuse(tf.size(data) >= body, "streams cut short", count)
    lengths = tf.reshape(tf.stack([data[: huffman.LENGTH_BYTES] % 16, data[: huffman.LENGTH_BYTES] // 16], -1), (-1,))
    sizes = tf.reshape(data[huffman.LENGTH_BYTES : body], (-1, 2))
    sizes = sizes[:, 0] + 256 * sizes[:, 1]
    end, granule = body + tf.reduce_sum(sizes), huffman.granule(count)
    behind = end + -end % granule
    _refuse(tf.size(data) >= behind, "streams cut short", count)
    _refuse(data[end:behind] == 0, "padding that is not zero", data[end:behind])
    return _letters(data[body:end], lengths, sizes, lanes), data[behind:]


def _letters(data, lengths, sizes, lanes):
    """The letters of lanes of these sizes: the next one of each lane at every turn."""
    table = _decoding_table(lengths)
    padded = tf.pad(data, [[0, 2 + huffman.LANE * huffman.LONGEST_CODE // 8]])
    windows = padded[:-2] + padded[1:-1] * 2**8 + padded[2:] * 2**16
    first = tf.cumsum(sizes, exclusive=True)
    turns = tf.reduce_max(lanes)

    def next_letters(turn, read, letters):
        bits = tf.bitwise.right_shift(tf.gather(windows, first + read // 8), read % 8) % 2**huffman.LONGEST_CODE
        entries = tf.gather(table, bits)
        return read + tf.where(turn < lanes, entries % 16, 0), letters.write(turn, entries // 16)

    letters = tf.TensorArray(tf.int32, turns, element_shape=(None,))
    read, letters = _times(turns, next_letters, tf.zeros_like(sizes), letters)
    _refuse((read + 7) // 8 == sizes, "lanes of other sizes than their letters need", sizes)
    last = tf.gather(padded, first + tf.maximum(sizes - 1, 0))
    spare = tf.where(read % 8 > 0, tf.bitwise.right_shift(last, read % 8), 0)
    _refuse(spare == 0, "bits behind the last letter of a lane that are not zero", spare)
    return tf.boolean_mask(tf.transpose(letters.stack()), tf.sequence_mask(lanes, turns))


def _decoding_table(lengths):
    """For every sequence of bits of the longest code: 16 times its first letter, plus the length of that one's code."""
    ordered = tf.argsort(tf.where(lengths > 0, lengths, 16), stable=True)
    sorted_lengths = tf.gather(lengths, ordered)
    spans = tf.where(sorted_lengths > 0, 2 ** tf.maximum(huffman.LONGEST_CODE - sorted_lengths, 0), 0)
    complete = (tf.reduce_sum(spans) == 2**huffman.LONGEST_CODE) & (tf.reduce_max(lengths) <= huffman.LONGEST_CODE)
    _refuse(complete, "lengths that are not those of a complete code", lengths)
    return tf.gather(tf.repeat(16 * ordered + sorted_lengths, spans), huffman.reversed_bits(huffman.LONGEST_CODE))


def _lanes(count):
    """How many letters each lane of a stream of so many letters has."""
    blocks = -(-count // huffman.BLOCK)
    letters = tf.minimum(count - tf.range(blocks) * huffman.BLOCK, huffman.BLOCK)[:, None]
    stride = -(-letters // huffman.LANES)
    return tf.reshape(tf.clip_by_value(letters - tf.range(huffman.LANES) * stride, 0, stride), (-1,))


# A byte's digits in float32: exact, and TensorFlow calculates with int32 in the host's memory, not on the GPU.
_DIGITS = tf.float32
# No tensor: to make one would start TensorFlow, whose threads and devices can only be chosen before.
_INFINITY = np.float64("inf")


def _sum_of_rows(data, size, levels, dtype=tf.int32, factor=lambda row: 1):
    """The digits of all rows of bytes, each row times its factor, added."""

    def add(row, total):
        return (total + tf.cast(unpack_bytes(data[row], size, levels), dtype) * factor(row),)

    (total,) = _times(tf.shape(data)[0], add, tf.zeros((size,), dtype))
    return total


def _times(count, body, *state):
    """What becomes of the state, vectors and TensorArrays, if so many times `state = body(turn, *state)`.

    No loop of Python's, which AutoGraph would have to convert: Keras trains without.
    """
    shapes = [tf.TensorShape(None if isinstance(each, tf.TensorArray) else [None]) for each in state]
    _, *state = tf.while_loop(
        lambda turn, *_: turn < count,
        lambda turn, *state: (turn + 1, *body(turn, *state)),
        (tf.constant(0), *state),
        shape_invariants=(tf.TensorShape([]), *shapes),
    )
    return state


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


def _word_layout(workers, levels):
    """How many digits a word holds, and their base."""
    workers = tf.cast(workers, tf.int64)
    most = LARGEST_SUM // levels
    _refuse((workers >= 1) & (workers <= most), f"not 1 to {most} workers, for which words hold sums", workers)
    return digits_per_word(workers, levels), 2 * levels * workers + 1


def _within(digits, largest):
    _refuse(tf.abs(digits) <= tf.cast(largest, digits.dtype), "a digit out of range", digits)
    return digits


def _without_padding(digits, size):
    _refuse(digits[size:] == 0, "digits behind the last one", digits[size:])
    return digits[:size]


def _refuse(good, found, values):
    expect(tf.reduce_all(good), f"Malformed digits. Found: {found}. Received:", values)
