"""What TensorFlow traces and converts: its graphs, its functions, and how it asks about their calls."""

import tensorflow as tf
from tensorflow.python.ops import control_flow_util  # whether XLA compiles what is being traced

GlobalOpDispatcher = tf.__internal__.dispatch.GlobalOpDispatcher
"""Is asked about each call of a TensorFlow function on what it does not take; the public ways want each one by name."""


def traced_anew(function, python_function):
    """A `tf.function` of another Python function, with the options of one that is there."""
    return function._clone(python_function)


def in_xla(graph) -> bool:
    """Whether XLA compiles what is traced in this graph of TensorFlow."""
    return control_flow_util.GraphOrParentsInXlaContext(graph)


def set_constant(operation, array):
    """Give an operation that is a constant another number, while its graph is traced."""
    operation._set_attr("value", tf.compat.v1.AttrValue(tensor=tf.make_tensor_proto(array)))


def keep_scales_before_matmuls(converter) -> None:
    """Keep TFLite's converter from moving a product into the weights of the matrix product behind it."""
    converter._experimental_disable_fuse_mul_and_fc = True
