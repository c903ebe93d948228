"""Additions in which Keras takes an array for a vector of biases, and adds it along another axis than it lies on.

Its TensorFlow backend adds what has one axis that is longer than one, such as (n, 1), as a vector along axis 1 or the
last axis of the other tensor, if one of these has the length n. Arrays that shrink to one column become such vectors.
"""

from tf_terngrad.sparsity.graph.channels import Channels


def is_misplaced(shape, added) -> bool:
    """Whether Keras adds an array of one shape, the second term of a sum, along the wrong axis of another one.

    >>> is_misplaced((None, 4, 4, 1), (4, 1)), is_misplaced((None, 4, 4, 2), (4, 2)), is_misplaced((None, 4, 1), (4, 1))
    (True, False, False)
    """
    long = [len(added) - place for place, size in enumerate(added) if size != 1]
    if len(long) != 1 or len(shape) < 2 or added[-long[0]] not in {shape[1], shape[-1]} - {None}:
        return False
    return len(shape) - long[0] != (len(shape) - 1 if shape[-1] == added[-long[0]] else 1)


def keep_columns(call, bias, shape):
    """Keep two columns of a bias (rows, columns) of a layer that is added to this shape, if one could be misplaced."""
    if bias is not None and len(bias.shape) == 2 and len(shape) > 3 and shape[1] in range(2, bias.shape[0] + 1):
        columns = call.graph.weights[id(bias)].axes.get(1)
        if columns is not None:
            call.pairs.append((Channels.of(columns), "Keras may add a bias of one column along another axis"))
