"""Multiply-adds: how many a model needs for one example, layer by layer.

Only the products of matrices count: dense, convolutional, recurrent and attention layers. Batch normalization folds
into the layer before it; biases, activations, pooling and element-wise operations are small. All these count zero.
"""

import dataclasses
from collections.abc import Callable, Sequence

import keras
from keras import tree

from tf_terngrad.keras_internals import is_graph
from tf_terngrad.sparsity.graph.open import opened
from tf_terngrad.sparsity.graph.replay import replay
from tf_terngrad.sparsity.graph.stand_in import entering, original
from tf_terngrad.sparsity.rules.registry import cost_for, registered_cost, rule_for


@dataclasses.dataclass
class LayerCost:
    """What one layer costs; a shared layer counts once for each call.

    Args:
        path: its name, after the names of the models and wrappers around it.
        layer: the layer or Keras operation.
        shape: of its first output, for one example; the first axis is the batch.
        multiply_adds: for one example; None when nobody knows.
    """

    path: str
    layer: keras.Operation
    shape: tuple
    multiply_adds: int | None


def layer_costs(model: keras.Model, input_shapes: Sequence | None = None) -> list[LayerCost]:
    """The cost of every layer of a model, in the order of computation.

    A convolution costs Π(output shape) · Π(taps) · inputs / groups; a dense layer Π(output shape) · inputs. A padded
    border counts like the rest, as if the zeros were multiplied.

    Args:
        model: a built model; models and layers of the user's inside it, and wrappers, are opened.
        input_shapes: shapes of one example, without the batch axis, one for each input of the model (for one input, its
            shape alone). Needed when the model leaves a size open, such as `keras.Input((None, None, 3))`.

    Raises:
        TypeError: `model` is no Keras model.
        ValueError: `model` is not built or not a graph of layers, or an input's size is open or does not fit.

    >>> model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Conv2D(20, 5)])
    >>> sum(cost.multiply_adds for cost in layer_costs(model))
    288000
    """
    return by_layer(costly_calls(opened(model), input_shapes))


def by_layer(calls) -> list[LayerCost]:
    """The costs of `CostlyCall`s, summed over those of each layer."""
    rows = {}
    for call in calls:
        row = rows.setdefault(id(call.layer), LayerCost(call.path, call.layer, call.output.shape, 0))
        count = call.multiply_adds()
        row.multiply_adds = None if None in (count, row.multiply_adds) else row.multiply_adds + count
    return list(rows.values())


@dataclasses.dataclass(frozen=True)
class CostlyCall:
    """One call of a layer or operation, on symbolic tensors of an example.

    Args:
        path: as of `LayerCost`.
        layer: the layer or operation.
        times: how often it happens for an example, such as once a step.
        cost: the function that counts its multiply-adds; None: nobody knows them.
        outputs: what it gives.
        args, kwargs: what it is called with.
    """

    path: str
    layer: keras.Operation
    times: int
    cost: Callable | None
    outputs: object
    args: tuple
    kwargs: dict

    @property
    def output(self):
        """The first output."""
        return tree.flatten(self.outputs)[0]

    def multiply_adds(self):
        """For one example, of all times; None when nobody knows."""
        if self.cost is None or not _all_sizes_known((self.outputs, self.args, self.kwargs)):
            return None
        count = self.cost(self.layer, self.output, *self.args, **self.kwargs)
        return None if count is None else self.times * count


def costly_calls(model, input_shapes=None) -> list[CostlyCall]:
    """All calls of an opened model in the order of computation; `input_shapes` as of `layer_costs`."""
    inputs = [
        keras.KerasTensor(shape, tensor.dtype)
        for shape, tensor in zip(example_shapes(model, input_shapes), model.inputs, strict=True)
    ]
    walk = _Walk()
    walk.run(model, inputs, "", 1)
    return walk.calls


class _Walk:
    """Follows shapes through a model and gathers the calls of its layers."""

    def __init__(self):
        self.calls = []

    def run(self, model, inputs, prefix, times):
        """Follow a model that is called `times` times on these inputs."""

        def follow(node, args, kwargs):
            return self.call(node.operation, prefix, times, args, kwargs)

        return replay(model, inputs, follow)

    def call(self, layer, prefix, times, args, kwargs, name=None):
        """Follow a call; one that has a cost is asked, and not opened."""
        path, own = prefix + (name or layer.name), original(layer)
        cost = cost_for(layer) if own is layer else registered_cost(own)
        if cost is None and is_graph(layer):
            tensors = entering(layer, args, kwargs, keras.KerasTensor)
            return self.run(layer, tensors, f"{path}/", times)
        outputs = _outputs(layer, args, kwargs)
        kwargs = {name: value for name, value in kwargs.items() if name != "training" and value is not None}
        parts = rule_for(layer).parts(layer, args, kwargs) if cost is None else None
        if parts is None:
            self.calls.append(CostlyCall(path, layer, times, cost, outputs, args, kwargs))
        for part in parts or ():
            within, known_as = (prefix, path.removeprefix(prefix)) if part.stands_in else (f"{path}/", None)
            self.call(part.layer, within, times * part.times, part.args, part.kwargs, known_as)
        return outputs


def _outputs(layer, args, kwargs):
    """The symbolic outputs of a call."""
    outputs = layer.compute_output_spec(*args, **kwargs)
    if _all_sizes_known(outputs):
        return outputs
    # Some layers, such as EinsumDense((None, 64)), forget sizes that their input has; tracing the call finds them.
    return keras.Operation.compute_output_spec(layer, *args, **kwargs)


def _all_sizes_known(tensors):
    return all(None not in tensor.shape for tensor in tree.flatten(tensors) if isinstance(tensor, keras.KerasTensor))


def example_shapes(model, input_shapes):
    """The shape of each input of the model for a batch of one."""
    if input_shapes is None:
        input_shapes = [tensor.shape[1:] for tensor in model.inputs]
    elif len(input_shapes) == 0 or not isinstance(input_shapes[0], Sequence):
        input_shapes = [input_shapes]
    if len(input_shapes) != len(model.inputs):
        raise ValueError(
            f"Model '{model.name}': expected input_shapes for {len(model.inputs)} inputs. "
            f"Received: input_shapes={input_shapes!r}"
        )
    return [_example_shape(model, *pair) for pair in zip(model.inputs, input_shapes, strict=True)]


def _example_shape(model, tensor, shape):
    known, shape = tensor.shape[1:], tuple(shape)
    if len(shape) != len(known) or any(a not in (None, b) for a, b in zip(known, shape, strict=True)):
        raise ValueError(
            f"Model '{model.name}': input '{tensor.name}' takes examples of shape {known}. "
            f"Received: input_shapes with {shape}"
        )
    if None in shape:
        raise ValueError(
            f"Model '{model.name}': input '{tensor.name}' leaves a size open, and with it the multiply-adds. Say which "
            f"size to count for: input_shapes=[...], without the batch axis. Received: {shape}"
        )
    return (1, *shape)
