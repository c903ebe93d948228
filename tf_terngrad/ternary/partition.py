"""A step's gradients as one vector: its buckets, each with a scale, and its shards, each summed by one worker."""

import math

import tensorflow as tf

from tf_terngrad.ternary.layout import BYTE_STRIDE, LARGEST_LEVELS, digits_per_byte


def flatten(tensors) -> tuple[tf.Tensor, tf.Tensor]:
    """All elements of some tensors, one after the other, and how many each has."""
    flat = tf.concat([tf.reshape(tensor, (-1,)) for tensor in tensors], 0)
    return flat, tf.stack([tf.size(tensor) for tensor in tensors])


def unflatten(flat, tensors) -> list[tf.Tensor]:
    """What `flatten` made one, in the shapes of these tensors."""
    parts = tf.split(flat, [tf.size(tensor) for tensor in tensors], num=len(tensors))
    return [
        tf.ensure_shape(tf.reshape(part, tf.shape(tensor)), tensor.shape)
        for part, tensor in zip(parts, tensors, strict=True)
    ]


def bucket_lengths(sizes, bucket_size):
    """The buckets of several tensors, one after the other: each tensor, or pieces of at most `bucket_size` of it.

    >>> bucket_lengths(tf.constant([5, 2]), 3).numpy().tolist()
    [3, 2, 2]
    """
    if bucket_size is None:
        return sizes
    counts = tf.maximum(-(-sizes // bucket_size), 1)
    whole = tf.repeat(bucket_size, tf.reduce_sum(counts))
    last = tf.cumsum(counts) - 1
    return tf.tensor_scatter_nd_add(whole, last[:, None], sizes - counts * bucket_size)


def shard_sizes(size, workers, levels):
    """How many digits each worker sums, int32 (workers,): about as many each, in whole blocks of what holds them."""
    block = _shard_block(workers, levels)
    each = (size + workers * block - 1) // (workers * block) * block
    return tf.clip_by_value(size - tf.range(workers) * each, 0, each)


def _shard_block(workers, levels):
    """The digits of whole blocks of bytes, and of whole blocks of the bytes of their sums."""
    blocks = [BYTE_STRIDE * math.lcm(digits_per_byte(levels), of_sums) for of_sums in range(1, digits_per_byte(1) + 1)]
    return tf.gather(blocks, digits_per_byte(tf.minimum(workers * levels, LARGEST_LEVELS)) - 1)
