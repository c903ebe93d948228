"""Models of one layer, and what all layers of a model cost."""

import keras

from tf_terngrad.sparsity.costs import layer_costs


def total(model, **options):
    return sum(cost.multiply_adds for cost in layer_costs(model, **options))


def shapes(model):
    """The shapes of a model's inputs without the batch; what is open is five."""
    return [[size or 5 for size in tensor.shape[1:]] for tensor in model.inputs]


def of_layer(layer, *shapes):
    """The model of one layer, or of a function of tensors."""
    inputs = [keras.Input(shape) for shape in shapes]
    return keras.Model(inputs, layer(*inputs))
