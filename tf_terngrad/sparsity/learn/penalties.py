"""The maths of structured sparsity: norms of groups, the penalty on them, the step that zeroes them.

Pure functions of tensors: no layer, no variable, no model. Groups that span several variables are in groups.
"""

import math

from keras import backend, ops

from tf_terngrad import checks

EPSILON = 1e-8
TINY = 1e-30
"""What keeps a division by zero finite, in float32 too."""


def squared_sums(weights, axis):
    """Sum of squares of every group.

    `s_g = Σ_{w in g} w²`, where each index along `axis` is one group.

    Args:
        weights: Tensor of any shape. Half precision is summed in float32.
        axis: Axes that index the groups; the result has their sizes, in the order given. `()` is one single group.

    Returns:
        Tensor of shape `[weights.shape[a] for a in axis]`.

    >>> squared_sums([[3.0, 1.0], [4.0, 0.0]], axis=(1,)).numpy().tolist()
    [25.0, 1.0]
    """
    weights = at_least_float32(weights)
    rank = len(weights.shape)
    axis = [a % rank for a in axis]
    others = [a for a in range(rank) if a not in axis]
    sums = ops.sum(ops.square(weights), axis=others) if others else ops.square(weights)
    return ops.transpose(sums, [sorted(axis).index(a) for a in axis])


def block_squared_sums(matrix, block):
    """Sum of squares of every rectangle of a matrix; those at the far edges may be smaller.

    Args:
        matrix: Tensor of shape `(rows, columns)`.
        block: `(height, width)` of a rectangle.

    Returns:
        Tensor of shape `(ceil(rows / height), ceil(columns / width))`.

    >>> block_squared_sums([[1.0, 1.0, 2.0]], block=(2, 2)).numpy().tolist()
    [[2.0, 4.0]]
    """
    squares = ops.square(at_least_float32(matrix))
    counts = [math.ceil(size / length) for size, length in zip(squares.shape, block, strict=True)]
    missing = [(0, count * length - size) for count, length, size in zip(counts, block, squares.shape, strict=True)]
    blocks = ops.reshape(ops.pad(squares, missing), (counts[0], block[0], counts[1], block[1]))
    return ops.sum(blocks, axis=(1, 3))


def smooth_norms(squared_sums):
    """Norms that have a gradient everywhere: `sqrt(s + 1e-8)` (SSL, Wen et al., 2016).

    Args:
        squared_sums: Tensor of the groups' sums of squares, any shape.

    >>> round(float(smooth_norms(0.0)), 6)
    0.0001
    """
    return ops.sqrt(at_least_float32(squared_sums) + EPSILON)


def group_norms(weights, axis):
    """Exact Euclidean norm of every group: `‖w_g‖ = sqrt(Σ w²)`.

    Args:
        weights: Tensor of any shape.
        axis: Axes that index the groups, in the order wanted in the result.

    >>> group_norms([[3.0, 1.0], [4.0, 0.0]], axis=(1,)).numpy().tolist()
    [5.0, 1.0]
    """
    return ops.sqrt(squared_sums(weights, axis))


def group_lasso(weights, axis):
    """The group lasso: `Σ_g sqrt(Σ_{w in g} w² + 1e-8)` (SSL, Wen et al., 2016).

    Args:
        weights: Tensor of any shape.
        axis: Axes that index the groups; `()` is one single group.

    Returns:
        Scalar tensor, without a strength.

    >>> round(float(group_lasso([[3.0, 1.0], [4.0, 0.0]], axis=(1,))), 4)
    6.0
    """
    return ops.sum(smooth_norms(squared_sums(weights, axis)))


def proximal_scale(squared_norms, threshold):
    """What the proximal step of the group lasso multiplies every group by: `max(0, 1 - t / ‖w_g‖)`.

    Args:
        squared_norms: Tensor of the groups' sums of squares, any shape.
        threshold: `t ≥ 0`, learning rate times strength; a number or a tensor.

    Returns:
        Tensor in `[0, 1]`, exactly 0 where `‖w_g‖ ≤ t`; NaN stays NaN.

    >>> proximal_scale([16.0, 1.0, 0.0], threshold=1.0).numpy().tolist()
    [0.75, 0.0, 0.0]
    """
    norms = ops.sqrt(at_least_float32(squared_norms))
    threshold = ops.convert_to_tensor(threshold, dtype=norms.dtype)
    dead = norms <= threshold
    return ops.where(dead, 0.0, 1.0 - threshold / ops.where(dead, 1.0, norms))


def shorter(squared_norms, threshold):
    """The norms of groups after a proximal step of the group lasso: `max(0, ‖w_g‖ - t)`.

    Args:
        squared_norms: Tensor of the groups' sums of squares, any shape.
        threshold: `t ≥ 0`; a number or a tensor.

    >>> shorter([16.0, 1.0, 0.0], threshold=1.0).numpy().tolist()
    [3.0, 0.0, 0.0]
    """
    norms = ops.sqrt(at_least_float32(squared_norms))
    threshold = ops.convert_to_tensor(threshold, dtype=norms.dtype)
    return ops.where(norms <= threshold, 0.0, norms - threshold)


def proximal_step(weights, threshold, axis):
    """Block soft threshold: every group moves towards zero by `t` and stops there.

    `prox(w_g) = w_g · max(0, 1 - t / ‖w_g‖)`, the minimizer of `½‖v - w_g‖² + t‖v‖` over `v`
    (Yuan and Lin, 2006; Parikh and Boyd, 2014).

    Args:
        weights: Tensor of any shape.
        threshold: `t ≥ 0`, learning rate times strength.
        axis: Axes that index the groups.

    Returns:
        Tensor like `weights`.

    >>> proximal_step([[0.0, 0.5], [4.0, 0.5]], threshold=1.0, axis=(1,)).numpy().tolist()
    [[0.0, 0.0], [3.0, 0.0]]
    """
    weights = ops.convert_to_tensor(weights)
    rank = len(weights.shape)
    axis = sorted(a % rank for a in axis)
    scale = proximal_scale(squared_sums(weights, axis), threshold)
    scale = ops.reshape(scale, [size if a in axis else 1 for a, size in enumerate(weights.shape)])
    return ops.cast(weights * ops.cast(scale, weights.dtype), weights.dtype)


def proximal_norms(squared_norms, sums, steps=3):
    """The norms of groups after a proximal step in a diagonal metric: `r_g` with `Σ_{i in g} (u_i / (r_g + d_i))² = 1`.

    The step minimizes `Σ_i (w_i - u_i)² / (2 d_i) + ‖w_g‖`, so `w_i = u_i r_g / (r_g + d_i)` and `r_g = ‖w_g‖`; it is 0
    where `Σ (u_i / d_i)² ≤ 1`. `1 / sqrt(Σ (u_i / (r + d_i))²)` is concave in `r` and nearly straight: Newton's method
    comes from the right to the left of the root in one step, then never passes it again.

    Args:
        squared_norms: `‖u_g‖²`, tensor of the groups' sizes; NaN stays NaN.
        sums: function of `r`, shape as `squared_norms`: `Σ (u_i / (r + d_i))²` and `Σ u_i² / (r + d_i)³`, a pair.
        steps: how many steps of Newton's method are made; where all `d_i` are equal the first one is exact.

    Returns:
        Tensor of the groups' sizes. (Yun et al., 2021; Moré and Sorensen, 1983, for the equation.)

    >>> u, d = ops.array([[3.0, 4.0]]), ops.array([[1.0, 1.0]])
    >>> def sums(r):
    ...     return ops.sum((u / (r[:, None] + d)) ** 2, 1), ops.sum(u**2 / (r[:, None] + d) ** 3, 1)
    >>> proximal_norms(ops.array([25.0]), sums).numpy().tolist()  # 5 - 1
    [4.0]
    """
    norms = ops.sqrt(at_least_float32(squared_norms))

    def step(count, state):  # the first evaluation, at 0, tells which groups die; the others are Newton's
        root, dead = state
        squares, cubes = sums(root)
        newton = root + squares * (ops.sqrt(squares) - 1) / ops.maximum(cubes, TINY)
        newton = ops.maximum(newton, root / 8)  # the root is positive, and so has each guess to be
        first = ops.equal(count, 0)
        return ops.where(first, norms, newton), ops.where(first, squares <= 1, dead)

    start = ops.zeros_like(norms), ops.zeros_like(norms, "bool")
    root, dead = ops.fori_loop(0, steps + 1, step, start)
    return ops.where(dead, 0.0, root)


def strength_from_ratio(ratio, data_loss, lasso):
    """The strength that makes the penalty a given share of the first loss.

    `strength = r · CE₀ / ((1 - r) · Lasso₀)`, so that `strength · Lasso₀ = r (CE₀ + strength · Lasso₀)`
    (PruneTrain, Lym et al., SC 2019).

    Args:
        ratio: `r` in `[0, 1)`, the penalty's share of the total loss.
        data_loss: `CE₀`, the first batch's loss without the penalty; a number or a scalar tensor.
        lasso: `Lasso₀`, the group lasso of the first weights; a positive number or scalar tensor.

    Raises:
        TypeError: If `ratio` is no number.
        ValueError: If `ratio` is not in `[0, 1)`.

    >>> strength_from_ratio(0.2, data_loss=2.0, lasso=50.0)
    0.01
    """
    ratio = checks.number(ratio, "ratio", "strength_from_ratio", below=1)
    return ratio * data_loss / ((1 - ratio) * lasso)


def zero_small(weights, threshold):
    """Weights whose size is below a threshold become exactly zero: `w · [|w| ≥ t]` (SSL, Wen et al., 2016).

    Args:
        weights: Tensor of any shape.
        threshold: `t ≥ 0`; the paper uses 1e-4 after every update.

    >>> zero_small([-0.5, -1e-5, 0.25], threshold=0.25).numpy().tolist()
    [-0.5, 0.0, 0.25]
    """
    weights = ops.convert_to_tensor(weights)
    return ops.where(
        ops.abs(weights) < ops.convert_to_tensor(threshold, dtype=weights.dtype), ops.zeros_like(weights), weights
    )


def at_least_float32(values):
    """Half precision holds neither 1e-8 nor the square of a small weight."""
    values = ops.convert_to_tensor(values)
    return values if backend.standardize_dtype(values.dtype) == "float64" else ops.cast(values, "float32")
