"""What the codec's tests give it."""

import numpy as np
import tensorflow as tf


def digits(size, most, seed=0):
    return np.random.default_rng(seed).integers(-most, most + 1, size)


def gradient(size, dtype="float32", seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=size), dtype)


def lengths(*values):
    return tf.constant(values, tf.int32)


def floats(*values):
    """A threshold and a scale, each for one bucket."""
    return [tf.constant([value]) for value in values]
