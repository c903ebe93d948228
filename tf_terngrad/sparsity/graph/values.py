"""The numbers in a model's variables, read without a copy: models of gigabytes are read many times."""

import keras
import numpy as np
import tensorflow as tf


def array_of(variable) -> np.ndarray:
    """A variable's numbers, to read only and before the variable changes."""
    tensor = tf.convert_to_tensor(variable.value)
    try:
        return np.asarray(memoryview(tensor))
    except ValueError:  # Python has no buffers of bfloat16
        return variable.numpy()


def state_of(layer) -> list:
    """The weights of a layer, and what a recurrent one keeps from batch to batch, which is none of them."""
    kept = layer.states if isinstance(layer, keras.layers.RNN) else None
    return [*getattr(layer, "weights", ()), *keras.tree.flatten(kept or ())]


def is_finite(variable) -> bool:
    """Whether none of a variable's numbers is NaN or infinite."""
    array = array_of(variable)
    with np.errstate(over="ignore", invalid="ignore"):
        total = array.sum()  # reads once and writes nothing; a sum that overflows tells nothing
    return bool(np.isfinite(total) or np.isfinite(array).all())


def any_above(array, tolerance) -> np.ndarray:
    """Whether any magnitude along the last axis is above the tolerance; NaN is not."""
    above = array > tolerance
    above |= array < -tolerance
    return above[..., 0] if above.shape[-1] == 1 else above.any(-1)
