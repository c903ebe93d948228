"""Clip, scale, ternarize: a gradient as a few digits and a scale."""

import math

import tensorflow as tf

from tf_terngrad.ternary import codec

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
        TypeError: the gradient is no tensor of floats.
        ValueError: a clip that is not positive.
        tf.errors.InvalidArgumentError: lengths that do not sum to the gradient's size.

    >>> [float(value[0]) for value in scale(tf.constant([3.0, -1.0]), clip=2.5)]
    [5.0, 3.0]
    """
    check_clip(clip)
    gradient = tf.reshape(check_gradient(gradient), (-1,))
    return codec.scale(gradient, [tf.size(gradient)] if lengths is None else lengths, clip)


def ternarize(gradient, clip: float | None = 2.5, scale=None, *, seed, levels: int = 1) -> tuple[tf.Tensor, tf.Tensor]:
    """Round a gradient to digits at random, so that the digits times the scale have the clipped gradient as their mean.

        code = sign(g) (floor(x) + b),   x = L |f(g)| / s,   b ~ Bernoulli(x - floor(x))

    With L = 1, the digits are -1, 0 and 1, and b is 1 with probability |f(g)| / s. The random bits depend on the seed
    and an element's position alone: distinct seeds give independent digits.

    Args:
        gradient: tensor of floats, of any shape.
        clip: gradients are clipped at so many standard deviations; None: not at all.
        scale: a shared scale, float32 scalar, at least the gradient's own; None: its own.
        seed: two to four integers, or a tensor of them: seed, step, tensor, worker.
        levels: L, from 1 to 127: the digits are integers in [-L, L], and scale / L is what a digit stands for.

    Returns:
        (codes int8 of the gradient's shape, scale float32 scalar). NaN or infinity in the gradient makes the scale
        infinite.

    Raises:
        TypeError: the gradient is no tensor of floats.
        ValueError: clip, seed or levels out of range.

    >>> codes, scale = ternarize(tf.constant([0.5, -0.5, 0.0]), clip=None, seed=(1, 2))
    >>> codes.numpy().tolist(), float(scale)
    ([1, -1, 0], 0.5)

    Paper: Wen et al., TernGrad, 2017.
    """
    check_clip(clip)
    check_levels(levels)
    gradient, seed = check_gradient(gradient), check_seed(seed)
    flat, lengths = tf.reshape(gradient, (-1,)), [tf.size(gradient)]
    thresholds, scales = codec.scale(flat, lengths, clip)
    if scale is not None:
        scales = tf.reshape(tf.cast(scale, tf.float32), (1,))
    codes = codec.ternarize(flat, lengths, thresholds, scales, seed, levels)
    return tf.reshape(codes, tf.shape(gradient)), scales[0]


def pack(codes, levels: int = 1) -> tf.Tensor:
    """Digits as bytes: five ternary digits each, 1.6 bits a digit.

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
    check_levels(levels)
    codes = tf.convert_to_tensor(codes)
    if not codes.dtype.is_integer:
        raise TypeError(f"Expected digits as integers. Received: codes of dtype {codes.dtype.name}")
    return codec.pack_bytes(tf.reshape(codes, (-1,)), levels)


def unpack(wire, size, levels: int = 1) -> tf.Tensor:
    """The digits that `pack` made bytes of, int8 of shape (size,).

    Args:
        wire: uint8 of shape (bytes,).
        size: how many digits.
        levels: L.

    Raises:
        tf.errors.InvalidArgumentError: bytes that `pack` did not make, or not for this size.
    """
    check_levels(levels)
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


def check_clip(clip) -> None:
    """Refuse a number of standard deviations that is not positive."""
    is_number = isinstance(clip, (int, float)) and not isinstance(clip, bool)
    if clip is not None and not (is_number and 0 < clip < math.inf):
        raise ValueError(f"Expected a positive float, of standard deviations, or None. Received: clip={clip!r}")


def check_levels(levels) -> None:
    """Refuse levels that int8 digits cannot have."""
    if not _is_integer(levels) or not 1 <= levels <= 127:
        raise ValueError(f"Expected an integer from 1 to 127. Received: levels={levels!r}")


def check_bucket_size(bucket_size) -> None:
    """Refuse buckets that hold nothing."""
    if bucket_size is not None and not (_is_integer(bucket_size) and bucket_size > 0):
        raise ValueError(f"Expected a positive integer, or None. Received: bucket_size={bucket_size!r}")


def check_integer(value, name: str, least: int = -(2**63)) -> None:
    """Refuse what is no integer, or none that an int64 holds."""
    if not _is_integer(value):
        raise TypeError(f"Expected {name} of type int. Received: {name}={value!r}")
    if not least <= value < 2**63:
        raise ValueError(f"Expected an integer from {least} to {2**63 - 1}. Received: {name}={value!r}")


def check_seed(seed) -> tf.Tensor:
    """The seed as an int64 tensor of two to four numbers."""
    seed = tf.convert_to_tensor(seed)
    if not seed.dtype.is_integer or seed.shape.rank != 1 or seed.shape[0] not in (2, 3, 4):
        raise ValueError(f"Expected two to four integers. Received: a seed of {seed.dtype.name}, shape {seed.shape}")
    return tf.cast(seed, tf.int64)


def _is_integer(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
