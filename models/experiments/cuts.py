"""Structures that leave without being learned: those of the least score, until a model costs no more than another."""

import keras
import numpy as np

import tf_terngrad as tt
from tf_terngrad.sparsity.costs import layer_costs
from tf_terngrad.sparsity.importance import scored


def cut(model: keras.Model, most: int, scores="norm") -> keras.Model:
    """The largest compact model of at most so many multiply-adds in which the members of the least scores are gone.

    Scores of one structure are divided by their mean, so that a head can be compared with a unit. Each structure keeps
    the member of its largest score; branches stay.

    Args:
        model: it keeps its weights.
        most: multiply-adds for one example.
        scores: "norm", "random", or a function of a structure; see `tt.importance`.

    Raises:
        ValueError: the model costs more even with one member of each structure.
    """
    found = [structure for structure in tt.structures(model) if structure.kind != "branch"]
    members = [(structure, member) for structure in found for member in range(structure.size)]
    order = [members[place] for place in np.argsort(np.concatenate([_ranks(each, scores) for each in found]))]
    weights = model.get_weights()
    enough, too_few = len(order) - len(found), -1
    while enough - too_few > 1:
        middle = (enough + too_few) // 2
        fits = multiply_adds(_without(model, order[:middle], weights)) <= most
        enough, too_few = (middle, too_few) if fits else (enough, middle)
    small = _without(model, order[:enough], weights)
    if multiply_adds(small) > most:
        raise ValueError(f"cut: a member of each structure costs {multiply_adds(small)}. Received: most={most}")
    return small


def multiply_adds(model: keras.Model) -> int:
    """Of a whole model, for one example."""
    return sum(cost.multiply_adds or 0 for cost in layer_costs(model))


def _ranks(structure, scores):
    """A structure's scores over their mean; that of the largest is infinite."""
    values = scored(structure, scores, "cut")
    return np.where(np.arange(structure.size) == values.argmax(), np.inf, values / values.mean())


def _without(model, members, weights):
    """The compact model without these members; the model gets its weights back."""
    for structure in {id(structure): structure for structure, _ in members}.values():
        structure.zero([member for owner, member in members if owner is structure])
    small = tt.compact(model)
    model.set_weights(weights)
    return small
