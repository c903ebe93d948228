"""How far each optimizer moves a weight for a gradient: the metric in which a proximal step has to be made.

One function an optimizer; the step itself is in penalties and groups.
"""

import dataclasses
import math
import warnings

import keras
from keras import ops

from tf_terngrad.keras_internals import muon_step, slots
from tf_terngrad.sparsity.learn.penalties import TINY


@dataclasses.dataclass(frozen=True)
class Metric:
    """How an optimizer scales the gradient of one variable: a steady gradient `g` moves a weight by `-rate * g`.

    Use it when you write a metric for an optimizer of your own, see `tt.register_metric`.

    The proximal step minimizes `(w - u)^2 / (2 * rate)` beside the penalty, so at rest `g = -strength * w / ||w||`
    whatever the rate is: the strength means the same under every optimizer.

    Args:
        rate: a scalar tensor, or one of the variable's shape; 0 or more.
        reach: how far an update takes a weight towards zero at most, scalar or like `rate`. For optimizers that
            divide by the gradient's size it is their step, for where there was no gradient the rate is huge. None: no
            bound.
        iterate: the `Iterate` of an optimizer whose gradients move another variable than the model's; None: they move
            the model's.

    Source: Yun et al., Adaptive proximal gradient methods for structured neural networks, 2021.
    """

    rate: object
    reach: object = None
    iterate: object = None


@dataclasses.dataclass(frozen=True)
class Iterate:
    """The variable that an optimizer's gradients move, where the model's own is an average of such.

    Use it when you write the `tt.Metric` of an optimizer that averages by itself: the proximal step is made where the
    gradients' is, and a group that becomes zero there is zero in the model and in the average, too.

    Args:
        variable: the optimizer's variable, of the shape of the model's.
        share: how far the model's variable moves when this one moves by 1.

    Source: Defazio et al., The road less scheduled, 2024, for the averages.
    """

    variable: object
    share: object


_METRICS = {}


def register_metric(optimizer, metric):
    """Say how an optimizer of your own scales gradients, so that `tt.sparsify` means the same by a strength under it.

    Use it when you train with an optimizer that Keras does not have, and that does more than SGD with momentum.

    Args:
        optimizer: a class of `keras.optimizers.Optimizer`. Its subclasses are served too, if they have its
            `update_step`.
        metric: a function of the optimizer and of `slot`, which gives a `Metric`; `slot(name)` is the tensor that the
            optimizer made for the variable by `add_optimizer_variables(variables, name)`, after the update.

    Raises:
        TypeError: `optimizer` is no class of optimizers, or `metric` no function.

    >>> class Normalized(keras.optimizers.Adagrad):
    ...     def update_step(self, gradient, variable, learning_rate):
    ...         ...
    >>> register_metric(Normalized, lambda optimizer, slot: Metric(optimizer.learning_rate / slot("accumulator")))
    """
    if not (isinstance(optimizer, type) and issubclass(optimizer, keras.optimizers.Optimizer)):
        raise TypeError(f"register_metric: expected a class of keras.optimizers.Optimizer. Received: {optimizer!r}")
    if not callable(metric):
        raise TypeError(f"register_metric: expected `metric` to be a function. Received: metric={metric!r}")
    _METRICS[optimizer] = metric


def find_metric(optimizer):
    """The metric's function of an optimizer, of the first of its classes that makes its updates; None: unknown."""
    update = type(optimizer).update_step
    return next((_METRICS[c] for c in type(optimizer).__mro__ if c in _METRICS and c.update_step is update), None)


def metrics_of(optimizer, variables, summed_rate) -> dict:
    """The metric of each variable by id, after an update of the optimizer.

    What another optimizer moves, or none, counts as if it moved at the mean rate of the rest: a group that lies in the
    hands of two optimizers becomes zero as a whole.

    Args:
        optimizer: the optimizer that made it.
        variables: the Keras variables that hold groups.
        summed_rate: the learning rate that is in its velocity, see pace.
    """
    function = find_metric(optimizer) or _steady
    known = [] if function is _steady else slots(optimizer, variables)
    metrics = {id(variable): function(optimizer, Kept(slot, summed_rate)) for variable, slot in known}
    rest = Metric(_mean_rate(metrics, variables) if metrics else summed_rate)
    return {id(variable): metrics.get(id(variable), rest) for variable in variables}


@dataclasses.dataclass(frozen=True)
class Kept:
    """What an optimizer keeps for one variable; called with a name, the tensor that it made under that name.

    Attributes:
        summed_rate: the learning rate, with a momentum that of earlier updates too: the sum of
            `momentum^k * learning_rate[t - k]`.
    """

    slots: object
    summed_rate: object

    def __call__(self, name=None):
        """The tensor after the update, float32; None: the variable's own."""
        return self.slots(name)

    def find(self, name):
        """The optimizer's variable of this name; None: there is none."""
        return self.slots.find(name)


def _mean_rate(metrics, variables):
    """The harmonic mean of the rates of all weights."""
    known = [(math.prod(v.shape), metrics[id(v)].rate) for v in variables if id(v) in metrics]
    return sum(size for size, _ in known) / sum(size * ops.mean(1 / rate) for size, rate in known)


def warn_of_unknown(optimizer):
    """Say that the step follows the learning rate alone."""
    if find_metric(optimizer) is None:
        warnings.warn(
            f"sparsify: how {type(optimizer).__name__} scales gradients is not known, so the proximal step follows its "
            "learning rate alone, and a strength means another thing than under SGD or Adam. Describe it with "
            "tt.register_metric.",
            stacklevel=2,
        )


def _rate(optimizer):
    return ops.cast(optimizer.learning_rate, "float32")


def _count(optimizer):
    return ops.cast(optimizer.iterations + 1, "float32")


def _corrected(average, decay, optimizer):
    """What an average that began at zero would be with its weights' sum made one."""
    return average / (1 - ops.power(ops.cast(decay, "float32"), _count(optimizer)))


def _normalized(rate, size):
    """The metric of `u = w - rate * m / size`, where the size is that of the gradients of which m is the average."""
    return Metric(rate / size, rate)


def _steady(optimizer, slot):
    """SGD: the velocity of a steady gradient is its sum, 1 + momentum + momentum^2 + ..."""
    return Metric(slot.summed_rate)


def _adam(optimizer, slot, rate=None, beta_2=None):
    beta_2 = optimizer.beta_2 if beta_2 is None else beta_2
    velocity = slot("velocity_hat" if getattr(optimizer, "amsgrad", False) else "velocity")
    size = ops.sqrt(velocity) + optimizer.epsilon
    scale = ops.sqrt(1 - ops.power(ops.cast(beta_2, "float32"), _count(optimizer)))  # Keras adds epsilon before it
    # While few gradients were seen, the size of a weight's is a guess, and its pull may be many times too large: no
    # weight then comes near zero faster than the average becomes known. At the optimum, and at zero, no reach matters.
    rate = _rate(optimizer) if rate is None else rate
    return Metric(rate * scale / size, rate * ops.square(scale))


def _schedule_free(optimizer, slot):
    """Adam without a velocity, at the iterate; the model's weights are between it and the mean of all iterates."""
    warm_up = ops.minimum(_count(optimizer) / optimizer.warmup_steps, 1.0) if optimizer.warmup_steps else 1.0
    adam = _adam(optimizer, slot, _rate(optimizer) * warm_up)
    share = 1 - optimizer.beta_1 + optimizer.beta_1 / _count(optimizer)
    return dataclasses.replace(adam, iterate=Iterate(slot.find("momentum"), share))


def _nadam(optimizer, slot):
    size = ops.sqrt(_corrected(slot("velocity"), optimizer.beta_2, optimizer)) + optimizer.epsilon
    return _normalized(_rate(optimizer), size)


def _adamax(optimizer, slot):
    return _normalized(_rate(optimizer), slot("norm") + optimizer.epsilon)


def _rmsprop(optimizer, slot):
    if optimizer.centered:  # steps are as long as they like: they are divided by the deviation, not by the size
        variance = slot("velocity") - ops.square(slot("average_gradient"))
        return Metric(slot.summed_rate / ops.sqrt(variance + optimizer.epsilon))
    size = ops.sqrt(slot("velocity") + optimizer.epsilon)
    return _normalized(slot.summed_rate, size)


def _adagrad(optimizer, slot):
    return Metric(_rate(optimizer) / ops.sqrt(slot("accumulator") + optimizer.epsilon))


def _adadelta(optimizer, slot):
    moved, seen = slot("accumulated_delta_var"), slot("accumulated_grad")
    return Metric(_rate(optimizer) * ops.sqrt((moved + optimizer.epsilon) / (seen + optimizer.epsilon)))


def _ftrl(optimizer, slot):
    """It makes the weights anew from the sum of all gradients, so the strength has to count as often as they do."""
    rate = _rate(optimizer)
    l2 = optimizer.l2_regularization_strength + optimizer.beta / (2 * rate)
    quadratic = ops.power(slot("accumulator"), -optimizer.learning_rate_power) / rate + 2 * l2
    return Metric(_count(optimizer) / quadratic)


def _lamb(optimizer, slot):
    """Adam whose step is as long as the layer's weights; a layer that was zero before takes Adam's."""
    size = ops.sqrt(_corrected(slot("velocity"), optimizer.beta_2, optimizer)) + optimizer.epsilon
    step = _corrected(slot("momentum"), optimizer.beta_1, optimizer) / size
    long, weights, rate = _length(step), slot(), _rate(optimizer)
    was_zero = _length(weights + rate * step) <= 1e-3 * _length(weights)
    ratio = ops.where(ops.logical_or(was_zero, long == 0), 1.0, _length(weights) / ops.maximum(long, TINY))
    return _normalized(rate * ratio, size)


def _adafactor(optimizer, slot):
    """Without the clipping of its updates, which is not kept anywhere."""
    count, weights = _count(optimizer), slot()
    step = ops.maximum(optimizer.epsilon_2, ops.sqrt(ops.mean(ops.square(weights))))
    step = step * ops.minimum(_rate(optimizer), 1 / ops.sqrt(count))
    return _normalized(step, ops.sqrt(slot("velocity")))


def _lion(optimizer, slot):
    """Every weight moves by the rate: divided by the averaged gradient's size, that is a metric too."""
    size = ops.abs(_corrected(slot("momentum"), optimizer.beta_2, optimizer))
    return _normalized(_rate(optimizer), ops.maximum(size, TINY))


def _muon(optimizer, slot):
    """Adam where it is that; else what it moves a weight, divided by the averaged gradient's size, as Lion's."""
    if slot.find("velocity") is not None:
        rate = _rate(optimizer) * optimizer.adam_lr_ratio
        return _adam(optimizer, slot, rate, optimizer.adam_beta_2)
    momentum = slot("momentum")  # a sum, as SGD's
    step = ops.abs(muon_step(optimizer, _rate(optimizer), momentum))
    size = ops.maximum(ops.abs(momentum) * (1 - optimizer.momentum), TINY)
    return Metric(step / size, ops.sqrt(ops.mean(ops.square(step))))


def _length(values):
    return ops.sqrt(ops.sum(ops.square(values)))


for _name, _metric in {
    "SGD": _steady,
    "Adam": _adam,
    "AdamW": _adam,
    "Nadam": _nadam,
    "Adamax": _adamax,
    "RMSprop": _rmsprop,
    "Adagrad": _adagrad,
    "Adadelta": _adadelta,
    "Ftrl": _ftrl,
    "Lamb": _lamb,
    "Adafactor": _adafactor,
    "Lion": _lion,
    "Muon": _muon,
    "ScheduleFreeAdamW": _schedule_free,
}.items():
    if hasattr(keras.optimizers, _name):
        register_metric(getattr(keras.optimizers, _name), _metric)
