"""Clip, scale, ternarize: a gradient as a few digits and a scale."""

import tensorflow as tf

from tf_terngrad.checks import expect, integer, positive, refusal
from tf_terngrad.ternary import codec
from tf_terngrad.ternary.layout import LARGEST_LEVELS

FLOATS = (tf.float16, tf.bfloat16, tf.float32, tf.float64)


def scale(gradient, clip: float | None = 2.5, lengths=None) -> tuple[tf.Tensor, tf.Tensor]:
    """Where to clip a gradient, and the scale of its digits, for each bucket.

        threshold = max(c sigma, |mean|),   s = max |f(g)| = min(threshold, max |g|)

    with sigma the standard deviation of the bucket. (The paper has c sigma alone: a bucket of one element, or of values
    that hardly differ, would be clipped away.) A bucket that holds NaN or infinity has the scale infinity, which
    a maximum over workers hands on to all.

    Args:
        gradient: tensor of floats, of any shape.
        clip: c; None: no clipping, the threshold is infinity.
        lengths: integers (buckets,), how many consecutive elements share each scale; None: one bucket holds all.

    Returns:
        (thresholds, scales), both float32 of shape (buckets,).

    Raises:
        TypeError: the gradient is no tensor of floats, or the clip no number.
        ValueError: a clip that is not positive.
        tf.errors.InvalidArgumentError: lengths that do not sum to the gradient's size.

    >>> [float(value[0]) for value in scale(tf.constant([3.0, -1.0]), clip=2.5)]
    [5.0, 3.0]
    """
    clip = None if clip is None else positive(clip, "clip", "scale")
    gradient = tf.reshape(check_gradient(gradient), (-1,))
    return codec.scale(gradient, [tf.size(gradient)] if lengths is None else lengths, clip)


def ternarize(gradient, clip: float | None = 2.5, scale=None, *, seed, levels: int = 1) -> tuple[tf.Tensor, tf.Tensor]:
    """Round a gradient to digits at random, so that the digits times the scale have the clipped gradient as their mean.

        code = sign(g) (floor(x) + b),   x = L |f(g)| / s,   b ~ Bernoulli(x - floor(x))

    Use it when you send gradients in a way of your own; `TernGrad` does all of it for Horovod.

    With L = 1, the digits are -1, 0 and 1, and b is 1 with probability |f(g)| / s. The random bits depend on the seed
    and an element's position alone: distinct seeds give independent digits.

    Args:
        gradient: tensor of floats, of any shape.
        clip: gradients are clipped at so many standard deviations; None: not at all.
        scale: a shared scale, scalar, 0 or more; one below the gradient's own clips it further. None: its own.
        seed: two to four integers, or a tensor of them: seed, step, tensor, worker.
        levels: L, from 1 to 127: the digits are integers in [-L, L], and scale / L is what a digit stands for.

    Returns:
        (codes int8 of the gradient's shape, scale float32 scalar). NaN or infinity in the gradient makes the scale
        infinite.

    Raises:
        TypeError: the gradient is no tensor of floats, or clip, scale, levels are no numbers.
        ValueError: clip, seed or levels out of range, or a scale that is no scalar.
        tf.errors.InvalidArgumentError: a scale that is negative or NaN.

    >>> codes, scale = ternarize(tf.constant([0.5, -0.5, 0.0]), clip=None, seed=(1, 2))
    >>> codes.numpy().tolist(), float(scale)
    ([1, -1, 0], 0.5)

    Paper: Wen et al., TernGrad, 2017.
    """
    clip = None if clip is None else positive(clip, "clip", "ternarize")
    levels = integer(levels, "levels", "ternarize", 1, LARGEST_LEVELS)
    gradient, seed = check_gradient(gradient), check_seed(seed)
    flat, lengths = tf.reshape(gradient, (-1,)), [tf.size(gradient)]
    thresholds, scales = codec.scale(flat, lengths, clip)
    if scale is not None:
        scales = tf.reshape(check_scale(scale), (1,))
    codes = codec.ternarize(flat, lengths, thresholds, scales, seed, levels)
    return tf.reshape(codes, tf.shape(gradient)), scales[0]


def pack(codes, levels: int = 1) -> tf.Tensor:
    """Digits as bytes: five ternary digits each, 1.6 bits a digit.

    Use it when you send or store digits that `ternarize` gave.

    Args:
        codes: integers in [-levels, levels], of any shape.
        levels: L.

    Returns:
        uint8 of shape (ceil(size / 5),) for L = 1.

    Raises:
        tf.errors.InvalidArgumentError: a digit out of range.

    >>> unpack(pack(tf.constant([1, 0, -1], tf.int8)), 3).numpy().tolist()
    [1, 0, -1]
    """
    levels = integer(levels, "levels", "pack", 1, LARGEST_LEVELS)
    codes = tf.convert_to_tensor(codes)
    if not codes.dtype.is_integer:
        raise TypeError(f"Expected digits as integers. Received: codes of dtype {codes.dtype.name}")
    return codec.pack_bytes(tf.reshape(codes, (-1,)), levels)


def unpack(wire, size, levels: int = 1) -> tf.Tensor:
    """The digits that `pack` made bytes of, int8 of shape (size,).

    Use it when you have got bytes of another worker, and know how many digits they hold.

    Args:
        wire: uint8 of shape (bytes,).
        size: how many digits, an integer or a tensor of one.
        levels: L.

    Raises:
        TypeError, ValueError: a size that is no integer of 0 or more, or levels out of range.
        tf.errors.InvalidArgumentError: bytes that `pack` did not make, or not for this size.
    """
    size, levels = check_size(size), integer(levels, "levels", "unpack", 1, LARGEST_LEVELS)
    wire = tf.convert_to_tensor(wire)
    if wire.dtype != tf.uint8:
        raise TypeError(f"Expected bytes, uint8. Received: a tensor of dtype {wire.dtype.name}")
    return codec.unpack_bytes(tf.reshape(wire, (-1,)), size, levels)


def check_gradient(gradient) -> tf.Tensor:
    """The gradient as a tensor; refuses what is not of floats."""
    gradient = tf.convert_to_tensor(gradient)
    if gradient.dtype not in FLOATS:
        raise TypeError(f"Expected a gradient of floats. Received: a tensor of dtype {gradient.dtype.name}")
    return gradient


def check_scale(scale) -> tf.Tensor:
    """The scale as a float32 scalar; refuses what no gradients share."""
    tensor = tf.convert_to_tensor(scale)
    if tensor.dtype not in FLOATS and not tensor.dtype.is_integer:
        raise TypeError(f"Expected a scale of floats, or None. Received: scale={scale!r}")
    if tensor.shape.rank not in (0, None):
        raise ValueError(f"Expected a scalar, a scale for the whole gradient. Received: scale of shape {tensor.shape}")
    with tf.control_dependencies(expect(tensor >= 0, "Expected a scale of 0 or more. Received: scale =", tensor)):
        return tf.cast(tensor, tf.float32)


def check_size(size):
    """The number of digits, an integer or a tensor of one."""
    if not tf.is_tensor(size):
        return integer(size, "size", "unpack", 0)
    if not size.dtype.is_integer or size.shape.rank not in (0, None):
        raise TypeError(f"Expected an integer scalar. Received: size of {size.dtype.name}, shape {size.shape}")
    return size


def check_seed(seed) -> tf.Tensor:
    """The seed as an int64 tensor of two to four numbers."""
    expected = "two to four integers, or a tensor of them"
    if isinstance(seed, (tuple, list)):
        seed = [_part_of_seed(part, f"seed[{position}]") for position, part in enumerate(seed)]
    try:
        tensor = tf.convert_to_tensor(seed)
    except (TypeError, ValueError) as error:
        raise TypeError(refusal("ternarize", "seed", expected, seed)) from error
    if tensor.shape.rank != 1 or tensor.shape[0] not in (2, 3, 4):
        raise ValueError(refusal("ternarize", "seed", expected, seed))
    if not tensor.dtype.is_integer:
        raise TypeError(refusal("ternarize", "seed", expected, seed))
    return tf.cast(tensor, tf.int64)


def _part_of_seed(part, name):
    """One of the numbers of a seed, which may be a scalar tensor, such as a step."""
    return tf.cast(part, tf.int64) if tf.is_tensor(part) else tf.constant(integer(part, name, "ternarize"), tf.int64)
