"""NumPy oracles for groups that span variables: sums over the slices of each member of each structure."""

import numpy as np


def members(found):
    """The groups, each a list of (variable, where its weights lie): those that train."""
    for structure in found:
        for member in range(structure.size):
            yield [
                (piece.variable, (*[slice(None)] * piece.axis, piece.indices[member]))
                for piece in structure.penalized
                if piece.variable.trainable
            ]


def values(found):
    """The variables' values in float64, by id."""
    return {id(v): v.numpy().astype(np.float64) for group in members(found) for v, _ in group}


def squared_norm(group, arrays):
    return sum(np.square(arrays[id(variable)][where]).sum() for variable, where in group)


def lasso_and_gradient(found):
    arrays = values(found)
    total, gradients = 0, {key: np.zeros_like(array) for key, array in arrays.items()}
    for group in members(found):
        norm = np.sqrt(squared_norm(group, arrays) + 1e-8)
        total += norm
        for variable, where in group:
            gradients[id(variable)][where] += arrays[id(variable)][where] / norm
    return total, gradients


def shrunk(found, threshold):
    """The variables' values after the proximal step, which finds all norms first."""
    before, after = values(found), values(found)
    for group in members(found):
        norm = np.sqrt(squared_norm(group, before))
        factor = 0 if norm <= threshold else 1 - threshold / norm
        for variable, where in group:
            after[id(variable)][where] *= factor
    return after
