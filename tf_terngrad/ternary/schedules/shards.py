"""Digits as bytes, summed shard by shard: an alltoall, and an allgather of the sums."""

import functools

import tensorflow as tf

from tf_terngrad.ternary import codec
from tf_terngrad.ternary.cost import stream_bytes
from tf_terngrad.ternary.layout import BYTE_STRIDE, HIGH, LARGEST_IN_TWO, LARGEST_LEVELS, digits_per_byte, outputs
from tf_terngrad.ternary.partition import shard_sizes
from tf_terngrad.ternary.schedules.schedule import Schedule, everyones_bytes


class Shards(Schedule):
    """An alltoall of bytes, each worker's sums of its shard, and an allgather of those.

    A shard ends where blocks of digits end before and after their summation, so that the workers' sums, one after the
    other, are those of the whole gradient. Sums travel as bytes too: one for some sums, or two for each that one byte
    cannot hold, low + 255 high.
    """

    name = "shards"
    largest_sum = LARGEST_IN_TWO
    codec = 2.3e-9
    travel = 1.0e-9

    def run(self, load):
        workers, rank = load.transport.size(), load.transport.rank()
        shards = shard_sizes(tf.size(load.gradient), workers, load.levels)
        counts = outputs(shards, digits_per_byte(load.levels), BYTE_STRIDE)
        streams, sizes = codec.compress(codec.encode_bytes(*load.parts, load.levels), counts)
        received = load.transport.scatter(streams, sizes, f"{load.name}.bytes")
        rows = tf.reshape(codec.decompress(received, tf.repeat(counts[rank], workers)), (workers, counts[rank]))
        by_size = [functools.partial(sums_of, load, rows, shards) for sums_of in (_sums_in_one_byte, _sums_in_two)]
        return tf.cast(tf.cond(workers * load.levels <= LARGEST_LEVELS, *by_size), load.gradient.dtype)

    def bytes(self, size, workers, levels=1):
        shard = size / workers
        return (workers - 1) * (stream_bytes(shard, 1, levels) + stream_bytes(shard, workers, levels))

    def steps(self, workers, levels=1):
        """An alltoall, whose messages go out together; then all low bytes, and the high ones, around a ring."""
        return 1 + _bytes_of_a_sum(workers, levels) * (workers - 1)

    def exchanges(self, workers, levels=1):
        """The alltoall, and the gathering of the bytes of sums."""
        return 1 + _bytes_of_a_sum(workers, levels)


def _bytes_of_a_sum(workers, levels):
    return 1 if workers * levels <= LARGEST_LEVELS else 2


def _sums_in_one_byte(load, rows, shards):
    """The mean, float32, of everyone's sums of such rows of bytes: at most 127, several in a byte where they fit."""
    workers, rank = load.transport.size(), load.transport.rank()
    sums = codec.add_bytes(rows, shards[rank], load.levels)
    return _mean_of_sums(load, "sums", sums, shards, load.scales, workers * load.levels)


def _sums_in_two(load, rows, shards):
    """The same of larger sums, each low + 255 high."""
    workers, rank = load.transport.size(), load.transport.rank()
    words = codec.sum_bytes(rows, shards[rank], load.levels)
    sums = codec.unpack_words(words, shards[rank], workers, load.levels)
    high = tf.math.floordiv(sums + LARGEST_LEVELS, HIGH)
    scales = load.scales * (LARGEST_LEVELS / tf.cast(workers * load.levels, tf.float32))
    low = codec.pack_bytes(sums - HIGH * high, LARGEST_LEVELS)
    low = _mean_of_sums(load, "low", low, shards, scales, LARGEST_LEVELS)
    high = codec.pack_bytes(high, LARGEST_LEVELS)
    return low + _mean_of_sums(load, "high", high, shards, HIGH * scales, LARGEST_LEVELS)


def _mean_of_sums(load, what, sums, shards, scales, levels):
    """The mean that everyone's sums of shards hold, bytes of so many levels."""
    data = everyones_bytes(load, what, sums, outputs(shards, digits_per_byte(levels), BYTE_STRIDE))
    return codec.mean_of_bytes(data[None], load.lengths, scales[None], levels, tf.float32)
