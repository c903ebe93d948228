"""The parameters of a model: numbers in all its variables."""

import numpy as np

from tf_terngrad.sparsity.costs.resources import Resource, term


def terms(sizes):
    """A `Term` for each variable."""
    return [_term(sizes, variable, axes) for variable, axes in zip(sizes.model.weights, sizes.variables, strict=True)]


def _term(sizes, variable, axes):
    return term(sizes, [axes], [variable], lambda shares: int(np.prod(axes.shape(sizes.lengths, shares))))


PARAMETERS = Resource("parameters", terms, lambda number: f"{number:,.0f} parameters")
