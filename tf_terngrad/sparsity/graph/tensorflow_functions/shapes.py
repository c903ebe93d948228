"""Functions that change sizes, the order of what is there, or types."""

import numpy as np
import tensorflow as tf
from keras import ops

from tf_terngrad.sparsity.graph.tensorflow_functions.arguments import along_space, channels_last, whole
from tf_terngrad.sparsity.graph.tensorflow_functions.tables import same_as


@same_as(tf.shape)
def _shape(input, out_type=tf.int32):
    if None in input.shape:
        raise ValueError(f"the sizes of a tensor of shape {input.shape} are not known")
    return np.array(input.shape, tf.as_dtype(out_type).as_numpy_dtype)


@same_as(tf.convert_to_tensor)
def _convert(value, dtype=None, dtype_hint=None):
    return value if dtype is None else cast(value, dtype)


@same_as(tf.ensure_shape)
def _ensure_shape(x, shape):
    return x


@same_as(tf.cast)
def cast(x, dtype):
    """`tf.cast`."""
    return ops.cast(x, tf.as_dtype(dtype).name)


@same_as(tf.reshape)
def _reshape(tensor, shape):
    return ops.reshape(tensor, whole(shape))


@same_as(tf.transpose)
def _transpose(a, perm=None):
    return ops.transpose(a, whole(perm))


@same_as(tf.linalg.matrix_transpose)
def _matrix_transpose(a, conjugate=False):
    return ops.swapaxes(a, -1, -2)  # of real numbers, which are their own conjugates


@same_as(tf.expand_dims)
def _expand_dims(input, axis):
    return ops.expand_dims(input, whole(axis))


@same_as(tf.squeeze)
def _squeeze(input, axis=None):
    axis = whole(axis)
    return ops.squeeze(input, tuple(axis) if isinstance(axis, list) else axis)


@same_as(tf.concat)
def _concat(values, axis):
    return ops.concatenate(values, whole(axis))


@same_as(tf.stack)
def _stack(values, axis=0):
    return ops.stack(values, whole(axis))


@same_as(tf.unstack)
def _unstack(value, num=None, axis=0):
    return ops.unstack(value, num, whole(axis))


@same_as(tf.split)
def _split(value, num_or_size_splits, axis=0):
    sizes = whole(num_or_size_splits)
    if isinstance(sizes, list):
        sizes = np.cumsum(sizes[:-1]).tolist()
    return ops.split(value, sizes, whole(axis))


@same_as(tf.tile)
def _tile(input, multiples):
    return ops.tile(input, whole(multiples))


@same_as(tf.repeat)
def _repeat(input, repeats, axis=None):
    return ops.repeat(input, whole(repeats), whole(axis))


@same_as(tf.broadcast_to)
def _broadcast_to(input, shape):
    return ops.broadcast_to(input, whole(shape))


@same_as(tf.pad)
def _pad(tensor, paddings, mode="CONSTANT", constant_values=0):
    options = {"constant_values": constant_values} if mode.lower() == "constant" else {}
    return ops.pad(tensor, whole(paddings), mode.lower(), **options)


@same_as(tf.reverse)
def _reverse(tensor, axis):
    for each in whole(axis):
        tensor = ops.flip(tensor, each)
    return tensor


@same_as(tf.roll)
def _roll(input, shift, axis):
    return ops.roll(input, whole(shift), whole(axis))


@same_as(tf.slice)
def _slice(input_, begin, size):
    begin, size = whole(begin), whole(size)
    sizes = [
        full - start if length == -1 else length for start, length, full in zip(begin, size, input_.shape, strict=True)
    ]
    return ops.slice(input_, begin, sizes)


@same_as(tf.nn.depth_to_space)
def _depth_to_space(input, block_size, data_format="NHWC"):
    return ops.depth_to_space(input, block_size, **channels_last(data_format))


@same_as(tf.nn.space_to_depth)
def _space_to_depth(input, block_size, data_format="NHWC"):
    return ops.space_to_depth(input, block_size, **channels_last(data_format))


@same_as(tf.image.extract_patches)
def _extract_patches(images, sizes, strides, rates, padding):
    sizes, strides = along_space(sizes), along_space(strides)
    options = {"dilation_rate": along_space(rates), "padding": padding.lower(), "data_format": "channels_last"}
    if strides != sizes:  # Keras before 3.14 fails where it is given any
        options["strides"] = strides
    return ops.image.extract_patches(images, sizes, **options)


@same_as(tf.image.resize)
def _resize(images, size, method="bilinear", preserve_aspect_ratio=False, antialias=False):
    if preserve_aspect_ratio or images.dtype != "float32":
        raise ValueError("only float32 images resized to a given size can be followed")
    return ops.image.resize(images, tuple(whole(size)), method, antialias, data_format="channels_last")
