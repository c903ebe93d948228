"""The exchange: each worker's gradients become digits, travel, and come back as the same average everywhere.

How they travel is a schedule's own (schedules/); over what, a transport's (transport.py).
"""

import dataclasses
import math
import zlib

import tensorflow as tf

from tf_terngrad.ternary import codec
from tf_terngrad.ternary.load import Load, mark_of
from tf_terngrad.ternary.partition import bucket_lengths, flatten, unflatten
from tf_terngrad.ternary.schedules import schedule_of

NAME = "terngrad"
"""Of an exchange that is given no other; exchanges of other names draw other random bits."""


@dataclasses.dataclass(frozen=True)
class Fused:
    """Gradients that travel together: a fusion.

    Attributes:
        gradients: list of tensors of one floating dtype.
        settings: a `TernGrad`.
        name: of their exchange, the same on all workers.
        label: tells them from what else is exchanged in this step; with the step and the worker, the random bits depend
            on it. None: the name. A label that stays the same after a restart lets the bits go on.
    """

    gradients: list
    settings: object
    name: str
    label: str | None = None


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
    (means,) = average_fused([Fused(gradients, settings, name)], transport, step, name)
    return means


def average_fused(fusions, transport, step, name) -> list[list]:
    """The same of each fusion, one or more that are not empty; one exchange finds the largest scales for all of them.

    Args:
        fusions: list of `Fused`, whose `share_scales` are alike.
        transport: a `Transport`.
        step: as for `average`; the fusions' labels give each of them other random bits.
        name: of what the fusions share.
    """
    loads = [_load(fused, transport, step) for fused in fusions]
    if fusions[0].settings.share_scales:
        loads = _with_the_largest_scales(loads, transport, name)
    return [
        unflatten(schedule_of(fused.settings.schedule).average(load), fused.gradients)
        for fused, load in zip(fusions, loads, strict=True)
    ]


def _load(fused, transport, step):
    """What a fusion moves, with scales of this worker's own."""
    settings = fused.settings
    flat, sizes = flatten(fused.gradients)
    lengths = bucket_lengths(sizes, settings.bucket_size)
    thresholds, scales = codec.scale(flat, lengths, settings.clip)
    return Load(
        gradient=flat,
        lengths=lengths,
        thresholds=thresholds,
        scales=scales,
        seed=random_key(settings, step, fused.label or fused.name, transport.rank()),
        levels=settings.levels,
        shared=settings.share_scales,
        mark=mark_of(lengths, settings.levels, schedule_of(settings.schedule).signature, settings.bucket_size),
        transport=transport,
        name=fused.name,
    )


def random_key(settings, step, label, worker) -> tf.Tensor:
    """What a worker's random bits depend on, int64 (4,): seed, step, fusion, worker."""
    numbers = (settings.seed, step, zlib.crc32(label.encode()), worker)
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
        scales = load.if_alike(tf.reduce_all(most == -least), scales)
        shared.append(dataclasses.replace(load, scales=scales))
    return shared


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
