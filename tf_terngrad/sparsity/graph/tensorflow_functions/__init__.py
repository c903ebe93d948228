"""What functions of TensorFlow are in `keras.ops`: each takes what TensorFlow's takes, and gives the same for tensors.

A new one is one line in `SAME` or `PAIRS` of `tables.py`, or a function of the same arguments in one of the other
files. What TensorFlow computes with other functions that are here (`tf.nn.batch_normalization`) needs none.
"""

import inspect

from tf_terngrad.keras_internals import number_like
from tf_terngrad.sparsity.graph.symbolic import tensors_of
from tf_terngrad.sparsity.graph.tensorflow_functions import (  # noted, and nothing more
    activations,
    products,
    shapes,
    values,
)
from tf_terngrad.sparsity.graph.tensorflow_functions.tables import FUNCTIONS, PAIRS, SAME

__all__ = ["FUNCTIONS", "PAIRS", "SAME", "activations", "equal_of", "products", "shapes", "values"]


def equal_of(function, args, kwargs):
    """What a function of TensorFlow gives, computed by `keras.ops`; NotImplemented: it has no equal here.

    Raises:
        TypeError, ValueError: for arguments with which the two would not be the same.
    """
    kwargs = {name: value for name, value in kwargs.items() if name != "name"}
    table, ours = _KNOWN.get(inspect.unwrap(function), (None, None))
    if table is FUNCTIONS:
        return ours(*args, **kwargs)
    tensors = [*args, *kwargs.values()]
    for tensor in tensors_of(tensors)[:1]:
        tensors = [number_like(tensor, value) for value in tensors]
    return ours(*tensors) if ours and len(tensors) == (1 if table is SAME else 2) else NotImplemented


_KNOWN = {inspect.unwrap(theirs): (table, ours) for table in (SAME, PAIRS, FUNCTIONS) for theirs, ours in table.items()}
# TensorFlow asks about a function as it is inside of some decorators.
