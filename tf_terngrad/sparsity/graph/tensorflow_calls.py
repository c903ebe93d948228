"""Lets a trace follow calls of TensorFlow's functions: on symbolic tensors they become operations of Keras.

TensorFlow asks its dispatchers about a call that it cannot make. Ours answers while a call is traced, and never else.
"""

import keras
import tensorflow as tf
from keras import tree

from tf_terngrad.keras_internals import GlobalOpDispatcher, public_name, stateless_scope
from tf_terngrad.sparsity.graph.symbolic import tensors_of
from tf_terngrad.sparsity.graph.tensorflow_functions import equal_of


class FollowsTensorFlow(keras.StatelessScope):
    """A scope in which functions of TensorFlow take symbolic tensors.

    Attributes:
        refused: the name of the function that was called last and has no equal in Keras; None: there is none.
    """

    refused = None

    def tensorflow(self, function, args, kwargs):
        """What a function gives for symbolic tensors; NotImplemented: that is not known."""
        if any(isinstance(value, tf.Variable) for value in tree.flatten((args, kwargs))):
            return self._refuse(function)  # a constant of the graph, which trains in the user's model
        try:
            result = equal_of(function, args, kwargs)
        except (TypeError, ValueError):
            return self._refuse(function)
        if result is NotImplemented or not _agree(result, function, args, kwargs):
            return self._refuse(function)
        return result

    def _refuse(self, function):
        self.refused = public_name(function)
        return NotImplemented


class _Dispatcher(GlobalOpDispatcher):
    def handle(self, op, args, kwargs):
        scope = stateless_scope()
        if not isinstance(scope, FollowsTensorFlow) or not tensors_of((args, kwargs)):
            return self.NOT_SUPPORTED
        result = scope.tensorflow(op, args, kwargs)
        return self.NOT_SUPPORTED if result is NotImplemented else result


_Dispatcher().register()


def _agree(result, function, args, kwargs):
    """Whether TensorFlow would give tensors of the same shapes and types."""
    if not tensors_of(result):
        return True
    given = tree.flatten((args, kwargs))
    specs = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in tensors_of(given)]

    def compute(*tensors):
        tensors = iter(tensors)
        flat = [next(tensors) if isinstance(value, keras.KerasTensor) else value for value in given]
        same_args, same_kwargs = tree.pack_sequence_as((args, kwargs), flat)
        return function(*same_args, **same_kwargs)

    theirs = tree.flatten(tf.function(compute, autograph=False).get_concrete_function(*specs).structured_outputs)
    ours = tree.flatten(result)
    return len(ours) == len(theirs) and all(
        one.dtype == other.dtype.name and other.shape.is_compatible_with(one.shape)
        for one, other in zip(ours, theirs, strict=True)
    )
