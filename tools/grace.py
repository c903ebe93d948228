"""TernGrad as the GRACE framework's formula has it (Xu et al., 2021), in TensorFlow operations: int8, not packed."""

import tensorflow as tf


def encode(gradient, clip):
    """The digits, int8, and the scale of a gradient that is clipped at so many standard deviations."""
    sigma = tf.sqrt(tf.reduce_mean(tf.square(gradient - tf.reduce_mean(gradient))))
    clipped = tf.clip_by_value(gradient, -clip * sigma, clip * sigma)
    magnitude = tf.abs(clipped)
    scale = tf.reduce_max(magnitude)
    drawn = tf.random.uniform(tf.shape(gradient), 0, scale)
    ternary = tf.where(drawn < magnitude, tf.sign(clipped) * scale, 0.0)
    return tf.cast(tf.sign(ternary), tf.int8), scale


def decode(digits, scale):
    """The gradient that the digits stand for."""
    return tf.cast(digits, tf.float32) * scale
