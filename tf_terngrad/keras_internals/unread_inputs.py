"""Inputs of a graph that no layer reads: Keras before 3.14 makes no model with one."""

import keras

from tf_terngrad.keras_internals.graphs import graph_of, is_graph
from tf_terngrad.keras_internals.layer_facts import all_layers
from tf_terngrad.keras_internals.versions import older_than

_READS_ALL_INPUTS = older_than("3.14")


def read_once(output, inputs):
    """An output of a graph; one that is an input goes through a layer where this Keras wants its inputs read."""
    refused = any(output is tensor for tensor in inputs) and wants_reader(output)
    return keras.layers.Identity(dtype=output.dtype)(output) if refused else output


def wants_reader(tensor) -> bool:
    """Whether this Keras would refuse a model with this input, for no layer reads it so far."""
    return _READS_ALL_INPUTS and not tensor._keras_history.operation._outbound_nodes


def is_read(tensor) -> bool:
    """Whether an operation was called on a symbolic tensor that is an input."""
    return bool(tensor._keras_history.operation._outbound_nodes)


def may_lose_inputs(model) -> bool:
    """Whether inputs may lose their last reader; in old Keras only where each graph has one, which all else reads."""
    graphs = [graph_of(layer) for layer in all_layers(model) if is_graph(layer)]
    return not _READS_ALL_INPUTS or all(len(graph.inputs) == 1 for graph in graphs)
