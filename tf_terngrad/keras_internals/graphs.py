"""Graphs of layers: which model is one, its calls in order, and what made a tensor."""

import contextlib

import keras
from keras.src.models.functional import Functional  # keras.Model(inputs, outputs) makes one, and has no public name
from keras.src.ops.node import Node  # a call in a graph, which is otherwise only made by calling

from tf_terngrad.keras_internals.layer_facts import all_layers


def graph_of(layer):
    """The graph of layers that a Sequential model has inside of it; any other model or layer itself."""
    return getattr(layer, "_functional", None) or layer


def is_graph(layer) -> bool:
    """Whether a layer is a model whose computation is its graph of layers, and nothing else."""
    if "call" in vars(layer) or (isinstance(layer, keras.Layer) and type(layer).__call__ is not keras.Layer.__call__):
        return False
    if isinstance(layer, keras.Sequential):
        return type(layer).call is keras.Sequential.call and layer._functional is not None
    return isinstance(layer, Functional) and type(layer).call is Functional.call


def nodes(functional) -> list:
    """The calls of a graph in an order in which they can be computed, inputs left out; Keras shows no order."""
    depths = functional._nodes_by_depth
    return [node for depth in sorted(depths, reverse=True) for node in depths[depth] if not node.is_input]


def structures_of(functional) -> tuple:
    """The nested structures of a graph's inputs and outputs; `model.input` flattens what has one tensor."""
    return functional._inputs_struct, functional._outputs_struct


def history(tensor):
    """The operation that made a symbolic tensor, the number of its call, and which output it is; None: none did."""
    return getattr(tensor, "_keras_history", None)


def node_of(tensor):
    """The call in a graph that made a symbolic tensor."""
    operation, number, _ = tensor._keras_history
    return operation._inbound_nodes[number]


def call_of(operation, number):
    """The arguments of one of the calls of an operation in graphs."""
    return operation._inbound_nodes[number].arguments


def without_calls(operation):
    """Let an operation, a copy of another one, forget the calls of that one in graphs."""
    operation._inbound_nodes, operation._outbound_nodes = [], []
    return operation


def add_call(operation, args, kwargs, outputs):
    """Note in a graph that an operation was called so, without calling it; gives the outputs, symbolic tensors."""
    Node(operation, args, kwargs, outputs)
    return outputs


@contextlib.contextmanager
def calls_forgotten(layer):
    """Let a layer, and all inside of it, forget the calls that are made meanwhile; graphs of them keep theirs."""
    inside = [operation for each in all_layers(layer) for operation in (each, *getattr(each, "operations", ()))]
    counts = [(each, len(each._inbound_nodes), len(each._outbound_nodes)) for each in inside]
    try:
        yield
    finally:
        for each, inbound, outbound in counts:
            del each._inbound_nodes[inbound:], each._outbound_nodes[outbound:]
