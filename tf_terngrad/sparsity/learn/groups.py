"""The members of many structures as groups of weights: their norms, and the step that shrinks them, as tensors.

What a group costs or how far it shrinks is in penalties and metrics; when it shrinks is in hooks.
"""

import numpy as np
from keras import ops

from tf_terngrad.sparsity.learn import penalties


class Groups:
    """Groups that span several variables, one for each member of each structure.

    Only what can move counts, as it is at each call: variables that do not train are in no group, and members that
    training cannot take out have no weights here.

    The square of a variable is summed once down to the axes that its groups lie along, then along each of them; one
    segment sum over all these vectors gives the squared norms of all groups of the model.

    Args:
        structures: a list of `Structure`.

    Attributes:
        count: how many groups there are.
        variables: the variables that hold a group, in the order of the model.
    """

    def __init__(self, structures):
        self.count = sum(structure.size for structure in structures)
        self._structures = structures
        self._places = {}
        first = 0
        for structure in structures:
            for piece in structure.penalized:
                self._add(piece, np.arange(first, first + structure.size))
            first += structure.size
        self.variables = [variable for variable, _ in self._places.values()]

    def _add(self, piece, groups):
        """Enter a slice into a view of its axis, a new one if another group already lies at its positions."""
        variable, views = self._places.setdefault(id(piece.variable), (piece.variable, []))
        for axis, ids in views:
            if axis == piece.axis and (ids[piece.indices] == self.count).all():
                break
        else:
            ids = np.full(variable.shape[piece.axis], self.count, np.int32)
            views.append((piece.axis, ids))
        ids[piece.indices] = groups[:, None]

    def can_move(self):
        """Which groups training can make zero, a Boolean array of shape (count,)."""
        return np.repeat([not structure.fixed for structure in self._structures], [s.size for s in self._structures])

    @property
    def _views(self):
        """By id of a variable that trains: the variable, and for each axis with groups the group of each position."""
        group = np.where(np.append(self.can_move(), False), np.arange(self.count + 1), self.count)
        return {
            key: (variable, [(axis, group[ids]) for axis, ids in views])
            for key, (variable, views) in self._places.items()
            if variable.trainable
        }

    @property
    def _segments(self):
        """The group of each number that is summed: those of all views, and a zero that is in no group."""
        return np.concatenate([*(ids for _, views in self._views.values() for _, ids in views), [self.count]])

    def squared_norms(self):
        """The squared Euclidean norm of each group, shape (count,), at least float32."""
        return self._summed(
            vector for variable, views in self._views.values() for vector in _axis_sums(variable, views)
        )

    def norms_after(self, pulls):
        """The norms of the groups after a proximal step in a diagonal metric, shape (count,); it is not made yet.

        Args:
            pulls: by id of a variable, strength times the optimizer's rate: a scalar tensor, or one of its shape.
        """
        norms = self.squared_norms()
        pull, *others = {id(pull): pull for pull in pulls.values()}.values()
        if not others and not len(pull.shape):
            return penalties.shorter(norms, ops.cast(pull, norms.dtype))
        pulls = {key: ops.cast(pull, norms.dtype) for key, pull in pulls.items()}
        values = {key: ops.cast(variable.value, norms.dtype) for key, (variable, _) in self._views.items()}

        def sums(norms):
            squares, cubes, norms = [], [], _with_outside(norms + penalties.TINY)
            for key, (variable, views) in self._views.items():
                for axis, ids in views:
                    inverse = 1 / (_along(norms, axis, ids, variable) + pulls[key])
                    square = ops.square(values[key] * inverse)
                    squares.append(_sum_along(square, axis))
                    cubes.append(_sum_along(square * inverse, axis))
            return self._summed(squares), self._summed(cubes)

        return penalties.proximal_norms(norms, sums)

    def scale(self, factors, chosen=None):
        """Multiply each group by its factor; where groups of two axes cross, a weight is multiplied by both.

        Variables that do not train keep their values.

        Args:
            factors: tensor of shape (count,).
            chosen: a function of a variable, whether it is multiplied; None: all that train are.
        """
        factors = _with_outside(factors, 1)
        self._multiply(lambda variable, axis, ids: _along(factors, axis, ids, variable), chosen)

    def shrink(self, norms, pulls, least, chosen=None):
        """Make the proximal step in a diagonal metric: `w = u * max(r / (r + pull), least / |u|)`.

        Args:
            norms: `r`, tensor of shape (count,), see `norms_after`.
            pulls: by id of a variable, strength times rate.
            least: by id of a variable, the magnitudes below which its weights are not pulled; some may have none.
            chosen: a function of a variable, whether it shrinks; None: all that train do.
        """
        norms = _with_outside(norms)

        def factor(variable, axis, ids):
            along = _along(norms, axis, ids, variable)
            whole = along / (along + ops.cast(pulls[id(variable)], norms.dtype) + penalties.TINY)
            if id(variable) not in least:
                return whole
            sizes = ops.abs(ops.cast(variable.value, norms.dtype)) + penalties.TINY
            return ops.maximum(whole, ops.minimum(ops.cast(least[id(variable)], norms.dtype) / sizes, 1.0))

        self._multiply(factor, chosen)

    def zero_small(self, threshold, chosen=None):
        """Make weights of less than a threshold zero, whatever group they are in."""
        for variable in self.variables:
            if variable.trainable and (chosen is None or chosen(variable)):
                variable.assign(penalties.zero_small(variable.value, threshold))

    def silence(self, dead, copies):
        """Make other variables zero where the dead groups lie in those that they belong to.

        Args:
            dead: Boolean tensor of shape (count,).
            copies: by id of a variable, another one of its shape.
        """
        alive = _with_outside(ops.where(dead, 0.0, 1.0), 1)
        for key, (variable, views) in self._views.items():
            if key not in copies:
                continue
            copy = copies[key]
            value = copy.value
            for axis, ids in views:
                value = value * ops.cast(_along(alive, axis, ids, variable), value.dtype)
            copy.assign(value)

    def _multiply(self, factor, chosen):
        """Multiply each variable by the factors of its views, which are found before it changes."""
        for variable, views in self._views.values():
            if chosen and not chosen(variable):
                continue
            value = variable.value
            for each in [factor(variable, axis, ids) for axis, ids in views]:
                value = value * ops.cast(each, value.dtype)
            variable.assign(value)

    def _summed(self, vectors):
        """The sums over each group of vectors along the axes of all views, shape (count,)."""
        vectors = [*vectors, ops.zeros((1,))]  # there may be no others
        return ops.segment_sum(ops.concatenate(vectors), self._segments, num_segments=self.count + 1)[: self.count]


def _with_outside(values, outside=1e30):
    """The groups' values, and one more for positions that are in no group; a norm so large is not changed by a step."""
    return ops.append(values, ops.full((1,), outside, values.dtype))


def _along(values, axis, ids, variable):
    """The value of each position's group along one axis of a variable."""
    shape = [-1 if other == axis else 1 for other in range(len(variable.shape))]
    return ops.reshape(ops.take(values, ids), shape)


def _sum_along(values, axis):
    return ops.sum(values, axis=[other for other in range(len(values.shape)) if other != axis])


def _axis_sums(variable, views):
    """The sums of squares along each view's axis, the shared reductions done once."""
    axes = sorted({axis for axis, _ in views})
    sums = penalties.squared_sums(variable.value, axes)
    for axis, _ in views:
        others = [i for i, other in enumerate(axes) if other != axis]
        yield ops.sum(sums, axis=others) if others else sums
