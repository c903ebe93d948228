"""What leaves while a model trains under a budget, and when."""

import numpy as np
import tensorflow as tf
from keras import ops

from tf_terngrad.sparsity.costs import RESOURCES
from tf_terngrad.sparsity.costs import costs as costs_of
from tf_terngrad.sparsity.learn.course import Course, Step
from tf_terngrad.sparsity.learn.pace import updates_now
from tf_terngrad.sparsity.learn.selection import Selection
from tf_terngrad.sparsity.rounding import allowed_widths


class Budgeted:
    """Brings a model within a budget in the course of a training.

    Members leave by their norms, as `Selection` says; of each structure but branches one stays.

    Args:
        model: the model.
        chosen: the structures whose members may leave.
        budget: a `Budget`.
        schedule: a `BudgetSchedule`.
        round_to: which widths structures may end at, as `allowed_widths` says.
        input_shapes: as `tt.costs` takes them.

    Raises:
        ValueError: the budget cannot be met.

    Attributes:
        course: the `Course` of the training.
    """

    def __init__(self, model, chosen, budget, schedule, round_to=1, input_shapes=None):
        self.budget, self.course = budget, Course(schedule)
        self._living, self._costs = {each.name: each for each in chosen}, costs_of(model, input_shapes)
        self._limits = budget.limits(self._costs)
        self._breadths = np.repeat([each.breadth for each in chosen], [each.size for each in chosen]).astype(np.float32)
        self._least = {each.name: each.least for each in chosen}
        allowed = allowed_widths(round_to, chosen, self._costs)
        least = {each.name: int(own[0]) for each, own in zip(chosen, allowed, strict=True) if not each.fixed}
        budget.check(self._costs.of(least), self._costs, "sparsify", round_to)
        self._members = np.arange(sum(structure.size for structure in chosen))
        self._there = self._members  # those that are still in the model; the others count as zero
        selection = Selection.under(self._limits, self._costs, chosen, widths=allowed)
        self._leaving = tf.function(selection.leaving)  # many small steps, eagerly slow
        self._step = None

    @property
    def variables(self):
        """What goes on from update to update."""
        return [*self.course.variables, self._step.moved]

    def begin(self, count):
        """Say how many weights there are that updates move."""
        self._step = Step(count)

    def leaving(self, squared_norms, can_move, optimizer, moves):
        """Which members leave in this update, a Boolean tensor of shape (members,).

        Args:
            squared_norms: of all members that are in the model, shape (members,).
            can_move: whether training can take a member out, a Boolean array.
            optimizer: the one that makes the update.
            moves: which of the weights it moves, a Boolean array.
        """
        due, left = self.course.advance(self._step.begins(moves, updates_now(optimizer)))
        norms = ops.scatter(self._there[:, None], ops.sqrt(ops.cast(squared_norms, "float32")), self._members.shape)
        can_move = np.isin(self._members, self._there[~can_move], invert=True)
        scores = ops.where(can_move, norms / self._breadths, float("inf"))
        limits = [limit + (self._whole(name) - limit) * left for name, limit in self._limits.items()]
        last = np.array(list(self._limits.values()), np.float32)
        leaving = ops.cond(
            due,
            lambda: self._leaving(scores, ops.stack(limits), last),
            lambda: ops.zeros(self._members.shape, "bool"),
        )
        return ops.take(leaving, self._there)

    def move(self, moved, stays):
        """Go on when members have left the model.

        Args:
            moved: what has become of structures, None where nothing is left, by name.
            stays: which of the members that were in the model stay, a Boolean array.
        """
        self._living |= moved
        self._there = self._there[stays]

    def costs(self):
        """What the model would cost now without the members that are zero."""
        living = {name: int((each.norms() != 0).sum()) if each else 0 for name, each in self._living.items()}
        return self._costs.of({name: max(count, self._least[name]) for name, count in living.items()})

    @property
    def is_met(self):
        """Whether the model without its dead members is within the budget."""
        return self.budget.allows(self.costs(), self._costs)

    def missed(self):
        """A sentence about a training that ended before the budget was met; nothing if it is met."""
        if self.is_met:
            return ""
        return (
            f"tt.sparsify: this training ended before its budget was met: the model costs "
            f"{self.costs().in_words(self._limits)}, where {self._limits_in_words()} were asked for. Train on with a "
            "further `fit`, or take the rest at once with tt.prune(model, budget)."
        )

    def planned(self, epochs):
        """A sentence about what will happen when."""
        return (
            f"tt.sparsify: {self.course.updates:,} updates{epochs}: {self.course}; then what is left trains on, "
            f"at most {self._limits_in_words()}."
        )

    def _limits_in_words(self):
        parts = [(RESOURCES[name].amount(limit), limit / self._whole(name)) for name, limit in self._limits.items()]
        return " and ".join(f"{amount} ({share:.0%})" for amount, share in parts)

    def _whole(self, name):
        return float(getattr(self._costs, name))
