"""A model cut behind some of its layers: the application does what is in front, the file holds the rest."""

import dataclasses

import keras
import numpy as np

from tf_terngrad.checks import refusal
from tf_terngrad.keras_internals import graph_of, is_graph, mask_of, nodes
from tf_terngrad.sparsity.graph.replay import check_model, replay
from tf_terngrad.tflite.check import BATCH
from tf_terngrad.tflite.ports import identifier, ports, structures_of, unique


@dataclasses.dataclass(frozen=True)
class Cut:
    """The two parts of a model.

    Attributes:
        rest: What goes into a file; its inputs are a dict by name: what the layers at the cut give, under their names,
            and the inputs of the whole model that do not pass through them.
        front: A `keras.Function` of the whole model's inputs, in order, that gives the other inputs of `rest`.
        read: Names of the inputs that `front` reads, in order.
    """

    rest: keras.Model
    front: keras.Function
    read: list

    def inputs_of_rest(self, arrays, whole):
        """What the inputs of `rest` hold while data passes through the whole model.

        Args:
            arrays: A list of the whole model's inputs.
            whole: Its list of `Port`.

        Returns:
            A dict of arrays by input name.
        """
        given = {port.name: array for port, array in zip(whole, arrays, strict=True)}
        read = [given[name] for name in self.read]
        parts = [self._through(read, start) for start in range(0, len(arrays[0]), BATCH)]
        made = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return {name: made.get(name, given.get(name)) for name in self.rest.input}

    def _through(self, read, start):
        batches = [array[start : start + BATCH] for array in read]
        # NumPy's texts become tensors only from lists.
        tensors = [keras.ops.convert_to_tensor(b.tolist() if b.dtype.kind in "SUO" else b) for b in batches]
        return {name: keras.ops.convert_to_numpy(made) for name, made in self.front(tensors).items()}


def cut(model, start):
    """Cuts a model behind the layers of some names.

    Args:
        model: A built Sequential or Functional model.
        start: A layer's name, or a list of them.

    Returns:
        A `Cut`.

    Raises:
        TypeError: `start` is of another kind.
        ValueError: The model has no such layer, or one gives text, or a mask beside its outputs; or the model is no
            graph of layers.
    """
    check_model(model)
    names = _layer_names(model, start)
    inputs = {
        port.name: keras.Input(batch_shape=port.shape, dtype=port.dtype, name=port.name)
        for port in ports(structures_of(model)[0])
    }
    read, needed = _sources(model, list(inputs), names)
    made, begun = {}, {}

    def call(node, args, kwargs):
        outputs = node.operation(*args, **kwargs)
        if node.operation.name not in names:
            return outputs
        return keras.tree.map_structure(lambda tensor: _begin(node.operation, tensor, made, begun, inputs), outputs)

    outputs = _replay_opened(model, list(inputs.values()), names, call)
    beside = {name: tensor for name, tensor in inputs.items() if name in needed}
    rest = keras.Model(
        {**begun, **beside}, keras.tree.pack_sequence_as(structures_of(model)[1], outputs), name=model.name
    )
    return Cut(rest, keras.Function([inputs[name] for name in read], made), read)


def _begin(layer, tensor, made, begun, inputs):
    """An input in place of what a layer gives; both are noted under one name."""
    if tensor.dtype == "string" or mask_of(tensor) is not None:
        received = "text" if tensor.dtype == "string" else "a mask beside its outputs, which would be lost"
        raise ValueError(
            f"start: expected layers that give numbers alone. Received: layer '{layer.name}', which gives {received}."
        )
    name = unique([*inputs, *begun, identifier(layer.name)])[-1]
    made[name] = tensor
    begun[name] = keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=name)
    return begun[name]


def _layer_names(model, start):
    names = [start] if isinstance(start, str) else start
    if not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) for name in names):
        raise TypeError(refusal("convert", "start", "the name of a layer, or a list of names", start))
    if not {operation.name for operation in _operations(model)}.issuperset(names):
        readers = readers_of_text(model)
        hint = f"Text becomes numbers in {', '.join(map(repr, readers))}" if readers else ""
        expected = f"the name of a layer of model '{model.name}', or a list of them"
        raise ValueError(refusal("convert", "start", expected, start, hint))
    return set(names)


def _sources(model, inputs, names):
    """The names of the inputs that the layers at the cut read, in order, and of those that the outputs read beside."""
    read = set()

    def call(node, args, kwargs):
        sources = frozenset().union(*(s for s in keras.tree.flatten((args, kwargs)) if isinstance(s, frozenset)))
        if node.operation.name in names:
            read.update(sources)
            sources = frozenset()
        return [sources] * len(keras.tree.flatten(node.output_tensors))

    needed = frozenset().union(*_replay_opened(model, [frozenset([name]) for name in inputs], names, call))
    return [name for name in inputs if name in read], needed


def readers_of_text(model):
    """Returns the names of the layers that read text and give numbers, those inside of nested models too."""
    return list(
        dict.fromkeys(
            node.operation.name
            for node in _calls(model)
            if any(tensor.dtype == "string" for tensor in node.input_tensors)
            and all(tensor.dtype != "string" for tensor in keras.tree.flatten(node.output_tensors))
        )
    )


def _replay_opened(model, inputs, names, call):
    """As `replay`, with the nested models opened that hold a layer of one of the names."""

    def step(node, args, kwargs):
        if is_graph(node.operation) and any(operation.name in names for operation in _operations(node.operation)):
            return _replay_opened(node.operation, keras.tree.flatten(args[0]), names, call)
        return call(node, args, kwargs)

    return replay(model, inputs, step)


def _calls(model):
    """Yields the calls of a graph and of the graphs inside of it, in place of the calls of those."""
    for node in nodes(graph_of(model)) if is_graph(model) else []:
        yield from _calls(node.operation) if is_graph(node.operation) else [node]


def _operations(model):
    """Yields all operations of a graph, and those of the graphs inside of it."""
    for node in nodes(graph_of(model)):
        yield node.operation
        yield from _operations(node.operation) if is_graph(node.operation) else []
