"""The functions that are known, by the TensorFlow function."""

import tensorflow as tf
from keras import ops

SAME = {
    tf.abs: ops.absolute,
    tf.math.ceil: ops.ceil,
    tf.math.erf: ops.erf,
    tf.math.floor: ops.floor,
    tf.exp: ops.exp,
    tf.math.expm1: ops.expm1,
    tf.identity: lambda x: x,
    tf.math.log: ops.log,
    tf.math.log1p: ops.log1p,
    tf.math.log_sigmoid: ops.log_sigmoid,
    tf.logical_not: ops.logical_not,
    tf.negative: ops.negative,
    tf.ones_like: ops.ones_like,
    tf.math.reciprocal: ops.reciprocal,
    tf.round: ops.round,
    tf.math.rsqrt: ops.rsqrt,
    tf.sigmoid: ops.sigmoid,
    tf.sign: ops.sign,
    tf.sin: ops.sin,
    tf.cos: ops.cos,
    tf.sqrt: ops.sqrt,
    tf.square: ops.square,
    tf.stop_gradient: ops.stop_gradient,
    tf.tanh: ops.tanh,
    tf.zeros_like: ops.zeros_like,
    tf.nn.elu: ops.elu,
    tf.nn.relu: ops.relu,
    tf.nn.relu6: ops.relu6,
    tf.nn.selu: ops.selu,
    tf.nn.softplus: ops.softplus,
    tf.nn.softsign: ops.softsign,
}
"""Functions of one tensor, by the TensorFlow function."""

PAIRS = {
    tf.add: ops.add,
    tf.divide: ops.divide,
    tf.truediv: ops.true_divide,
    tf.equal: ops.equal,
    tf.greater: ops.greater,
    tf.greater_equal: ops.greater_equal,
    tf.less: ops.less,
    tf.less_equal: ops.less_equal,
    tf.logical_and: ops.logical_and,
    tf.logical_or: ops.logical_or,
    tf.maximum: ops.maximum,
    tf.minimum: ops.minimum,
    tf.multiply: ops.multiply,
    tf.not_equal: ops.not_equal,
    tf.pow: ops.power,
    tf.math.squared_difference: lambda x, y: ops.square(ops.subtract(x, y)),
    tf.subtract: ops.subtract,
}
"""Functions of two tensors, whatever TensorFlow calls them."""

FUNCTIONS = {}
"""Functions with arguments of TensorFlow's names, by the TensorFlow function."""


def same_as(*functions):
    """Note that a function is the same as these of TensorFlow."""

    def note(function):
        FUNCTIONS.update(dict.fromkeys(functions, function))
        return function

    return note
