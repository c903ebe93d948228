"""The state of exchanges: how many there were, which the random bits of the next one depend on."""

import itertools

import tensorflow as tf

FURTHEST = 2**40
"""Exchanges that a state counts before it meets the numbers of the next one."""

_MADE = itertools.count()


class ExchangeState(tf.Module):
    """How many exchanges there were; no two states count the same numbers, so that each draws random bits of its own.

    Use it when a training that was interrupted shall go on as if it had not been: save its variables with the model's,
    and restore them. `tt.distributed.exchange_state` tells whose it is.

    Args:
        first: where to count from; None: from a number of its own, which depends on how many states this process has
            made. It is part of what is restored.

    Attributes:
        step: int64 scalar variable, the number of the last exchange.

    Example:

    ```python
    state = tt.distributed.exchange_state(optimizer)
    tf.train.Checkpoint(model=model, optimizer=optimizer, exchange=state).save("checkpoints/training")
    ```
    """

    def __init__(self, first: int | None = None):
        super().__init__(name="exchange")
        first = next(_MADE) * FURTHEST if first is None else first
        with tf.init_scope():  # a tape may first be used in a graph that is being made
            self.step = tf.Variable(first, dtype=tf.int64, trainable=False, name="terngrad_step")

    def next_step(self) -> tf.Tensor:
        """The number of the next exchange."""
        return self.step.assign_add(1)


_OF_COMPRESSIONS: dict = {}


def state_of(compression) -> ExchangeState:
    """The state of what travels through Horovod's own functions with this compression, or with one that equals it.

    A loop may make the compression anew in each step: equal ones share a state.
    """
    if compression not in _OF_COMPRESSIONS:
        _OF_COMPRESSIONS[compression] = ExchangeState()
    return _OF_COMPRESSIONS[compression]
