"""What functions of TensorFlow are in `keras.ops`: each takes what TensorFlow's takes, and gives the same for tensors.

A new one is one line in `SAME` or `PAIRS`, or a function of the same arguments in `FUNCTIONS`. What TensorFlow computes
with other functions that are here (`tf.nn.batch_normalization`) needs none.
"""

import inspect

import numpy as np
import tensorflow as tf
from keras import ops

from tf_terngrad.keras_internals import number_like
from tf_terngrad.sparsity.graph.symbolic import tensors_of

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


def _whole(numbers):
    """Sizes, axes or positions as the whole numbers that Keras takes, however they are given; None as it is."""
    if numbers is None:
        return None
    if isinstance(numbers, (list, tuple)):
        return [_whole(number) for number in numbers]
    return np.asarray(numbers).astype(int).tolist()


def _space(given):
    """Strides or sizes of a convolution or pooling along its two dimensions; TensorFlow takes one, two or four."""
    given = _whole(given)
    if isinstance(given, int):
        return (given, given)
    return tuple(given[1:3] if len(given) == 4 else given * 2 if len(given) == 1 else given)


def _last(data_format):
    if data_format not in (None, "NHWC", "NWC"):
        raise ValueError(f"channels stand last in what can be followed. Received: data_format={data_format!r}")
    return {"data_format": "channels_last"}


# Shapes


@same_as(tf.shape)
def _shape(input, out_type=tf.int32):
    if None in input.shape:
        raise ValueError(f"the sizes of a tensor of shape {input.shape} are not known")
    return np.array(input.shape, tf.as_dtype(out_type).as_numpy_dtype)


@same_as(tf.convert_to_tensor)
def _convert(value, dtype=None, dtype_hint=None):
    return value if dtype is None else _cast(value, dtype)


@same_as(tf.ensure_shape)
def _ensure_shape(x, shape):
    return x


@same_as(tf.cast)
def _cast(x, dtype):
    return ops.cast(x, tf.as_dtype(dtype).name)


@same_as(tf.reshape)
def _reshape(tensor, shape):
    return ops.reshape(tensor, _whole(shape))


@same_as(tf.transpose)
def _transpose(a, perm=None):
    return ops.transpose(a, _whole(perm))


@same_as(tf.linalg.matrix_transpose)
def _matrix_transpose(a, conjugate=False):
    return ops.swapaxes(a, -1, -2)  # of real numbers, which are their own conjugates


@same_as(tf.expand_dims)
def _expand_dims(input, axis):
    return ops.expand_dims(input, _whole(axis))


@same_as(tf.squeeze)
def _squeeze(input, axis=None):
    axis = _whole(axis)
    return ops.squeeze(input, tuple(axis) if isinstance(axis, list) else axis)


@same_as(tf.concat)
def _concat(values, axis):
    return ops.concatenate(values, _whole(axis))


@same_as(tf.stack)
def _stack(values, axis=0):
    return ops.stack(values, _whole(axis))


@same_as(tf.unstack)
def _unstack(value, num=None, axis=0):
    return ops.unstack(value, num, _whole(axis))


@same_as(tf.split)
def _split(value, num_or_size_splits, axis=0):
    sizes = _whole(num_or_size_splits)
    if isinstance(sizes, list):
        sizes = np.cumsum(sizes[:-1]).tolist()
    return ops.split(value, sizes, _whole(axis))


@same_as(tf.tile)
def _tile(input, multiples):
    return ops.tile(input, _whole(multiples))


@same_as(tf.repeat)
def _repeat(input, repeats, axis=None):
    return ops.repeat(input, _whole(repeats), _whole(axis))


@same_as(tf.broadcast_to)
def _broadcast_to(input, shape):
    return ops.broadcast_to(input, _whole(shape))


@same_as(tf.pad)
def _pad(tensor, paddings, mode="CONSTANT", constant_values=0):
    options = {"constant_values": constant_values} if mode.lower() == "constant" else {}
    return ops.pad(tensor, _whole(paddings), mode.lower(), **options)


@same_as(tf.reverse)
def _reverse(tensor, axis):
    for each in _whole(axis):
        tensor = ops.flip(tensor, each)
    return tensor


@same_as(tf.roll)
def _roll(input, shift, axis):
    return ops.roll(input, _whole(shift), _whole(axis))


@same_as(tf.slice)
def _slice(input_, begin, size):
    begin, size = _whole(begin), _whole(size)
    sizes = [
        whole - start if length == -1 else length
        for start, length, whole in zip(begin, size, input_.shape, strict=True)
    ]
    return ops.slice(input_, begin, sizes)


@same_as(tf.nn.depth_to_space)
def _depth_to_space(input, block_size, data_format="NHWC"):
    return ops.depth_to_space(input, block_size, **_last(data_format))


@same_as(tf.nn.space_to_depth)
def _space_to_depth(input, block_size, data_format="NHWC"):
    return ops.space_to_depth(input, block_size, **_last(data_format))


@same_as(tf.image.extract_patches)
def _extract_patches(images, sizes, strides, rates, padding):
    sizes, strides = _space(sizes), _space(strides)
    options = {"dilation_rate": _space(rates), "padding": padding.lower(), "data_format": "channels_last"}
    if strides != sizes:  # Keras before 3.14 fails where it is given any
        options["strides"] = strides
    return ops.image.extract_patches(images, sizes, **options)


@same_as(tf.image.resize)
def _resize(images, size, method="bilinear", preserve_aspect_ratio=False, antialias=False):
    if preserve_aspect_ratio or images.dtype != "float32":
        raise ValueError("only float32 images resized to a given size can be followed")
    return ops.image.resize(images, tuple(_whole(size)), method, antialias, data_format="channels_last")


# Values


@same_as(tf.gather)
def _gather(params, indices, validate_indices=None, axis=0, batch_dims=0):
    if batch_dims:
        raise ValueError("what is looked up in each example apart cannot be followed")
    return ops.take(params, indices, 0 if axis is None else _whole(axis))


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
    return ops.one_hot(indices, _whole(depth), axis=axis, dtype=tf.as_dtype(dtype or tf.float32).name)


@same_as(tf.argmax)
def _argmax(input, axis=None, output_type=tf.int64):
    return _cast(ops.argmax(input, 0 if axis is None else _whole(axis)), output_type)


@same_as(tf.add_n)
def _add_n(inputs):
    return sum(inputs[1:], inputs[0])


def _reduction(function):
    def reduce(input_tensor, axis=None, keepdims=False):
        axis = None if axis is None else tuple(np.ravel(_whole(axis)).tolist())
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


# Activations


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


# Products


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
    axes = _whole(axes)
    return ops.tensordot(a, b, axes if isinstance(axes, int) else [np.ravel(one).tolist() for one in axes])


@same_as(tf.nn.bias_add)
def _bias_add(value, bias, data_format=None):
    _last(data_format)
    return ops.add(value, bias)


@same_as(tf.nn.conv1d)
def _conv1d(input, filters, stride, padding, data_format="NWC", dilations=1):
    return ops.conv(
        input, filters, _whole(stride), padding.lower(), dilation_rate=_whole(dilations), **_last(data_format)
    )


@same_as(tf.nn.conv2d)
def _conv2d(input, filters, strides, padding, data_format="NHWC", dilations=1):
    options = {"dilation_rate": _space(dilations), **_last(data_format)}
    return ops.conv(input, filters, _space(strides), padding.lower(), **options)


@same_as(tf.nn.depthwise_conv2d)
def _depthwise_conv2d(input, filter, strides, padding, data_format=None, dilations=1):
    options = {"dilation_rate": _space(dilations), **_last(data_format)}
    return ops.depthwise_conv(input, filter, _space(strides), padding.lower(), **options)


@same_as(tf.nn.max_pool2d)
def _max_pool2d(input, ksize, strides, padding, data_format="NHWC"):
    return ops.max_pool(input, _space(ksize), _space(strides), padding.lower(), **_last(data_format))


@same_as(tf.nn.avg_pool2d)
def _avg_pool2d(input, ksize, strides, padding, data_format="NHWC"):
    return ops.average_pool(input, _space(ksize), _space(strides), padding.lower(), **_last(data_format))


def equal_of(function, args, kwargs):
    """What a function of TensorFlow gives, computed by `keras.ops`; NotImplemented: it has no equal here.

    Raises:
        TypeError, ValueError: for arguments with which the two would not be the same.
    """
    kwargs = {name: value for name, value in kwargs.items() if name != "name"}
    table, ours = _KNOWN.get(inspect.unwrap(function), (None, None))
    if table is FUNCTIONS:
        return ours(*args, **kwargs)
    tensors = [*args, *kwargs.values()]
    for tensor in tensors_of(tensors)[:1]:
        tensors = [number_like(tensor, value) for value in tensors]
    return ours(*tensors) if ours and len(tensors) == (1 if table is SAME else 2) else NotImplemented


_KNOWN = {inspect.unwrap(theirs): (table, ours) for table in (SAME, PAIRS, FUNCTIONS) for theirs, ours in table.items()}
# TensorFlow asks about a function as it is inside of some decorators.
