"""Walk the graph of a Functional or Sequential model on values of any kind; it neither follows channels nor shrinks."""

import keras
from keras import tree

from tf_terngrad.keras_internals import graph_of, is_graph, nodes


def replay(model, inputs, call) -> list:
    """Evaluate a model's graph, one level of it, with a function of your own in place of each layer's call.

    Use it when you need a model's order of computation: to follow it, to cost it, to build another model like it.

    Args:
        model: a built Functional or Sequential model.
        inputs: a value for each of its inputs, in the order in which Keras flattens them.
        call: function (node, args, kwargs) that gives the value of each output of a call, in one structure or flat;
            `node.operation` is the layer, and args and kwargs hold values where the layer was given tensors.

    Returns:
        The value of each of the model's outputs.
    """
    functional = graph_of(model)
    values = {id(tensor): value for tensor, value in zip(functional.inputs, inputs, strict=True)}
    for node in nodes(functional):
        args, kwargs = node.arguments.convert(
            lambda value: values[id(value)] if isinstance(value, keras.KerasTensor) else value
        )
        outputs = tree.flatten(call(node, args, kwargs))
        values.update(zip(map(id, tree.flatten(node.output_tensors)), outputs, strict=True))
    return [values[id(tensor)] for tensor in functional.outputs]


def check_model(model):
    """Refuse what is not a built graph of layers.

    Raises:
        TypeError: for anything but a Keras model.
        ValueError: for a model that is not built, or is written as a subclass with its own `call`.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"Expected a Keras model. Received: {model!r} (of type {type(model).__name__})")
    if isinstance(model, keras.Sequential) and graph_of(model) is model:
        raise ValueError(
            f"Model {model.name!r} is not built: its shapes are not known yet. "
            "Start it with a keras.Input, or call model.build(input_shape) first."
        )
    if not is_graph(model):
        raise ValueError(
            f"Model {model.name!r} is a subclass ({type(model).__name__}) with a call() of its own, which cannot be "
            "followed. Build it with keras.Sequential or keras.Model(inputs, outputs)."
        )
