"""Gradients of virtual workers, and what an exchange makes of them."""

import numpy as np
import tensorflow as tf
import virtual_workers

from tf_terngrad.ternary import exchange

SHAPES = [(300, 20), (7,), (0,), (3, 1111)]


def gradients(worker, dtype="float32"):
    """A worker's own, of several shapes and magnitudes."""
    rng = np.random.default_rng(worker)
    return [tf.constant(rng.normal(size=shape) * 10.0**i, dtype) for i, shape in enumerate(SHAPES)]


def averages(workers, settings, of=gradients, step=5):
    """What each of so many workers gets."""
    return virtual_workers.run(
        workers, lambda network: exchange.average(of(int(network.rank())), settings, network, step)
    )
