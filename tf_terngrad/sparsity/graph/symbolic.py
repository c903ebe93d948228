"""What is symbolic among the values that calls are given, and what is an array."""

import keras
import numpy as np
from keras import tree


def tensors_of(values) -> list:
    """The symbolic tensors in a structure of values."""
    return [value for value in tree.flatten(values) if isinstance(value, keras.KerasTensor)]


def is_array(value) -> bool:
    """Whether a value is an array, of NumPy or TensorFlow."""
    return isinstance(value, np.ndarray) or keras.ops.is_tensor(value)
