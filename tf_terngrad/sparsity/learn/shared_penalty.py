"""One penalty over several weights of one layer, through the regularizers of each: what the wrappers are made of.

Groups that span several layers are in groups.
"""

import keras
from keras import ops


def penalize_together(weights, penalty):
    """Adds `penalty(those of the weights that train)` to the losses, as long as one of them trains.

    Args:
        weights: Keras variables.
        penalty: Function from a list of variables to a scalar tensor.
    """
    for weight in weights:
        weight.regularizer = SharedPenalty(weight, weights, penalty, weight.regularizer)


class SharedPenalty(keras.regularizers.Regularizer):
    """One penalty over several weights, the regularizer of each, counted on the first that trains.

    A regularizer counts once however often the layer is called, and before the first call; a loss added in `call`
    would count once per call of a shared layer.
    """

    def __init__(self, weight, weights, penalty, own):
        self.weight = weight
        self.weights = weights
        self.penalty = penalty
        self.own = own

    def __call__(self, value):
        training = [weight for weight in self.weights if weight.trainable]
        shared = self.penalty(training) if training and training[0] is self.weight else ops.zeros(())
        return shared if self.own is None else ops.add(shared, self.own(value))
