"""The groups that a penalty made zero: while it is off they stay zero, whatever an optimizer does to them."""

import keras
import numpy as np
from keras import ops


class Dead:
    """Which of a model's groups have died.

    A group is held if it died while a penalty was on, and if it is zero when an update begins: weights that were loaded
    since then, or set by hand, live.

    Args:
        groups: `Groups`.
    """

    def __init__(self, groups):
        self._groups = groups
        self._died = keras.Variable(np.zeros(groups.count, bool), trainable=False, dtype="bool", name="died")
        self.variables = [self._died]

    def moved(self, groups, stays):
        """The same of what stays of the groups in a smaller model; `stays`: which of them do, a Boolean mask."""
        dead = Dead(groups)
        dead._died.assign(self._died.numpy()[stays])
        return dead

    def now(self):
        """Which groups are zero now, a Boolean tensor of shape (groups,)."""
        return self._groups.squared_norms() == 0

    def hold(self) -> bool:
        """Hold those that are zero now. Returns whether there are any."""
        self._died.assign(self.now())
        return bool(ops.any(self._died.value))

    def note(self, norms, takes):
        """Those whose norm is zero have died, if something makes groups zero now."""
        died = ops.logical_and(norms == 0, takes)
        self._died.assign(ops.logical_or(self._died.value, died))

    def held(self, before, strength):
        """Which groups stay zero in an update.

        Args:
            before: what `now` was before the weights moved; None if nobody knows.
            strength: the penalty's; above zero, none is held, for the penalty does it.
        """
        if before is None:
            return ops.zeros((self._groups.count,), "bool")
        return ops.logical_and(ops.logical_and(before, self._died.value), strength == 0)
