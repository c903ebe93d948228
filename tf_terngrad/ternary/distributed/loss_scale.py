"""Loss scaling among workers: all of them apply a step, or all of them skip it.

Keras' LossScaleOptimizer skips steps whose gradients are not finite. Around a distributed optimizer it must decide
alike on all workers, or some of them would wait for others forever. Under mixed_float16, `compile` puts it around
optimizers by itself, and nothing but its class knows; so its class is told, once, and serves all others as before.
"""

import keras

from tf_terngrad.keras_internals import put_around
from tf_terngrad.keras_internals import trainable_variables as variables_of

_OPTIMIZER = keras.optimizers.LossScaleOptimizer


def install() -> None:
    """Tell Keras' class of distributed optimizers."""
    put_around(_OPTIMIZER, "apply", _averaging)
    put_around(_OPTIMIZER, "check_finite", _asking_all)


def inner(optimizer):
    """The optimizer in a LossScaleOptimizer; another one itself."""
    return optimizer.inner_optimizer if isinstance(optimizer, _OPTIMIZER) else optimizer


def exchange_of(optimizer):
    """The `Exchange` of a distributed optimizer; None of another one."""
    return getattr(optimizer, "_exchange", None)


def _averaging(apply):
    """Averages first: a gradient that is not finite on one worker is so on all. Unless gradients accumulate."""

    def average_and_apply(optimizer, grads, trainable_variables=None):
        exchange = exchange_of(optimizer.inner_optimizer)
        if exchange is None or exchange.accumulates:
            return apply(optimizer, grads, trainable_variables)
        means = exchange.average(grads, trainable_variables or variables_of(optimizer))
        with exchange.done():
            return apply(optimizer, means, trainable_variables)

    return average_and_apply


def _asking_all(check_finite):
    """Where gradients accumulate they are still this worker's own: it asks the others for theirs."""

    def check_and_ask(optimizer, grads):
        finite = check_finite(optimizer, grads)
        exchange = exchange_of(optimizer.inner_optimizer)
        return finite if exchange is None or exchange.is_done else exchange.everywhere(finite)

    return check_and_ask
