"""The codec in C++: TensorFlow operations for the CPU, from the library that setup.py builds out of `cc/`.

Their random bits depend on the seed and an element's index alone: neither on the number of threads nor on the
processor's instruction set. Arguments and results are those of `twin.py`.
"""

import functools
import math
import pathlib

import tensorflow as tf

PATH = pathlib.Path(__file__).with_name("_native.so")


def library():
    """The operations, or None where they cannot be had; `reason()` tells why."""
    return _load()[0]


def reason() -> str | None:
    """Why there is no library, and the remedy; None where there is one."""
    return _load()[1]


@functools.cache
def _load():
    remedy = "To build it, install a C++ compiler and run: python setup.py build_ext --inplace"
    if not PATH.is_file():
        return None, f"{PATH} was not built when tf_terngrad was installed. {remedy}"
    try:
        return tf.load_op_library(str(PATH)), None
    except (tf.errors.OpError, RuntimeError) as error:
        return None, f"{PATH} was built for another TensorFlow than {tf.__version__}: {error}. {remedy}"


def scale(gradient, lengths, clip):
    """Thresholds and scales of the buckets; see `quantize.scale`."""
    clip = math.inf if clip is None else clip
    return tuple(library().terngrad_scale(gradient=gradient, lengths=_lengths(lengths), clip=clip))


def ternarize(gradient, lengths, thresholds, scales, seed, levels=1):
    """The digits, int8; see `quantize.ternarize`."""
    inputs = _encoder_inputs(gradient, lengths, thresholds, scales, seed)
    return library().terngrad_ternarize(**inputs, levels=levels)


def encode_bytes(gradient, lengths, thresholds, scales, seed, levels=1):
    """Ternarize and pack into bytes, in one pass."""
    inputs = _encoder_inputs(gradient, lengths, thresholds, scales, seed)
    return library().terngrad_encode_bytes(**inputs, levels=levels)


def encode_words(gradient, lengths, thresholds, scales, seed, workers, levels=1):
    """Ternarize and pack into words for so many workers, in one pass."""
    inputs = _encoder_inputs(gradient, lengths, thresholds, scales, seed)
    return library().terngrad_encode_words(**inputs, workers=tf.cast(workers, tf.int32), levels=levels)


def pack_bytes(digits, levels=1):
    """Digits in [-levels, levels] as bytes, uint8 (outputs,)."""
    digits = tf.convert_to_tensor(digits)
    # Saturating: a digit that int8 cannot hold stays out of range, and is refused.
    return library().terngrad_pack_bytes(digits=tf.saturate_cast(digits, tf.int8), levels=levels)


def unpack_bytes(data, size, levels=1):
    """The digits of bytes, int8 (size,)."""
    return library().terngrad_unpack_bytes(bytes=data, size=tf.cast(size, tf.int64), levels=levels)


def pack_words(digits, workers, levels=1):
    """Digits, or sums of digits of up to so many workers, as int64 words."""
    digits = tf.convert_to_tensor(digits)
    if digits.dtype not in (tf.int8, tf.int16, tf.int32):
        digits = tf.saturate_cast(digits, tf.int32)
    return library().terngrad_pack_words(digits=digits, workers=tf.cast(workers, tf.int32), levels=levels)


def unpack_words(words, size, workers, levels=1):
    """The sums of digits in words, int32 (size,)."""
    size, workers = tf.cast(size, tf.int64), tf.cast(workers, tf.int32)
    return library().terngrad_unpack_words(words=words, size=size, workers=workers, levels=levels)


def mean_of_bytes(data, lengths, scales, levels=1, dtype=tf.float32):
    """The mean of what the rows of bytes hold, each with its row of scales, in one pass."""
    inputs = {"bytes": data, "lengths": _lengths(lengths), "scales": scales, "levels": tf.cast(levels, tf.int32)}
    return library().terngrad_mean_of_bytes(**inputs, T=dtype)


def mean_of_words(words, lengths, scales, workers, levels=1, dtype=tf.float32):
    """The mean that the sum of the workers' words holds, with scales that all of them shared, in one pass."""
    inputs = {"words": words, "lengths": _lengths(lengths), "scales": scales, "workers": tf.cast(workers, tf.int32)}
    return library().terngrad_mean_of_words(**inputs, levels=levels, T=dtype)


def sum_bytes(data, size, levels=1):
    """The rows of bytes, summed digit by digit, as words for as many workers as there are rows, in one pass."""
    return library().terngrad_sum_bytes(bytes=data, size=tf.cast(size, tf.int64), levels=levels)


def add_bytes(data, size, levels=1):
    """The rows of bytes, summed digit by digit, as bytes of levels times the number of rows, in one pass."""
    return library().terngrad_add_bytes(bytes=data, size=tf.cast(size, tf.int64), levels=levels)


def compress(data, counts):
    """Bytes as streams of a Huffman code, of so many bytes each, and the sizes of the streams."""
    return tuple(library().terngrad_compress(bytes=data, counts=tf.cast(counts, tf.int64)))


def decompress(streams, counts):
    """The bytes of streams, one after the other."""
    return library().terngrad_decompress(streams=streams, counts=tf.cast(counts, tf.int64))


def _lengths(lengths):
    return tf.cast(tf.convert_to_tensor(lengths), tf.int64)


def _encoder_inputs(gradient, lengths, thresholds, scales, seed):
    return {
        "gradient": gradient,
        "lengths": _lengths(lengths),
        "thresholds": thresholds,
        "scales": scales,
        "seed": tf.cast(tf.convert_to_tensor(seed), tf.int64),
    }
