"""Models of one layer, and what all layers of a model cost."""

import keras

from tf_terngrad.sparsity.costs import layer_costs


def total(model, **options):
    return sum(cost.multiply_adds for cost in layer_costs(model, **options))


def of_layer(layer, *shapes):
    """The model of one layer, or of a function of tensors."""
    inputs = [keras.Input(shape) for shape in shapes]
    return keras.Model(inputs, layer(*inputs))
