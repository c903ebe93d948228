"""How long things take on one thread, in its processor time: what else a shared machine runs does not count.

A neighbour still takes a part of the caches. So several things are measured in turns, and compared run by run.
"""

import functools
import time

import numpy as np
import scipy.sparse
from threadpoolctl import threadpool_limits

from tf_terngrad.tflite.litert import Runner
from tf_terngrad.tflite.ports import random_arrays

WARM_UP = 3


def compare_products(weights: list, places: int, runs: int, random, single: list | None = None) -> tuple:
    """Measure products of matrices with dense ones: whole, without what is zero, and in sparse storage.

    Rows and columns that are zero leave both factors before the clock runs, as in the paper: what is measured is the
    product of what stays, without gathering it.

    Args:
        weights: matrices, one a group of a convolution; the products of all are one time.
        places: columns of the other factor.
        runs: how often each is measured.
        random: a generator, of the other factors.
        single: matrices to store sparsely, if not these.

    Returns:
        As `compare`: of the whole product, that without rows and columns of zeros, and that in sparse storage (CSR).
    """
    others = [random.normal(size=(matrix.shape[1], places)).astype("float32") for matrix in weights]
    small = [_without_zeros(*pair) for pair in zip(weights, others, strict=True)]
    sparse = list(zip(map(scipy.sparse.csr_array, single or weights), others, strict=True))
    with threadpool_limits(1):
        whole = list(zip(weights, others, strict=True))
        return compare([functools.partial(_multiply, pairs) for pairs in (whole, small, sparse)], runs)


def compare_files(paths: list, runs: int) -> tuple:
    """Measure TFLite files on random inputs; returns as `compare`."""
    runners = [Runner(path, threads=1) for path in paths]
    for runner in runners:
        runner.feed(random_arrays(runner.inputs, 1, limit=1))
    return compare([runner.invoke for runner in runners], runs)


def compare(functions: list, runs: int) -> tuple:
    """Measure functions in turns.

    Args:
        functions: of no arguments; they do their work in the thread that calls them.
        runs: how often each is measured.

    Returns:
        The median milliseconds of the first, and for each of the others the median over runs of the first one's time
        over its own: 2.0 is twice as fast.
    """
    times = np.zeros((runs + WARM_UP, len(functions)))
    for run in times:
        for number, function in enumerate(functions):
            start = time.thread_time()
            function()
            run[number] = time.thread_time() - start
    first, *others = times[WARM_UP:].T
    return 1e3 * float(np.median(first)), [float(np.median(first / other)) for other in others]


def _multiply(pairs):
    for left, right in pairs:
        left @ right


def _without_zeros(matrix, other):
    rows, columns = matrix.any(1), matrix.any(0)
    return np.ascontiguousarray(matrix[rows][:, columns]), np.ascontiguousarray(other[columns])
