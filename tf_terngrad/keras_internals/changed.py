"""Methods of Keras's classes that the package changes for all objects, or for all calls meanwhile."""

import contextlib
import functools

import keras

CHANGED = {
    (keras.Layer, "add_weight"): "a structured regularizer is told which weight of which layer it is on",
    (
        keras.Model,
        "fit",
    ): "a callback asks for the others; a training in which nothing became zero says so, without any; workers that "
    "wait for one another hear of an error",
    (keras.callbacks.CallbackList, "on_train_begin"): "workers ask one another whether they begin alike, and wait "
    "for one another from here on",
    (keras.callbacks.CallbackList, "on_epoch_begin"): "the function of each step may be another one",
    (
        keras.callbacks.CallbackList,
        "on_epoch_end",
    ): "workers end it together, and stop together",
    (keras.callbacks.CallbackList, "on_train_end"): "weights that a callback puts back become those of all workers",
    (keras.optimizers.Optimizer, "apply"): "hooks on weights ask which update goes on, and Keras tells none of them",
    (keras.optimizers.Optimizer, "save_own_variables"): "momentum of dead groups is not saved: it would revive them",
    (keras.optimizers.LossScaleOptimizer, "apply"): "it scales what the workers have averaged",
    (keras.optimizers.LossScaleOptimizer, "check_finite"): "all workers skip a step, or none of them",
}
"""By class of Keras and name of a public method: why the package puts something around it, once and for all objects."""

_changed = set()


def put_around(kind, name, wrapper) -> None:
    """Put `wrapper(method)` around a method that `CHANGED` lists; the same one a second time does nothing."""
    if (kind, name) not in CHANGED:
        raise KeyError(f"{kind.__name__}.{name} is not in keras_internals.CHANGED. Name it there, with the reason.")
    if (kind, name, wrapper) not in _changed:
        _changed.add((kind, name, wrapper))
        method = getattr(kind, name)
        setattr(kind, name, functools.wraps(method)(wrapper(method)))


@contextlib.contextmanager
def calls_through(through):
    """Let every layer be called by `through(call, layer, args, kwargs)` meanwhile, where `call` is Keras's own."""
    call = keras.Layer.__call__
    keras.Layer.__call__ = lambda layer, *args, **kwargs: through(call, layer, args, kwargs)
    try:
        yield
    finally:
        keras.Layer.__call__ = call
