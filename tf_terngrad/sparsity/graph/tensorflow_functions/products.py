"""Products with weights, convolutions and pooling."""

import numpy as np
import tensorflow as tf
from keras import ops

from tf_terngrad.sparsity.graph.tensorflow_functions.arguments import along_space, channels_last, whole
from tf_terngrad.sparsity.graph.tensorflow_functions.tables import same_as


def _swapped(tensor, swap):
    return ops.swapaxes(tensor, -1, -2) if swap else tensor


@same_as(tf.matmul)
def _matmul(a, b, transpose_a=False, transpose_b=False):
    return ops.matmul(_swapped(a, transpose_a), _swapped(b, transpose_b))


@same_as(tf.einsum)
def _einsum(equation, *inputs):
    return ops.einsum(equation.replace(" ", ""), *inputs)  # Keras takes no spaces


@same_as(tf.tensordot)
def _tensordot(a, b, axes):
    axes = whole(axes)
    return ops.tensordot(a, b, axes if isinstance(axes, int) else [np.ravel(one).tolist() for one in axes])


@same_as(tf.nn.bias_add)
def _bias_add(value, bias, data_format=None):
    channels_last(data_format)
    return ops.add(value, bias)


@same_as(tf.nn.conv1d)
def _conv1d(input, filters, stride, padding, data_format="NWC", dilations=1):
    return ops.conv(
        input, filters, whole(stride), padding.lower(), dilation_rate=whole(dilations), **channels_last(data_format)
    )


@same_as(tf.nn.conv2d)
def _conv2d(input, filters, strides, padding, data_format="NHWC", dilations=1):
    options = {"dilation_rate": along_space(dilations), **channels_last(data_format)}
    return ops.conv(input, filters, along_space(strides), padding.lower(), **options)


@same_as(tf.nn.depthwise_conv2d)
def _depthwise_conv2d(input, filter, strides, padding, data_format=None, dilations=1):
    options = {"dilation_rate": along_space(dilations), **channels_last(data_format)}
    return ops.depthwise_conv(input, filter, along_space(strides), padding.lower(), **options)


@same_as(tf.nn.max_pool2d)
def _max_pool2d(input, ksize, strides, padding, data_format="NHWC"):
    return ops.max_pool(input, along_space(ksize), along_space(strides), padding.lower(), **channels_last(data_format))


@same_as(tf.nn.avg_pool2d)
def _avg_pool2d(input, ksize, strides, padding, data_format="NHWC"):
    return ops.average_pool(
        input, along_space(ksize), along_space(strides), padding.lower(), **channels_last(data_format)
    )
