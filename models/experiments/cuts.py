"""What a model costs, and the model of a cost in which the least important structures are gone."""

import keras

import tf_terngrad as tt
from tf_terngrad.sparsity.costs import layer_costs


def cut(model: keras.Model, most: int, scores="norm") -> keras.Model:
    """The largest compact model of at most so many multiply-adds in which the members of the least scores are gone.

    Args:
        model: it keeps its weights.
        most: multiply-adds for one example.
        scores: as `tt.prune` takes them.

    Raises:
        ValueError: the model costs more even with one member of each structure.
    """
    weights = model.get_weights()
    tt.prune(model, tt.Budget(multiply_adds=most), scores)
    small = tt.compact(model)
    model.set_weights(weights)
    return small


def multiply_adds(model: keras.Model) -> int:
    """Of a whole model, for one example."""
    return sum(cost.multiply_adds or 0 for cost in layer_costs(model))
