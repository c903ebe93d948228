"""Activations with arguments."""

import tensorflow as tf
from keras import ops

from tf_terngrad.sparsity.graph.tensorflow_functions.tables import same_as


@same_as(tf.nn.gelu)
def _gelu(features, approximate=False):
    return ops.gelu(features, approximate=approximate)


@same_as(tf.nn.leaky_relu)
def _leaky_relu(features, alpha=0.2):
    return ops.leaky_relu(features, negative_slope=alpha)


@same_as(tf.nn.silu)
def _silu(features, beta=1.0):
    return ops.silu(features) if beta == 1 else features * ops.sigmoid(beta * features)


@same_as(tf.nn.softmax)
def _softmax(logits, axis=None):
    return ops.softmax(logits, axis=-1 if axis is None else axis)


@same_as(tf.nn.log_softmax)
def _log_softmax(logits, axis=None):
    return ops.log_softmax(logits, axis=-1 if axis is None else axis)
