"""Examples in the forms in which programs have them: arrays, a tf.data.Dataset, a generator."""

import collections.abc
import os

import keras
import numpy as np

from tf_terngrad.checks import refusal
from tf_terngrad.tflite.ports import identifier, in_order, with_examples

MOST = 1000  # examples that are read of a dataset or a generator: either may have no end
KINDS = (
    "an array, a tuple of arrays in the order of the inputs, a dict of arrays by input name, a tf.data.Dataset, or a"
    " generator or a function that returns one, as TensorFlow's representative_dataset"
)


def read(data, inputs, what):
    """Reads examples of any kind into what `ports.arrange` takes; arrays stay what they are.

    An element of a dataset or a generator is one example or a batch of them: an array, a list or tuple in the order of
    the inputs, or a dict by name; labels and weights behind the inputs, as `fit` takes them, are left out, and so are
    entries of a dict that are no inputs.

    Args:
        data: Arrays, a `tf.data.Dataset`, a `keras.utils.PyDataset`, an iterator, or a function without arguments that
            returns something to iterate over.
        inputs: A list of `Port`.
        what: What the data is for, to begin an error with: "calibration".

    Returns:
        Arrays as they were given, or a list of arrays, of at most the first `MOST` examples.

    Raises:
        TypeError: The data is of no such kind.
        ValueError: An element lacks an input, no element came, or the elements' shapes differ.
    """
    if callable(data) and not isinstance(data, keras.Layer):
        data = data()
    elements = _elements(data, what)
    if elements is None:
        return data
    batches = [[] for _ in inputs]
    for element in elements:
        for parts, array in zip(batches, _batch(element, inputs, what), strict=True):
            parts.append(array)
        if sum(map(len, batches[0])) >= MOST:
            break
    if not all(batches):
        raise ValueError(f"{what}: expected at least one element. Received: {type(data).__name__} without any.")
    return [_joined(parts, port, what)[:MOST] for parts, port in zip(batches, inputs, strict=True)]


def _elements(data, what):
    """What to iterate over; None for arrays."""
    if isinstance(data, (list, tuple, dict, str, os.PathLike)) or hasattr(data, "__array__"):
        return None
    if isinstance(data, keras.utils.PyDataset):
        return map(data.__getitem__, range(len(data)))
    if isinstance(data, collections.abc.Iterable):
        return data
    raise TypeError(refusal("convert", what, KINDS, data))


def _batch(element, inputs, what):
    """The arrays of an element, one an input, with an axis of examples in front."""
    arrays = in_order(_without_labels(element, inputs), inputs, what)
    return [with_examples(np.asarray(array), port) for array, port in zip(arrays, inputs, strict=True)]


def _joined(parts, port, what):
    shapes = sorted({part.shape[1:] for part in parts})
    if len(shapes) > 1:
        raise ValueError(
            f"{what} for input '{port.name}': expected examples of one shape; pad them, or cut them."
            f" Received: shapes {', '.join(map(str, shapes[:3]))}."
        )
    return np.concatenate(parts)


def _without_labels(element, inputs):
    """The inputs of an element: all of it, or what stands in front of labels and weights."""
    if isinstance(element, (tuple, list)) and element:
        nested = isinstance(element[0], (tuple, list, dict))
        element = element[0] if nested or len(element) != len(inputs) else element
    if isinstance(element, dict):
        names = [port.name for port in inputs]
        known = {key: value for key, value in element.items() if identifier(str(key)) in names}
        element = known or element  # of other names alone: they are to be told
    return element
