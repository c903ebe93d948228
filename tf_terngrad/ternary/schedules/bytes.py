"""Digits as bytes, from every worker to every other: one allgather."""

import tensorflow as tf

from tf_terngrad.ternary import codec
from tf_terngrad.ternary.cost import stream_bytes
from tf_terngrad.ternary.schedules.schedule import Schedule, everyones_bytes


class Bytes(Schedule):
    """One allgather of bytes, and one of scales where each worker has its own."""

    name = "bytes"
    private_scales = True
    codec = 0.37e-9
    decode = 0.59e-9
    travel = 0.06e-9

    def run(self, load):
        workers = load.transport.size()
        scales = load.everyones_scales()
        with tf.control_dependencies([scales]):  # where buckets are not alike, that is the error, and not the bytes
            data = codec.encode_bytes(*load.parts, load.levels)
        rows = tf.reshape(everyones_bytes(load, "bytes", data, tf.repeat(tf.size(data), workers)), (workers, -1))
        return codec.mean_of_bytes(rows, load.lengths, scales, load.levels, load.gradient.dtype)

    def bytes(self, size, workers, levels=1):
        return (workers - 1) * stream_bytes(size, 1, levels)

    def steps(self, workers, levels=1):
        return workers - 1
