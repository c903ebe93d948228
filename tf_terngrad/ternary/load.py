"""What one exchange moves: a flat gradient with its buckets and scales; what a schedule is given, and what it may ask.

A bucket is consecutive elements that share a scale. Tensors that travel together are a fusion (`exchange.Fused`).
"""

import dataclasses
import zlib

import tensorflow as tf

from tf_terngrad.checks import expect
from tf_terngrad.ternary import codec
from tf_terngrad.ternary.transport import Transport


@dataclasses.dataclass(frozen=True)
class Load:
    """What one exchange moves, and where it goes.

    Attributes:
        gradient: floats (size,).
        lengths: int32 (buckets,), how many consecutive elements share a scale.
        thresholds, scales: float32 (buckets,).
        seed: int64 (4,): seed, step, fusion, worker.
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
    def parts(self) -> tuple:
        """What the codec's encoders take."""
        return self.gradient, self.lengths, self.thresholds, self.scales, self.seed

    def digits(self) -> tf.Tensor:
        """This worker's digits, int8 (size,): for a schedule that packs them itself."""
        return codec.ternarize(*self.parts, self.levels)

    def mean(self, sums) -> tf.Tensor:
        """What the workers' sums of digits (size,) stand for, where the scales are shared: s / (L N) times a sum."""
        steps = tf.cast(self.levels * self.transport.size(), tf.float32)
        return tf.cast(tf.cast(sums, tf.float32) * tf.repeat(self.scales / steps, self.lengths), self.gradient.dtype)

    def everyones_scales(self) -> tf.Tensor:
        """All workers' scales, float32 (workers, buckets): gathered, where each worker has its own."""
        workers = self.transport.size()
        if self.shared:
            return tf.repeat(self.scales[None], workers, axis=0)
        rows = self.transport.gather(tf.concat([self.scales, self.mark], 0), f"{self.name}.scales")
        rows = tf.reshape(rows, (workers, -1))
        return self.if_alike(tf.reduce_all(rows[:, -2:] == rows[:1, -2:]), rows[:, :-2])

    def if_alike(self, alike, value) -> tf.Tensor:
        """The value, where the workers' marks are alike; else an error, on all of them."""
        message = (
            f"The workers' gradients differ, in {self.name!r}, or their settings. Expected tensors of the same shapes, "
            "in the same order, and equal levels, schedule and bucket_size on all of them, and that none has left by "
            "hvd.join(). This one has buckets of"
        )
        return checked(alike, [message, self.lengths], value)


def checked(good, message, value) -> tf.Tensor:
    """The value, where this is good."""
    with tf.control_dependencies(expect(good, *message)):
        return tf.identity(value)


def mark_of(lengths, *settings) -> tf.Tensor:
    """Two floats that tell lengths and settings from others: the sum of a hash of every length and its position."""
    own = zlib.crc32(repr(settings).encode())
    positions = tf.range(own, own + tf.size(lengths, tf.int64))
    mixed = tf.bitwise.bitwise_xor(tf.cast(lengths, tf.int64) * 0x1E3779B97F4A7C15, positions * 0x42B2AE3D27D4EB4F)
    mixed = tf.bitwise.bitwise_xor(mixed, tf.bitwise.right_shift(mixed, 29)) * 0x3F58476D1CE4E5B9
    mark = tf.reduce_sum(tf.bitwise.bitwise_xor(mixed, tf.bitwise.right_shift(mixed, 32))) + own
    return tf.cast(tf.stack([tf.math.floormod(mark // 2**20, 2**20), tf.math.floormod(mark, 2**20)]), tf.float32)
