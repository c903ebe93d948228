"""The ways to average gradients that tools/benchmark_network.py compares: functions of a list of gradients."""

import grace
import horovod.tensorflow as hvd
import tensorflow as tf

import tf_terngrad as tt
from tf_terngrad.ternary.exchange import average
from tf_terngrad.ternary.transport import HorovodTransport

CLIP = 2.5
SMALLEST = 1000  # the smallest gradient that is measured


def alone(gradients, name):
    """No exchange: what a step takes without."""
    return gradients


def float32(gradients, name):
    """Horovod's allreduce, which fuses the tensors."""
    return [hvd.allreduce(gradient, name=f"{name}.{index}") for index, gradient in enumerate(gradients)]


def float16(gradients, name):
    """The same, of halves."""
    compression = hvd.Compression.fp16
    return [
        hvd.allreduce(gradient, name=f"{name}.{index}", compression=compression)
        for index, gradient in enumerate(gradients)
    ]


def int8(gradients, name):
    """TernGrad as GRACE does it: for each tensor, everybody's digits and scales to everybody."""
    return [_int8(gradient, f"{name}.{index}") for index, gradient in enumerate(gradients)]


def _int8(gradient, name):
    digits, scale = grace.encode(tf.reshape(gradient, (-1,)), CLIP)
    rows = tf.reshape(hvd.allgather(digits, name=f"{name}.digits"), (hvd.size(), -1))
    scales = hvd.allgather(scale[None], name=f"{name}.scales")
    total = tf.add_n([grace.decode(rows[worker], scales[worker]) for worker in range(hvd.size())])
    return tf.reshape(total / hvd.size(), gradient.shape)


def terngrad(schedule):
    """This package's exchange by one of its schedules, or the one that it chooses; smaller tensors stay floats."""
    settings = tt.TernGrad(clip=CLIP, schedule=schedule, smallest=SMALLEST)

    def exchange(gradients, name):
        large = [index for index, gradient in enumerate(gradients) if settings.compresses(gradient)]
        small = [index for index in range(len(gradients)) if index not in large]
        means = dict(zip(small, float32([gradients[index] for index in small], name), strict=True))
        if large:
            ours = average([gradients[i] for i in large], settings, HorovodTransport(), settings.next_step(), name)
            means |= dict(zip(large, ours, strict=True))
        return [means[index] for index in range(len(gradients))]

    return exchange


def each_alone(exchange):
    """The same exchange, once for each gradient, where `average` would take them all together."""

    def exchange_each(gradients, name):
        return [exchange([gradient], f"{name}.{index}")[0] for index, gradient in enumerate(gradients)]

    return exchange_each


EXCHANGES = {"alone": alone, "float32": float32, "float16": float16, "GRACE": int8} | {
    schedule: terngrad(schedule) for schedule in ("words", "bytes", "shards", "auto")
}
EXCHANGES["auto-each"] = each_alone(terngrad("auto"))
