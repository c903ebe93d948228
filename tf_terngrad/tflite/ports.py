"""The named inputs and outputs of a Keras model, and the arrays that fit them."""

import dataclasses
import itertools
import keyword
import os
import re

import keras
import numpy as np

from tf_terngrad.keras_internals import history

FREE_SIZE = 32  # stands for a free dimension other than the batch when the caller gives no data


@dataclasses.dataclass(frozen=True)
class Port:
    """One input or output: its name, its shape with None where a dimension is free, its dtype as a string."""

    name: str
    shape: tuple
    dtype: str


def structures_of(model):
    """Returns `model.input` and `model.output`, which a Sequential model does not have before it is called."""
    if isinstance(model, keras.Sequential):
        return model.inputs[0], model.outputs[0]
    return model.input, model.output


def ports(structure):
    """Names the tensors of `model.input` or `model.output`, in the order in which Keras flattens them.

    A dict's keys are the names; elsewhere the name of the layer that makes the tensor is. A name becomes an
    identifier, which TFLite signatures need, and a name taken twice is numbered: `score`, `score_1`.

    Args:
        structure: A Keras tensor, or a list, tuple or dict of them.

    Returns:
        A list of `Port`.
    """
    tensors = keras.tree.flatten(structure)
    if isinstance(structure, dict):
        names = [str(key) for key in keras.tree.flatten({key: key for key in structure})]
    if not isinstance(structure, dict) or len(names) != len(tensors):
        names = [history(tensor).operation.name for tensor in tensors]
    return [
        Port(name, tuple(tensor.shape), str(tensor.dtype))
        for name, tensor in zip(unique(map(identifier, names)), tensors, strict=True)
    ]


def identifier(name):
    """Returns a name that a TFLite signature can have."""
    name = re.sub(r"[\W_]+", "_", name, flags=re.ASCII).strip("_")
    # TensorFlow binds the inputs as arguments of a method: these names are not to be had.
    taken = keyword.iskeyword(name) or name == "self"
    return f"tensor_{name}" if taken or not name[:1].isalpha() else name


def unique(names):
    """Returns a list of the names, with a number behind each that is taken by then."""
    found = []
    for name in names:
        numbered = (f"{name}_{number}" for number in itertools.count(1))
        found.append(next(candidate for candidate in itertools.chain([name], numbered) if candidate not in found))
    return found


def arrange(data, inputs, what):
    """Lays out a caller's data as one array an input, in the order of `inputs`, and checks every one.

    Args:
        data: An array (one input), a list or tuple of arrays (in order), or a dict of arrays by input name.
        inputs: A list of `Port`.
        what: What the data is for, to begin an error with: "calibration".

    Returns:
        A list of arrays with the inputs' dtypes, all with the same number of examples.

    Raises:
        ValueError: An array is missing, left over, empty, not finite, or has a wrong shape.
        TypeError: An array is the path of a file, or has a dtype that its input cannot take.
    """
    arrays = [_fit(array, port, what) for array, port in zip(in_order(data, inputs, what), inputs, strict=True)]
    lengths = {port.name: len(array) for port, array in zip(inputs, arrays, strict=True)}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"{what}: every input needs the same number of examples. Received: {lengths}.")
    return arrays


def in_order(data, inputs, what):
    """Returns a list of the arrays in an array, a list, a tuple or a dict, in the order of `inputs`; see `arrange`."""
    names = [port.name for port in inputs]
    if isinstance(data, dict):
        given = {identifier(str(key)): array for key, array in data.items()}
        if set(given) != set(names):
            raise ValueError(f"{what}: expected one array for each of the inputs {names}. Received: {list(data)}.")
        return [given[name] for name in names]
    # A list for a model of one input is an array written as a list, unless it holds exactly one array.
    many = isinstance(data, (list, tuple)) and (len(inputs) > 1 or (len(data) == 1 and np.ndim(data[0]) > 0))
    arrays = list(data) if many else [data]
    if len(arrays) != len(names):
        raise ValueError(
            f"{what}: expected {len(names)} arrays, one for each of the inputs {names}. Received: {len(arrays)}."
        )
    return arrays


def with_examples(array, port, single=True):
    """Reads an array as several examples for a port, or as a single one, and gives it the axes that it then lacks.

    Keras adds a last axis of size 1 likewise: a column of numbers fits an input of shape (batch, 1).

    Args:
        array: A NumPy array.
        port: A `Port`.
        single: Whether it may be one example, without an axis of examples.

    Returns:
        The array, with an axis of size 1 in front, at the end, or both, where it fits the port then; else as it was.
    """
    ends = [(), (None,)] if port.shape[-1:] == (1,) else [()]
    readings = (array[(*front, ..., *end)] for end in ends for front in ([(), (None,)] if single else [()]))
    return next((reading for reading in readings if _fits(reading, (None, *port.shape[1:]))), array)


def _fits(array, shape):
    return array.ndim == len(shape) and all(
        size in (None, received) for size, received in zip(shape, array.shape, strict=True)
    )


def _fit(array, port, what):
    where = f"{what} for input '{port.name}'"
    if isinstance(array, (str, os.PathLike)) and port.dtype != "string":
        raise TypeError(f"{where}: expected an array; load the file first, as numpy.load does. Received: path {array}.")
    array = with_examples(np.asarray(array), port, single=False)
    if not _fits(array, (None, *port.shape[1:])) or not len(array):
        expected = ", ".join(["n", *("any" if size is None else str(size) for size in port.shape[1:])])
        raise ValueError(f"{where}: expected shape ({expected}) with n >= 1. Received: shape {array.shape}.")
    return _of_dtype(array, port.dtype, where)


def _of_dtype(array, dtype, where):
    texts = array.dtype.kind in "SUO"
    if texts != (dtype == "string") or (not texts and not np.can_cast(array.dtype, dtype, casting="same_kind")):
        raise TypeError(f"{where}: expected values that fit {dtype}. Received: dtype {array.dtype}.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{where}: expected finite numbers. Received: NaN or infinity.")
    return array if texts else array.astype(dtype)


def random_arrays(inputs, examples, limit=None, size=FREE_SIZE, tokens=(), seed=0):
    """Draws inputs: normal numbers, and whole numbers in [0, limit) where an input has integers, or is in `tokens`.

    Args:
        inputs: A list of `Port`.
        examples: How many; an input of fixed batch needs its own multiple.
        limit: One more than the largest integer drawn; None for 256 where an input holds bytes, as images do, else 2.
        size: Of free dimensions.
        tokens: Names of inputs that hold whole numbers, whatever their type.
        seed: Of the generator.

    Returns:
        A list of arrays.
    """
    random = np.random.default_rng(seed)
    arrays = []
    for port in inputs:
        shape = (examples, *(size if axis is None else axis for axis in port.shape[1:]))
        floating = port.name not in tokens and np.issubdtype(np.dtype(port.dtype), np.floating)
        below = limit or (256 if port.dtype == "uint8" else 2)
        values = random.normal(size=shape) if floating else random.integers(0, below, size=shape)
        arrays.append(values.astype(port.dtype))
    return arrays
