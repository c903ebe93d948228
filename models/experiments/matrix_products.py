"""How long products of a sparse matrix with a dense one take on one thread: without rows and columns, and in CSR."""

import time

import numpy as np
import scipy.sparse
from threadpoolctl import threadpool_limits

WARM_UP = 3


def compare_products(weights: list, places: int, runs: int, random, single: list | None = None) -> tuple:
    """Measure products of matrices with dense ones, in turns: whole, without what is zero, and in sparse storage.

    Rows and columns that are zero leave both factors before the clock runs, as in the paper: what is measured is the
    product of what stays, without gathering it.

    Args:
        weights: matrices, one a group of a convolution; the products of all are one time.
        places: columns of the other factor.
        runs: how often each is measured.
        random: a generator, of the other factors.
        single: matrices to store sparsely, if not these.

    Returns:
        The median milliseconds of the whole product, and the medians of its time over that without rows and columns of
        zeros, and over that in sparse storage (CSR).
    """
    others = [random.normal(size=(matrix.shape[1], places)).astype("float32") for matrix in weights]
    small = [_without_zeros(*pair) for pair in zip(weights, others, strict=True)]
    sparse = list(zip(map(scipy.sparse.csr_array, single or weights), others, strict=True))
    with threadpool_limits(1):
        times = _in_turns([list(zip(weights, others, strict=True)), small, sparse], runs)
    whole, *faster = map(np.array, times)
    return 1e3 * float(np.median(whole)), [float(np.median(whole / each)) for each in faster]


def _without_zeros(matrix, other):
    rows, columns = matrix.any(1), matrix.any(0)
    return np.ascontiguousarray(matrix[rows][:, columns]), np.ascontiguousarray(other[columns])


def _in_turns(several, runs):
    """The seconds that the processor took for each run of several lists of products; what else ran does not count."""
    times = [[] for _ in several]
    for _ in range(runs + WARM_UP):
        for pairs, own in zip(several, times, strict=True):
            start = time.thread_time()
            for left, right in pairs:
                left @ right
            own.append(time.thread_time() - start)
    return [own[WARM_UP:] for own in times]
