"""Models of one layer, random models of all kinds, and what all layers of a model cost."""

import composite_graphs
import graphs
import keras
import pytest
import recurrent_graphs
import transformer_graphs

from tf_terngrad.sparsity.costs import layer_costs

GRAPHS = {
    "stock": graphs,
    "composites": composite_graphs,
    "recurrent": recurrent_graphs,
    "transformers": transformer_graphs,
}
NOTES = [
    pytest.mark.filterwarnings("ignore:.*every channel is dead"),
    pytest.mark.filterwarnings("ignore:.*one dead channel is kept"),
    pytest.mark.filterwarnings("ignore:.*does not support masking"),
    pytest.mark.filterwarnings("ignore:`build..` was called on layer"),
]
"""Marks of tests in which such models may warn of what they are meant to be."""


def total(model, **options):
    return sum(cost.multiply_adds for cost in layer_costs(model, **options))


def shapes(model):
    """The shapes of a model's inputs without the batch; what is open is five."""
    return [[size or 5 for size in tensor.shape[1:]] for tensor in model.inputs]


def of_layer(layer, *shapes):
    """The model of one layer, or of a function of tensors."""
    inputs = [keras.Input(shape) for shape in shapes]
    return keras.Model(inputs, layer(*inputs))
