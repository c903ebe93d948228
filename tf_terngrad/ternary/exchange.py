"""The exchange: each worker's gradients become digits, travel, and come back as the same average everywhere.

Three schedules, one contract: every worker gets bit-identical averages.

- "words": digits in base-(2NL+1) int64 words, summed by one allreduce; the scales are shared first.
- "bytes": every worker's bytes to every other, by one allgather; each worker may keep scales of its own.
- "shards": every worker sums the bytes of its own shard (an alltoall) and hands the sums on (an allgather), as bytes
  too: one for some sums, or two for each that one byte cannot hold, low + 255 high.

Bytes travel in a Huffman code (huffman.py).
"""

import dataclasses
import functools
import math
import zlib
from typing import Protocol

import tensorflow as tf

from tf_terngrad.checks import expect
from tf_terngrad.ternary import codec, cost
from tf_terngrad.ternary.layout import (
    BYTE_STRIDE,
    HIGH,
    LARGEST_IN_TWO,
    LARGEST_LEVELS,
    digits_per_byte,
    outputs,
)
from tf_terngrad.ternary.partition import bucket_lengths, flatten, shard_sizes, unflatten

NAME = "terngrad"
"""Of an exchange that is given no other; exchanges of other names draw other random bits."""


class Transport(Protocol):
    """What the schedules need of a network. A name is the same on all workers, and unique within a step."""

    def size(self) -> tf.Tensor:
        """How many workers there are now, int32 scalar."""

    def rank(self) -> tf.Tensor:
        """Which of them this one is, int32 scalar."""

    def maximum(self, tensor: tf.Tensor, name: str) -> tf.Tensor:
        """The greatest value of any worker, elementwise."""

    def total(self, tensor: tf.Tensor, name: str) -> tf.Tensor:
        """The sum over workers, elementwise."""

    def gather(self, tensor: tf.Tensor, name: str) -> tf.Tensor:
        """Every worker's tensor, one after the other along the first axis; lengths may differ."""

    def scatter(self, tensor: tf.Tensor, counts: tf.Tensor, name: str) -> tf.Tensor:
        """Hand counts[r] elements of a vector to worker r; what the workers handed to this one, in their order."""


@dataclasses.dataclass(frozen=True)
class Load:
    """What one exchange moves: a flat gradient, its buckets, and where it goes.

    Attributes:
        gradient: floats (size,).
        lengths: int32 (buckets,), how many consecutive elements share a scale.
        thresholds, scales: float32 (buckets,).
        seed: int64 (4,): seed, step, exchange, worker.
        levels: L; digits are in [-L, L].
        shared: whether the scales are the same on all workers.
        mark: float32 (2,), which tells the lengths and the settings from others.
        transport: the network.
        name: of the exchange.
    """

    gradient: tf.Tensor
    lengths: tf.Tensor
    thresholds: tf.Tensor
    scales: tf.Tensor
    seed: tf.Tensor
    levels: int
    shared: bool
    mark: tf.Tensor
    transport: Transport
    name: str

    @property
    def parts(self):
        """What the encoders take."""
        return self.gradient, self.lengths, self.thresholds, self.scales, self.seed


@dataclasses.dataclass(frozen=True)
class Group:
    """Gradients that travel together: what `average` takes of them."""

    gradients: list
    settings: object
    name: str


def average(gradients, settings, transport, step, name=NAME):
    """The averages of the workers' gradients, exchanged as digits; one exchange for all of them.

    Args:
        gradients: list of tensors of one floating dtype, of the same shapes on all workers.
        settings: a `TernGrad`: clip, levels, bucket_size, share_scales, schedule, seed.
        transport: a `Transport`.
        step: integer scalar; another one for each exchange gives fresh random bits.
        name: of the exchange, the same on all workers.

    Returns:
        A list of tensors, bit-identical on all workers. NaN or infinity in a bucket of any worker makes that bucket
        NaN on all of them.
    """
    if not gradients:
        return []
    (means,) = average_groups([Group(gradients, settings, name)], transport, step, name)
    return means


def average_groups(groups, transport, step, name) -> list[list]:
    """The same of each group, of one or more that are not empty; one exchange finds the largest scales for all of them.

    Args:
        groups: list of `Group`, whose `share_scales` are alike.
        transport: a `Transport`.
        step: as for `average`; the groups' names give each of them other random bits.
        name: of what the groups share.
    """
    loads = [_load(group, transport, step) for group in groups]
    if groups[0].settings.share_scales:
        loads = _with_the_largest_scales(loads, transport, name)
    return [
        unflatten(_scheduled(group.settings.schedule, load), group.gradients)
        for group, load in zip(groups, loads, strict=True)
    ]


def _load(group, transport, step):
    """What a group moves, with scales of this worker's own."""
    settings, name = group.settings, group.name
    flat, sizes = flatten(group.gradients)
    lengths = bucket_lengths(sizes, settings.bucket_size)
    thresholds, scales = codec.scale(flat, lengths, settings.clip)
    seed = random_key(settings, step, name, transport.rank())
    mark = _mark(lengths, settings)
    return Load(flat, lengths, thresholds, scales, seed, settings.levels, settings.share_scales, mark, transport, name)


def random_key(settings, step, name, worker) -> tf.Tensor:
    """What a worker's random bits depend on, int64 (4,): seed, step, exchange, worker."""
    numbers = (settings.seed, step, zlib.crc32(name.encode()), worker)
    return tf.stack([tf.cast(number, tf.int64) for number in numbers])


def _with_the_largest_scales(loads, transport, name):
    """The loads with the largest scales of all workers.

    What a sum of words would hide is found here: buckets of other lengths.
    """
    own = [tf.concat([load.scales, load.mark, -load.mark], 0) for load in loads]
    largest = transport.maximum(tf.concat(own, 0), f"{name}.scales")
    shared = []
    for load, part in zip(loads, tf.split(largest, [tf.size(part) for part in own], num=len(own)), strict=True):
        scales, most, least = tf.split(part, [tf.size(load.scales), 2, 2])
        scales = _if_alike(tf.reduce_all(most == -least), load.lengths, load.name, scales)
        shared.append(dataclasses.replace(load, scales=scales))
    return shared


def _everyones(load, workers):
    """All workers' own scales, (workers, buckets), of buckets of the same lengths."""
    rows = load.transport.gather(tf.concat([load.scales, load.mark], 0), f"{load.name}.scales")
    rows = tf.reshape(rows, (workers, -1))
    return _if_alike(tf.reduce_all(rows[:, -2:] == rows[:1, -2:]), load.lengths, load.name, rows[:, :-2])


def _mark(lengths, settings):
    """Two floats that tell lengths and settings from others: the sum of a hash of every length and its position."""
    own = zlib.crc32(repr((settings.levels, settings.schedule, settings.bucket_size)).encode())
    positions = tf.range(own, own + tf.size(lengths, tf.int64))
    mixed = tf.bitwise.bitwise_xor(tf.cast(lengths, tf.int64) * 0x1E3779B97F4A7C15, positions * 0x42B2AE3D27D4EB4F)
    mixed = tf.bitwise.bitwise_xor(mixed, tf.bitwise.right_shift(mixed, 29)) * 0x3F58476D1CE4E5B9
    mark = tf.reduce_sum(tf.bitwise.bitwise_xor(mixed, tf.bitwise.right_shift(mixed, 32))) + own
    return tf.cast(tf.stack([tf.math.floormod(mark // 2**20, 2**20), tf.math.floormod(mark, 2**20)]), tf.float32)


def _if_alike(alike, lengths, name, value):
    message = (
        f"The workers' gradients differ, in {name!r}, or their settings. Expected tensors of the same shapes, in the "
        "same order, and equal levels, schedule and bucket_size on all of them, and that none has left by hvd.join(). "
        "This one has buckets of"
    )
    return _checked(alike, [message, lengths], value)


def _checked(good, message, value):
    """The value, where this is good."""
    with tf.control_dependencies(expect(good, *message)):
        return tf.identity(value)


def average_rows(slices, settings, transport, step, name=NAME) -> tf.IndexedSlices:
    """The average of the workers' `tf.IndexedSlices`, as digits: each index that any worker has once, in rising order.

    Arguments are those of `average`.
    """
    block, indices = rows_of_all(slices, transport, name)
    (block,) = average([block], for_rows(settings, slices.values.shape), transport, step, name)
    return tf.IndexedSlices(block, indices, slices.dense_shape)


def for_rows(settings, shape):
    """The settings for a block of this shape, whose rows have a scale each.

    With a shared one, the rows of zeros that stand for what a worker lacks would make its standard deviation small, and
    clip the others too much.
    """
    return dataclasses.replace(settings, bucket_size=max(math.prod(shape[1:]), 1))


def rows_of_all(slices, transport, name) -> tuple[tf.Tensor, tf.Tensor]:
    """This worker's rows, a block with one for each index that any worker has; and those indices.

    Rows of one index are added; those that this worker lacks are zeros.
    """
    mine, _ = tf.unique(slices.indices)
    indices = tf.sort(tf.unique(transport.gather(mine, f"{name}.indices"))[0])
    rows = tf.searchsorted(indices, slices.indices)
    return tf.math.unsorted_segment_sum(slices.values, rows, tf.size(indices)), indices


def _scheduled(schedule, load):
    """The average by the schedule of this name, or by the cheapest one for the number of workers there are now."""
    allowed = [name for name in SCHEDULES if load.shared or name == "bytes"]
    size = load.gradient.shape[0]
    if schedule != "auto" or size is None or len(allowed) == 1:
        return SCHEDULES[allowed[0] if schedule == "auto" else schedule](load)
    if tf.executing_eagerly():
        return SCHEDULES[cost.choose(size, int(load.transport.size()), load.levels)](load)
    best = [cost.choose(size, workers, load.levels) for workers in range(1, cost.LARGEST + 1)]
    used = list(dict.fromkeys(best))
    if len(used) == 1:
        return SCHEDULES[used[0]](load)
    index = tf.gather([used.index(name) for name in best], tf.minimum(load.transport.size(), cost.LARGEST) - 1)
    # in the graph, for all workers must choose alike when their number changes
    return tf.switch_case(index, [functools.partial(SCHEDULES[name], load) for name in used])


def by_words(load):
    """One allreduce of words."""
    workers = load.transport.size()
    words = codec.encode_words(*load.parts, workers, load.levels)
    total = load.transport.total(words, f"{load.name}.words")
    return codec.mean_of_words(total, load.lengths, load.scales, workers, load.levels, load.gradient.dtype)


def by_bytes(load):
    """One allgather of bytes, and one of scales where each worker has its own."""
    workers = load.transport.size()
    scales = tf.repeat(load.scales[None], workers, axis=0)
    if not load.shared:
        scales = _everyones(load, workers)
    with tf.control_dependencies([scales]):  # where buckets are not alike, that is the error, and not the bytes
        data = codec.encode_bytes(*load.parts, load.levels)
    rows = tf.reshape(_everyones_bytes(load, "bytes", data, tf.repeat(tf.size(data), workers)), (workers, -1))
    return codec.mean_of_bytes(rows, load.lengths, scales, load.levels, load.gradient.dtype)


def by_shards(load):
    """An alltoall of bytes, each worker's sums of its shard, and an allgather of those.

    A shard ends where blocks of digits end before and after their summation, so that the workers' sums, one after the
    other, are those of the whole gradient.
    """
    workers, rank = load.transport.size(), load.transport.rank()
    message = (
        f"{load.name!r}: expected N L, the largest sum of digits, of at most {LARGEST_IN_TWO} for schedule='shards'"
    )
    most = workers * load.levels
    most = _checked(most <= LARGEST_IN_TWO, [message, "Choose schedule='words'. Received a sum of", most], most)
    shards = shard_sizes(tf.size(load.gradient), workers, load.levels)
    counts = outputs(shards, digits_per_byte(load.levels), BYTE_STRIDE)
    streams, sizes = codec.compress(codec.encode_bytes(*load.parts, load.levels), counts)
    received = load.transport.scatter(streams, sizes, f"{load.name}.bytes")
    rows = tf.reshape(codec.decompress(received, tf.repeat(counts[rank], workers)), (workers, counts[rank]))
    by_size = [functools.partial(sums_of, load, rows, shards) for sums_of in (_sums_in_one_byte, _sums_in_two)]
    return tf.cast(tf.cond(most <= LARGEST_LEVELS, *by_size), load.gradient.dtype)


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
    data = _everyones_bytes(load, what, sums, outputs(shards, digits_per_byte(levels), BYTE_STRIDE))
    return codec.mean_of_bytes(data[None], load.lengths, scales[None], levels, tf.float32)


def _everyones_bytes(load, what, data, counts):
    """The workers' bytes, one after the other, so many of each."""
    streams, _ = codec.compress(data, tf.size(data)[None])
    return codec.decompress(load.transport.gather(streams, f"{load.name}.{what}"), counts)


SCHEDULES = {"words": by_words, "bytes": by_bytes, "shards": by_shards}
