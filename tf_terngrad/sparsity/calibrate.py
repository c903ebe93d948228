"""Statistics of batch normalizations, measured anew on data; nothing else of the model changes."""

import contextlib
import math

import keras
import numpy as np
import tensorflow as tf
from keras import ops, tree

from tf_terngrad import checks
from tf_terngrad.keras_internals import all_layers
from tf_terngrad.sparsity import in_vain
from tf_terngrad.sparsity.graph.replay import check_model
from tf_terngrad.sparsity.graph.values import state_of


def calibrate(model: keras.Model, x, batch_size: int = 128) -> list[str]:
    """Measure the means and variances of a model's batch normalizations on data.

    Use it when weights changed in another way than by training: after `tt.prune`, or after averaging weights. What
    enters a normalization is distributed in another way then, and a model that was not trained on loses much of its
    accuracy for that alone.

    Over all batches b of n_b values, N together, each channel gets the population's mean and variance, not averages
    in which the last batches count most (the law of total variance):

        mean = Σ n_b mean_b / N,    variance = Σ n_b (variance_b + (mean_b - mean)²) / N

    Each batch runs through the model once, normalized by its own statistics, as in training; all else works as in
    inference, dropout too. So the first normalization's statistics do not depend on the batches; those of later ones
    are the nearer to what inference meets the larger the batches are, and exact with all examples in one batch.
    Normalizations that do not train (`layer.trainable = False`) keep their statistics.

    Args:
        model: a built `keras.Model`. Weights, states of layers, seeds, metrics and the optimizer stay as they are.
        x: a few hundred examples, as `predict` takes them: an array, or several in a list or a dict; or batches to
            iterate over, such as a `tf.data.Dataset`, with or without labels.
        batch_size: examples in a batch, of arrays.

    Returns:
        The names of the layers that were calibrated.

    Raises:
        TypeError: `model` is no Keras model, or `x` is of no such kind.
        ValueError: `model` is not built; there is no example; or a statistic is not finite: then nothing has changed.

    Source: Wu and Johnson, Rethinking "Batch" in BatchNorm, 2021 (there, PreciseBN).

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.BatchNormalization(name="norm")])
    >>> calibrate(model, np.array([[1.0, 5.0], [3.0, 5.0]]))
    ['norm']
    >>> model.get_layer("norm").moving_mean.numpy().tolist()
    [2.0, 5.0]
    """
    check_model(model)
    batches = _batches(x, checks.integer(batch_size, "batch_size", "calibrate", least=1))
    kind = keras.layers.BatchNormalization
    seen = [_Statistics(layer) for layer in all_layers(model) if isinstance(layer, kind) and layer.trainable]
    if not seen:
        in_vain.say(f"calibrate: model {model.name!r} has no batch normalization that trains; nothing changes.")
        return []
    state = [(variable, variable.numpy()) for variable in _state(model)]
    try:
        with contextlib.ExitStack() as watched:
            for each in seen:
                watched.enter_context(each.watching())
            _run(model, batches)
    finally:
        for variable, value in state:
            variable.assign(value)
    return [each.layer.name for each in _checked(seen, model) if each.assign()]


class _Statistics:
    """The mean and the variance of all that enters a batch normalization.

    Args:
        layer: the normalization.
    """

    def __init__(self, layer):
        self.layer = layer
        self.count, self.mean, self.squares = 0, 0.0, 0.0  # squares: of the distances from the mean, summed

    @contextlib.contextmanager
    def watching(self):
        """Let the layer normalize each batch by its own statistics meanwhile, and note these."""
        own, before = self.layer.call, vars(self.layer).get("call")

        def call(inputs, training=None, mask=None):
            self._put(*self._noted(inputs, mask))
            return own(inputs, training=False, mask=mask)

        vars(self.layer)["call"] = call  # not `__call__`: wrappers such as TimeDistributed call it by this name
        try:
            yield
        finally:
            vars(self.layer).pop("call")
            vars(self.layer).update({} if before is None else {"call": before})

    def assign(self):
        """Give the layer the statistics; whether it has seen anything."""
        if self.count:
            self._put(self.mean, self.squares / self.count)
        return bool(self.count)

    def is_finite(self):
        """Whether no number among them is NaN or infinite."""
        return bool(np.isfinite(self.mean).all() and np.isfinite(self.squares).all())

    def _put(self, mean, variance):
        self.layer.moving_mean.assign(mean)
        self.layer.moving_variance.assign(variance)
        if getattr(self.layer, "renorm", False):  # it divides by this one
            self.layer.moving_stddev.assign(np.sqrt(variance))

    def _noted(self, inputs, mask):
        """The mean and the variance of a batch, once they are added to those of all (Chan et al., 1979)."""
        values = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        axes = [axis for axis in range(len(values.shape)) if axis != self.layer.axis % len(values.shape)]
        counts = mask is None or ops.broadcast_to(ops.expand_dims(mask, -1), ops.shape(values))
        count = math.prod(values.shape[axis] for axis in axes) if mask is None else int(ops.sum(mask))
        mean = ops.sum(ops.where(counts, values, 0), axes, keepdims=True) / max(count, 1)
        squares = ops.sum(ops.where(counts, ops.square(values - mean), 0), axes)
        mean, squares = (ops.convert_to_numpy(each).astype(np.float64).ravel() for each in (mean, squares))
        total, away = max(self.count + count, 1), mean - self.mean
        self.mean = self.mean + away * count / total
        self.squares = self.squares + squares + away**2 * self.count * count / total
        self.count += count
        return mean, squares / max(count, 1)


def _state(model):
    """The variables that a call of a model may change."""
    found = [*model.non_trainable_variables, *(each for layer in all_layers(model) for each in state_of(layer))]
    return {id(each): each for each in found if isinstance(each, keras.Variable)}.values()


def _checked(seen, model):
    """The statistics, if all are finite."""
    bad = [each.layer.name for each in seen if not each.is_finite()]
    if bad:
        raise ValueError(
            f"calibrate: expected examples on which what enters the normalizations of {model.name!r} is finite. "
            f"Received: NaN or infinity at {', '.join(bad[:3])}. Nothing has changed."
        )
    return seen


def _run(model, batches):
    """Call the model on all batches, with the Python of each layer: a compiled call would not ask it."""
    before, some = tf.config.functions_run_eagerly(), False
    for batch in batches:
        tf.config.run_functions_eagerly(True)
        try:
            model(batch, training=False)
        finally:
            tf.config.run_functions_eagerly(before)
        some = True
    if not some:
        raise ValueError("calibrate: expected at least one batch of examples. Received: none")


def _batches(x, size):
    """An iterator over what the model is called on."""
    if isinstance(x, tf.data.Dataset) and x.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError(checks.refusal("calibrate", "x", "a dataset that ends", x, "Write x.take(10) for ten batches"))
    if isinstance(x, keras.utils.PyDataset):
        return (_inputs(x[number]) for number in range(len(x)))
    if isinstance(x, (list, tuple, dict)) or hasattr(x, "__array__"):
        return _cut(x, size)
    if hasattr(x, "__iter__"):
        return map(_inputs, x)
    raise TypeError(checks.refusal("calibrate", "x", "arrays, or batches to iterate over", x))


def _cut(arrays, size):
    """Batches of nested arrays."""
    for first in range(0, len(tree.flatten(arrays)[0]), size):
        yield tree.map_structure(lambda array, first=first: array[first : first + size], arrays)


def _inputs(batch):
    """A batch without labels and weights."""
    return keras.utils.unpack_x_y_sample_weight(batch)[0]
