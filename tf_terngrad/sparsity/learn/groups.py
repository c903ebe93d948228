"""The members of many structures as groups of weights: their norms, and the step that shrinks them, as tensors.

What a group costs or how far it shrinks is in penalties; when it shrinks is in hooks.
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
        sums = [vector for variable, views in self._views.values() for vector in _axis_sums(variable, views)]
        sums.append(ops.zeros((1,)))  # there may be no others
        return ops.segment_sum(ops.concatenate(sums), self._segments, num_segments=self.count + 1)[: self.count]

    def scale(self, factors, chosen=None):
        """Multiply each group by its factor; where groups of two axes cross, a weight is multiplied by both.

        Variables that do not train keep their values.

        Args:
            factors: tensor of shape (count,).
            chosen: a function of a variable, whether it is multiplied; None: all that train are.
        """
        factors = ops.append(factors, ops.ones((1,), factors.dtype))
        for variable, views in self._views.values():
            if chosen and not chosen(variable):
                continue
            value = variable.value
            for axis, ids in views:
                shape = [-1 if other == axis else 1 for other in range(len(variable.shape))]
                value = value * ops.reshape(ops.cast(ops.take(factors, ids), value.dtype), shape)
            variable.assign(value)


def _axis_sums(variable, views):
    """The sums of squares along each view's axis, the shared reductions done once."""
    axes = sorted({axis for axis, _ in views})
    sums = penalties.squared_sums(variable.value, axes)
    for axis, _ in views:
        others = [i for i, other in enumerate(axes) if other != axis]
        yield ops.sum(sums, axis=others) if others else sums
