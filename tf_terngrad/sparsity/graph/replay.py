"""Walk the graph of a Functional or Sequential model on values of any kind; it neither follows channels nor shrinks."""

import keras
from keras import tree

from tf_terngrad.keras_internals import Functional, built_for, graph_of, is_graph, nodes, structures_of


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
    """Refuse what is not a built model.

    Raises:
        TypeError: for anything but a Keras model.
        ValueError: for a model that is not built.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"Expected a Keras model. Received: {model!r} (of type {type(model).__name__})")
    if isinstance(model, keras.Sequential) and graph_of(model) is model:
        raise ValueError(
            f"Model {model.name!r} is not built: its shapes are not known yet. "
            "Start it with a keras.Input, or call model.build(input_shape) first."
        )
    if is_graph(model) or isinstance(model, Functional):
        return
    if type(model).call is keras.Model.call:
        parts = [name for name, value in vars(model).items() if isinstance(value, keras.Model)]
        raise ValueError(
            f"Model {model.name!r} is a subclass ({type(model).__name__}) that has no `call`. "
            f"Give the models that it holds, each by itself: {', '.join(parts) or 'it holds none'}."
        )
    if built_for(model) is None:
        raise ValueError(
            f"Model {model.name!r} is a subclass ({type(model).__name__}), and it is not known on what it is called. "
            "Call it once on data, or, if it takes several arguments, build keras.Model(inputs, model(...)) around it."
        )


def awaits_data(model) -> bool:
    """Whether a model is built by the first batch that it is given, so that nothing can be said of it yet."""
    if isinstance(model, keras.Sequential):
        return graph_of(model) is model
    own = not isinstance(model, Functional) and type(model).call is not keras.Model.call
    return own and built_for(model) is None


def example_of(model, dtype):
    """Symbolic tensors of the shapes that a subclassed model was built for, as its call takes them."""
    return structures_of(model)[0] if isinstance(model, Functional) else _tensors(built_for(model), dtype)


def _tensors(shapes, dtype):
    if isinstance(shapes, dict):
        return {name: _tensors(shape, dtype) for name, shape in shapes.items()}
    if all(size is None or isinstance(size, int) for size in shapes):
        return keras.KerasTensor((None, *shapes[1:]), dtype)
    return [_tensors(shape, dtype) for shape in shapes]
