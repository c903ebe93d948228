"""Loss scaling among workers: all of them apply a step, or all of them skip it.

Keras' LossScaleOptimizer skips steps whose gradients are not finite. Around a distributed optimizer it must decide
alike on all workers, or some of them would wait for others forever. Under mixed_float16, `compile` puts it around
optimizers by itself, and nothing but its class knows; so its class is told, once, and serves all others as before.
"""

import keras

from tf_terngrad import keras_internals

_OPTIMIZER = keras.optimizers.LossScaleOptimizer
_KERAS_APPLY = _OPTIMIZER.apply
_KERAS_CHECK = _OPTIMIZER.check_finite


def install() -> None:
    """Tell Keras' class of distributed optimizers."""
    _OPTIMIZER.apply = _apply
    _OPTIMIZER.check_finite = _check_finite


def inner(optimizer):
    """The optimizer in a LossScaleOptimizer; another one itself."""
    return optimizer.inner_optimizer if isinstance(optimizer, _OPTIMIZER) else optimizer


def exchange_of(optimizer):
    """The `Exchange` of a distributed optimizer; None of another one."""
    return getattr(optimizer, "_exchange", None)


def _apply(self, grads, trainable_variables=None):
    """Averages first: a gradient that is not finite on one worker is so on all. Unless gradients accumulate."""
    exchange = exchange_of(self.inner_optimizer)
    if exchange is None or exchange.accumulates:
        return _KERAS_APPLY(self, grads, trainable_variables)
    means = exchange.average(grads, trainable_variables or keras_internals.trainable_variables(self))
    with exchange.done():
        return _KERAS_APPLY(self, means, trainable_variables)


def _check_finite(self, grads):
    """Where gradients accumulate they are still this worker's own: it asks the others for theirs."""
    finite = _KERAS_CHECK(self, grads)
    exchange = exchange_of(self.inner_optimizer)
    return finite if exchange is None or exchange.is_done else exchange.everywhere(finite)
