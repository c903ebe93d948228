"""The ways to average gradients that tools/benchmark_network.py compares: functions of a list of gradients."""

import horovod.tensorflow as hvd
import tensorflow as tf

import tf_terngrad as tt
from tf_terngrad.ternary.distributed.averager import Averager
from tf_terngrad.ternary.distributed.settings import FUSION_BYTES, Settings
from tf_terngrad.ternary.schedules import AUTOMATIC, SCHEDULES
from tools import grace

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


def terngrad(schedule, fusion_bytes=FUSION_BYTES):
    """What this package's optimizer and tape do, by one of its schedules, or the one that it chooses."""
    settings = Settings(tt.TernGrad(clip=CLIP, schedule=schedule, smallest=SMALLEST), fusion_bytes=fusion_bytes)
    return lambda gradients, name: Averager(settings)(gradients, gradients)


EXCHANGES = {"alone": alone, "float32": float32, "float16": float16, "GRACE": int8} | {
    schedule: terngrad(schedule) for schedule in (*SCHEDULES, AUTOMATIC.name)
}
EXCHANGES["auto-each"] = terngrad(AUTOMATIC.name, fusion_bytes=1)
