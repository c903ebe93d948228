"""Symbolic tensors of Keras that can be used as TensorFlow's are."""

import contextlib

import keras
import numpy as np
import tensorflow as tf


@contextlib.contextmanager
def as_in_tensorflow():
    """Let symbolic tensors be used as TensorFlow's meanwhile.

    They take any keys, know `x.shape.rank` and `x.dtype.base_dtype`, and NumPy's numbers on either side, which become
    numbers of the tensor's type.
    """
    tensor = keras.KerasTensor
    own = dict(vars(tensor))
    init, get, shape, dtype = own["__init__"], own["__getitem__"], own["shape"], own["dtype"]
    new = {
        "__init__": lambda self, shape, *args, **options: init(self, _plain(shape), *args, **options),
        "__getitem__": lambda self, key: get(self, key if isinstance(key, (tuple, list)) else (key,)),
        "shape": property(lambda self: _Shape(shape.fget(self)), shape.fset),
        "dtype": property(lambda self: _Dtype(dtype.fget(self)), dtype.fset),
        "get_shape": lambda self: self.shape,
        "set_shape": lambda self, shape: None,
        "__array_priority__": 100,  # as tensors have: NumPy leaves the operation to them
        **{name: _of_one_type(own[name]) for name in _OPERATORS if name in own},
    }
    for name, value in new.items():
        setattr(tensor, name, value)
    try:
        yield
    finally:
        for name in new:
            setattr(tensor, name, own[name]) if name in own else delattr(tensor, name)


_OPERATORS = (
    *(f"__{name}__" for name in ("lt", "le", "gt", "ge")),
    *(f"__{side}{name}__" for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow") for side in ("", "r")),
)


def _plain(shape):
    """A shape as Keras before 3.12 keeps it: as it is given."""
    return tuple(shape) if isinstance(shape, _Shape) else shape


def _of_one_type(operator):
    return lambda self, other: operator(self, number_like(self, other))


def number_like(tensor, value):
    """NumPy's numbers as numbers of a tensor's type, as TensorFlow takes them; any other value as it is."""
    if not isinstance(value, (np.ndarray, np.generic)):
        return value
    numbers = np.asarray(value).astype(tf.as_dtype(str(tensor.dtype)).as_numpy_dtype)
    return numbers if numbers.ndim else numbers.item()


class _Shape(tuple):
    """A shape that knows of itself what TensorFlow's does, such as `rank` and `as_list()`."""

    def __getattr__(self, name):
        return _known(tf.TensorShape(tuple(self)), name)


class _Dtype(str):
    """A type of numbers that knows of itself what TensorFlow's does, such as `base_dtype` and `is_floating`."""

    def __getattr__(self, name):
        return _known(tf.as_dtype(str(self)), name)


def _known(value, name):
    if name.startswith("_"):
        raise AttributeError(name)
    return getattr(value, name)
