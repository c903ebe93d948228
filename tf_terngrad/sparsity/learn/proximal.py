"""The proximal step of all groups of a model, in the metric of the optimizer that has just moved them."""

import contextlib

from keras import ops

from tf_terngrad.sparsity.learn import metrics
from tf_terngrad.sparsity.learn.pace import Pace, updates_now


class ProximalStep:
    """The minimizer of `sum_i (w_i - u_i)^2 / (2 * rate_i) + strength * sum_g ||w_g||` in place of the weights u.

    Args:
        groups: `Groups`.
        pace: the `Pace` of their variables; None: one that begins.
    """

    def __init__(self, groups, pace=None):
        self._groups = groups
        self._pace = pace or Pace(groups.variables)
        self.variables = self._pace.variables

    def moved(self, groups, old):
        """The step of what stays of the groups in a smaller model; `old`: the variables that theirs were."""
        return ProximalStep(groups, self._pace.moved(groups.variables, old))

    def make(self, strength, optimizer, counting, held, moves, before):
        """Make the step, of the variables that an update moves; none while gradients accumulate.

        Args:
            strength: a scalar tensor.
            optimizer: whose learning rate counts, a Keras optimizer.
            counting: the one that makes the update.
            held: which groups become zero in any case, a Boolean tensor.
            moves: a function of a variable, whether the update moves it; None: it moves all that train.
            before: the weights before the update, by id of a variable; None where nobody knows them.

        Returns:
            the norms of the groups, 0 of those that the step takes to zero.
        """
        pace = self._pace.advance(optimizer, counting, moves or (lambda variable: True))
        found = metrics.metrics_of(optimizer, self._groups.variables, pace)
        strength = ops.where(updates_now(counting), strength, 0.0)
        pulls = {id(metric): strength * metric.rate for metric in found.values()}
        pulls = {key: pulls[id(metric)] for key, metric in found.items()}
        least = {
            id(v): ops.abs(before[id(v)]) - found[id(v)].reach
            for v in self._groups.variables
            if before and found[id(v)].reach is not None
        }
        with self._iterates(found, moves):
            norms = ops.where(held, 0.0, self._groups.norms_after(pulls))
            self._groups.shrink(norms, pulls, least, moves)
        self._groups.silence(norms == 0, {id(v): v for v, _ in self._averaged(found, moves)})
        return norms

    @contextlib.contextmanager
    def _iterates(self, found, moves):
        """Meanwhile the variables that are averages have the values of what they average."""
        averaged = self._averaged(found, moves)
        values = [(variable.value, iterate.variable.value) for variable, iterate in averaged]
        for variable, iterate in averaged:
            variable.assign(iterate.variable)
        yield
        for (variable, iterate), (average, moved) in zip(averaged, values, strict=True):
            iterate.variable.assign(variable)
            share = ops.cast(iterate.share, variable.dtype)
            variable.assign(average + share * (variable.value - moved))

    def _averaged(self, found, moves):
        """The variables that an update moves and that are averages, each with its `Iterate`."""
        pairs = [(variable, found[id(variable)].iterate) for variable in self._groups.variables]
        return [(v, iterate) for v, iterate in pairs if iterate is not None and (moves is None or moves(v))]
