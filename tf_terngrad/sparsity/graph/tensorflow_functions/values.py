"""Functions that choose, look up or sum values."""

import numpy as np
import tensorflow as tf
from keras import ops

from tf_terngrad.sparsity.graph.tensorflow_functions.arguments import whole
from tf_terngrad.sparsity.graph.tensorflow_functions.shapes import cast
from tf_terngrad.sparsity.graph.tensorflow_functions.tables import FUNCTIONS, same_as


@same_as(tf.gather)
def _gather(params, indices, validate_indices=None, axis=0, batch_dims=0):
    if batch_dims:
        raise ValueError("what is looked up in each example apart cannot be followed")
    return ops.take(params, indices, 0 if axis is None else whole(axis))


@same_as(tf.nn.embedding_lookup)
def _embedding_lookup(params, ids, max_norm=None):
    if max_norm is not None:
        raise ValueError("what is scaled down to a norm cannot be followed")
    return ops.take(params, ids, 0)


@same_as(tf.where)
def _where(condition, x=None, y=None):
    if x is None or y is None:
        raise ValueError("a shape that depends on values cannot be followed")
    return ops.where(condition, x, y)


@same_as(tf.clip_by_value)
def _clip(t, clip_value_min, clip_value_max):
    return ops.clip(t, clip_value_min, clip_value_max)


@same_as(tf.one_hot)
def _one_hot(indices, depth, on_value=None, off_value=None, axis=-1, dtype=None):
    if on_value is not None or off_value is not None:
        raise ValueError("only ones and zeros can be followed")
    return ops.one_hot(indices, whole(depth), axis=axis, dtype=tf.as_dtype(dtype or tf.float32).name)


@same_as(tf.argmax)
def _argmax(input, axis=None, output_type=tf.int64):
    return cast(ops.argmax(input, 0 if axis is None else whole(axis)), output_type)


@same_as(tf.add_n)
def _add_n(inputs):
    return sum(inputs[1:], inputs[0])


def _reduction(function):
    def reduce(input_tensor, axis=None, keepdims=False):
        axis = None if axis is None else tuple(np.ravel(whole(axis)).tolist())
        return function(input_tensor, axis=axis, keepdims=keepdims)

    return reduce


FUNCTIONS |= {
    tf.reduce_all: _reduction(ops.all),
    tf.reduce_any: _reduction(ops.any),
    tf.reduce_logsumexp: _reduction(ops.logsumexp),
    tf.reduce_max: _reduction(ops.max),
    tf.reduce_mean: _reduction(ops.mean),
    tf.reduce_min: _reduction(ops.min),
    tf.reduce_prod: _reduction(ops.prod),
    tf.math.reduce_std: _reduction(ops.std),
    tf.reduce_sum: _reduction(ops.sum),
    tf.math.reduce_variance: _reduction(ops.var),
}


@same_as(tf.nn.moments)
def _moments(x, axes, shift=None, keepdims=False):
    mean, variance = _reduction(ops.mean), _reduction(ops.var)
    return mean(x, axes, keepdims), variance(x, axes, keepdims)


@same_as(tf.nn.l2_normalize)
def _l2_normalize(x, axis=None, epsilon=1e-12):
    return x * ops.rsqrt(ops.maximum(_reduction(ops.sum)(ops.square(x), axis, True), epsilon))


@same_as(tf.norm)
def _norm(tensor, ord="euclidean", axis=None, keepdims=False):
    if ord not in ("euclidean", 2) or not (axis is None or isinstance(axis, int)):
        raise ValueError("of norms only that of vectors, Euclid's, can be followed")
    return ops.sqrt(ops.sum(ops.square(tensor), axis=axis, keepdims=keepdims))
