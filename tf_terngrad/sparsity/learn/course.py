"""The course of a training under a budget: dense at first, then members leave, then what is left trains on."""

import dataclasses
import math

import keras
import numpy as np
from keras import ops

from tf_terngrad import checks
from tf_terngrad.sparsity.learn import replicas

STEPS = 200
"""In how many steps members leave at most."""


@dataclasses.dataclass(frozen=True)
class BudgetSchedule:
    """When members leave in a training under a budget.

    Use it when the default does not suit: a pretrained model needs no dense beginning, a loop of your own has to say
    how many updates there will be.

    At update t of T a resource may cost `limit + (whole - limit) * (1 - p)^3`, where p goes from 0 at `begin * T` to 1
    at `end * T`: many leave early, while the rest can still take over, and the last ones slowly.

    Args:
        begin: the share of the training that is dense, in [0, 1).
        end: the share of the training after which the budget is met, above `begin`, at most 1; fine-tuning follows.
        updates: how many updates of the optimizer the training has; by default those of the first `fit`.

    Raises:
        TypeError: a share is no number, or `updates` no integer.
        ValueError: a number out of range.

    Source: the cubic course is that of Zhu and Gupta, To prune, or not to prune, 2017.

    >>> BudgetSchedule(begin=0, end=0.5, updates=1000).end
    0.5
    """

    begin: float = 0.1
    end: float = 0.6
    updates: int | None = None

    def __post_init__(self):
        begin = checks.number(self.begin, "begin", "BudgetSchedule", below=1)
        end = checks.number(self.end, "end", "BudgetSchedule")
        if not begin < end <= 1:
            raise ValueError(checks.refusal("BudgetSchedule", "end", f"above begin={begin:g} and at most 1", self.end))
        if self.updates is not None:
            checks.integer(self.updates, "updates", "BudgetSchedule", least=2)


class Step:
    """What has moved in this step of a training, in which each of several optimizers may move a part of the weights.

    A step begins where weights move that have moved in it already.

    Args:
        count: how many weights there are.
    """

    def __init__(self, count):
        self.moved = keras.Variable(np.zeros(count, bool), trainable=False, dtype="bool", name="moved")

    def begins(self, moves, updates_now):
        """Whether one begins with this update, a scalar tensor.

        Args:
            moves: which of the weights move, a Boolean array.
            updates_now: whether they do now, a Boolean tensor; none does while gradients accumulate.
        """
        moved = self.moved.value
        begins = ops.logical_or(ops.any(ops.logical_and(moved, moves)), ops.logical_not(ops.any(moved)))
        so_far = ops.logical_or(ops.logical_and(moved, ops.logical_not(begins)), moves)
        self.moved.assign(ops.where(updates_now, so_far, moved))
        return ops.logical_and(begins, updates_now)


class Course:
    """Where a training is in its schedule, in variables.

    Args:
        schedule: a `BudgetSchedule`.

    Attributes:
        variables: what goes on from update to update.
        updates: how many there will be; None: nobody knows yet.
    """

    def __init__(self, schedule):
        self.schedule, self.updates = schedule, None
        self._seen, self._first, self._last = (
            keras.Variable(0, trainable=False, dtype="int32", name=name) for name in ("seen", "first", "last")
        )
        self.variables = [self._seen, self._first, self._last]
        if schedule.updates is not None:
            self.plan(schedule.updates)

    def plan(self, updates, seen=0):
        """Say how many updates there will be, and how many there were."""
        self.updates = updates
        self._seen.assign(seen)
        self._first.assign(round(updates * self.schedule.begin))
        self._last.assign(max(round(updates * self.schedule.end), int(self._first.numpy()) + 1))

    def advance(self, updates_now):
        """Go on by an update.

        Args:
            updates_now: whether one is made, a Boolean tensor; see `Step.begins`.

        Returns:
            whether members may leave now, and the share of what has to leave that may still stay, from 1 to 0: scalar
            tensors.
        """
        if self.updates is None:
            raise ValueError(
                "sparsify(budget=...) takes the number of updates from `fit`; a loop of your own has to say it: "
                "schedule=tt.BudgetSchedule(updates=...), epochs times batches of an epoch."
            )
        first, last = self._first.value, self._last.value
        seen = self._seen.value + ops.cast(ops.logical_and(updates_now, replicas.counts(self._seen)), "int32")
        self._seen.assign(seen)
        every = ops.maximum((last - first) // STEPS, 1)
        on_time = ops.logical_or((seen - first) % every == 0, seen == last)
        begun, over = seen > first, seen > last
        due = ops.logical_and(ops.logical_and(begun, on_time), ops.logical_and(updates_now, ops.logical_not(over)))
        left = 1 - ops.cast(seen - first, "float32") / ops.cast(last - first, "float32")
        return due, ops.clip(left, 0.0, 1.0) ** 3

    def wait(self):
        """Let all members stay until there is a plan: how many batches an epoch has shows when the first one ends."""
        self.updates = math.inf
        for bound in (self._first, self._last):
            bound.assign(np.iinfo(np.int32).max)

    @property
    def is_open(self):
        """Whether a `fit` has to say when it will be over: it did not begin, or did not come to its end."""
        return self.schedule.updates is None and not self.is_over

    @property
    def is_over(self):
        """Whether the budget has to be met by now."""
        return self.updates is not None and int(self._seen.numpy()) >= int(self._last.numpy())

    def __str__(self):
        return (
            f"dense until update {int(self._first.numpy()):,}, members leave until update {int(self._last.numpy()):,}"
        )


def whole(count):
    """The nearest whole number of updates, at least two: one without a member less, and one with all."""
    return max(int(np.round(count)), 2)
