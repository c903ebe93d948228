"""The learning rate that is in an optimizer's velocity: of this update and, less and less, of those before."""

import keras
import numpy as np
from keras import ops

from tf_terngrad.keras_internals import batches_seen


class Pace:
    """The sum over updates of `momentum^k * learning_rate[t - k]`: how far a steady gradient has a velocity move.

    With a learning rate that stays it is `learning_rate / (1 - momentum)`. Where the rate falls, the velocity still
    holds what came in at the rates before. A step that followed today's rate alone would be too short then: in the last
    updates of a schedule that ends at zero all dead groups would leave zero.

    Args:
        variables: the Keras variables that optimizers move; each has a sum of its own.
    """

    def __init__(self, variables):
        self._variables = variables
        self._sums = keras.Variable(np.zeros(len(variables)), trainable=False, dtype="float32", name="pace")
        self.variables = [self._sums]

    def moved(self, variables, old):
        """The same of other variables; `old`: which of these each of them was."""
        pace, places = Pace(variables), {id(variable): place for place, variable in enumerate(self._variables)}
        pace.variables[0].assign(self._sums.numpy()[[places[id(variable)] for variable in old]])
        return pace

    def advance(self, optimizer, counting, moves):
        """Go on by an update, of the variables that it moves.

        Args:
            optimizer: the one whose learning rate counts.
            counting: the one that makes the update.
            moves: a function of a variable, whether the update moves it.

        Returns:
            the sum, a scalar tensor; it is as it was while gradients accumulate.
        """
        moved = np.array([moves(variable) for variable in self._variables])
        rate = ops.cast(optimizer.learning_rate, "float32")
        momentum = getattr(optimizer, "momentum", 0.0)
        before = self._sums.value[int(moved.argmax())]
        is_first = ops.logical_or(before == 0, ops.cast(counting.iterations, "int32") == 0)
        after = ops.where(is_first, rate / (1 - momentum), momentum * before + rate)
        after = ops.where(updates_now(counting), after, before)
        self._sums.assign(ops.where(moved, after, self._sums.value))
        return after


def updates_now(optimizer):
    """Whether an optimizer moves weights now, a Boolean tensor: False while it accumulates gradients."""
    accumulated = optimizer.gradient_accumulation_steps
    if not accumulated:  # `iterations` counts updates; `batches_seen` counts batches
        return ops.convert_to_tensor(True)
    return (batches_seen(optimizer).value + 1) % accumulated == 0
