"""Queries that all examples share, such as the latents of a Perceiver: Keras takes what they give for one example."""

import keras
from keras import ops, tree

from tf_terngrad.keras_internals import all_layers
from tf_terngrad.sparsity.graph.symbolic import tensors_of


def one_for_each(layer, args, kwargs):
    """The arguments of a call, in which `Attention` gets shared queries once for each example.

    `Attention` computes them for each example anyway, but says that its output has the batch of the queries.
    """
    examples = next((tensor for tensor in tensors_of((args, kwargs)) if tensor.shape[:1] != (1,)), None)
    if examples is None or not _attends(layer):
        return args, kwargs
    return tree.map_structure(lambda value: _spread(value, examples) if _is_shared(value) else value, (args, kwargs))


def _attends(layer):
    return any(isinstance(each, keras.layers.Attention) for each in all_layers(layer))


def _is_shared(value):
    return isinstance(value, keras.KerasTensor) and value.shape[:1] == (1,)


def _spread(tensor, examples):
    zeros = ops.sum(ops.zeros_like(examples, dtype="int32"), axis=tuple(range(1, len(examples.shape))))
    return tensor + ops.cast(ops.reshape(zeros, (-1, *[1] * (len(tensor.shape) - 1))), tensor.dtype)
