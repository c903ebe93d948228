"""What cannot shrink in the middle of its training, said before anything has changed."""

import inspect
import types

import keras

from tf_terngrad.keras_internals import all_layers, leaves, not_by_weight, unknown_inside
from tf_terngrad.sparsity.learn import hooks
from tf_terngrad.sparsity.shrink import layer_penalties
from tf_terngrad.sparsity.shrink.own_call import own_methods, stays_its_class


def check(model, optimizers) -> None:
    """Refuse a model or an optimizer that cannot shrink while it trains.

    Raises:
        TypeError: for anything but optimizers of Keras.
        ValueError: for the rest; the message says what to do.
    """
    for optimizer in optimizers:
        if not isinstance(optimizer, keras.optimizers.Optimizer):
            raise TypeError(f"reconfigure: expected a keras.optimizers.Optimizer. Received: optimizer={optimizer!r}")
    _check_class(model)
    _check_penalties(model)
    for optimizer in optimizers:
        if optimizer.built:
            check_optimizer(optimizer)
    replicas = model.distribute_strategy.num_replicas_in_sync
    if replicas > 1:
        raise ValueError(
            f"reconfigure: expected a model with one copy in this process. Received: {model.name!r} with {replicas} "
            "replicas of tf.distribute. Train it by tt.distributed.DistributedOptimizer, one process a worker."
        )


def check_optimizer(optimizer) -> None:
    """Refuse an optimizer that keeps what nobody knows how to make smaller."""
    unknown = unknown_inside(optimizer)
    if unknown:
        raise ValueError(
            "reconfigure: expected an optimizer that has no others inside, a LossScaleOptimizer or a MultiOptimizer. "
            f"Received: {optimizer.name!r} ({type(optimizer).__name__}), which holds {unknown[0].name!r} "
            f"({type(unknown[0]).__name__}), and nothing tells for which variables."
        )
    strange = not_by_weight(optimizer)
    if strange:
        raise ValueError(
            "reconfigure: expected an optimizer that keeps a number for each element of a weight, as SGD and Adam do, "
            f"or an Adafactor. Received: {optimizer.name!r} ({type(optimizer).__name__}), which keeps "
            f"{strange[0].path!r} of shape {tuple(strange[0].shape)}."
        )


def _check_class(model):
    """Methods around a `call` of the user's may go by the width of a layer that they use themselves."""
    if not stays_its_class(model):
        return
    holds = {name for name, each in vars(model).items() if any(isinstance(p, keras.layers.Layer) for p in leaves(each))}
    for name in own_methods(model):
        used = sorted(_names_in(type(model), name) & (holds | {"layers", "get_layer"}))
        if used:
            raise ValueError(
                f"reconfigure: {model.name!r} ({type(model).__name__}) has its own `call`, and its own {name} uses "
                f"{used[0]!r} by itself, whose widths would be others there, too. Let {name} call the model only, as "
                "self(x, training=True)."
            )


def _names_in(kind, method):
    """The names of attributes and globals in a method of a class, and in those of its methods that it names."""
    names, queue = set(), [method]
    while queue:
        name = queue.pop()
        owners = [each for each in kind.__mro__ if name in vars(each) and each not in keras.Model.__mro__]
        for found in (vars(each)[name] for each in owners if name != "call"):
            own = _names_of(inspect.unwrap(getattr(found, "fget", None) or getattr(found, "__func__", found)))
            queue += own - names
            names |= own
    return names


def _names_of(function):
    codes = [function.__code__] if hasattr(function, "__code__") else []
    for code in codes:
        codes += [each for each in code.co_consts if isinstance(each, types.CodeType)]
    return {name for code in codes for name in code.co_names}


def _check_penalties(model):
    """A wrapper of this package is gone from a smaller model, and the training would go on without it."""
    for layer in all_layers(model):
        if type(layer).__module__.startswith("tf_terngrad."):
            raise ValueError(
                f"reconfigure: layer {layer.name!r} is a {type(layer).__name__}, which would be an ordinary layer in "
                "the smaller model, and learn no more. Use tt.sparsify, whose penalty goes on, or tt.compact after "
                "the training."
            )
    for variable in model.variables:
        layer_penalties.check(variable, hooks.under(getattr(variable, "regularizer", None)))
