"""N workers in one process: the same codec and the same averages, no network. For questions of accuracy."""

import dataclasses
import math

import keras
import tensorflow as tf

from tf_terngrad.checks import expect, integer
from tf_terngrad.keras_internals import in_xla
from tf_terngrad.ternary import codec
from tf_terngrad.ternary.distributed.averager import name_of
from tf_terngrad.ternary.distributed.settings import Settings
from tf_terngrad.ternary.exchange import NAME, for_rows, random_key
from tf_terngrad.ternary.partition import bucket_lengths
from tf_terngrad.ternary.state import ExchangeState

XLA = (
    "XLA cannot compile a simulation of workers. Give jit_compile=False to model.compile; where there is a GPU, Keras "
    "turns XLA on unless told not to."
)


def simulate(model, workers: int, compression=None, exclude=()):
    """Make `fit` train a model as so many workers would, each on its part of every batch.

        g = (1/N) sum_i Q(g_i),   g_i the gradient of the loss of the i-th part of the batch

    Use it when you want to know what ternary gradients do to the accuracy of your model, before you rent machines.

    Q is what `compression` makes of a gradient. All of Keras stays in use: losses, regularizers, metrics, callbacks,
    any optimizer. What the layers keep for themselves, as BatchNormalization its statistics, sees the parts one after
    the other; a strength that `sparsify` sets by a ratio is that of the first part alone, where workers have the mean.
    One worker is the machine: N of them take N times the work of a codec and of small batches.

    Args:
        model: a built and compiled `keras.Model`.
        workers: N, at least 1. Every batch must have a multiple of N examples.
        compression: None, `Compression.none`, or a `TernGrad`.
        exclude: patterns, as a shell's, of the paths of variables whose gradients stay floats.

    Returns:
        The model.

    Raises:
        TypeError, ValueError: a model that is not one, not built or not compiled; another number of workers; another
            compression; a pattern of `exclude` that fits no variable; jit_compile=True. In `fit`, on the first batch:
            one that the workers cannot share evenly.

    Example:

    ```python
    model.compile(keras.optimizers.SGD(0.1), loss)
    tt.distributed.simulate(model, workers=64, compression=tt.TernGrad())
    model.fit(images, labels, batch_size=64)
    ```

    Paper: Wen et al., TernGrad, 2017, whose figure of LeNet has up to 64 workers.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"Expected a keras.Model. Received: {model!r}")
    if not model.built or not model.compiled:
        raise ValueError(f"Model {model.name!r} is not built and compiled. Give it an input and call compile first.")
    workers = integer(workers, "workers", "simulate", 1)
    settings = Settings(compression, exclude=exclude)
    if settings.wire(tf.float32) != tf.float32:
        raise ValueError(
            "A simulation has no floats that travel. Expected None, Compression.none or a TernGrad, such as "
            f"TernGrad(). Received: compression={compression!r}"
        )
    settings.require_excluded([name_of(variable) for variable in model.trainable_variables])
    if model.jit_compile:
        raise ValueError(XLA)
    simulation = Simulation(model, workers, settings)
    model.train_step = simulation.train_step
    model.train_function = None
    return model


class Simulation:
    """A step of training as several workers do it together.

    Args:
        model: what they train.
        workers: how many.
        settings: `Settings`, how gradients travel.

    Attributes:
        state: `ExchangeState`, of the random bits. It counts from 0, whatever else the process has made.
    """

    def __init__(self, model, workers, settings):
        self.model = model
        self.workers = workers
        self.settings = settings
        self.state = ExchangeState(first=0)
        self._of_rows = set()

    def train_step(self, data):
        """The step that Keras calls."""
        if in_xla(tf.compat.v1.get_default_graph()):
            raise ValueError(XLA)
        gradients = self.gradients(*keras.utils.unpack_x_y_sample_weight(data))
        variables = self.model.trainable_variables
        self.model.optimizer.apply_gradients(zip(self.average(gradients), variables, strict=True))
        return self.model.get_metrics_result()

    def gradients(self, x, y=None, sample_weight=None) -> list[tf.Tensor]:
        """Every worker's gradients: of each trainable variable a tensor (workers, ...)."""
        parts = keras.tree.map_structure(self._share_out, (x, y, sample_weight))
        variables = self.model.trainable_variables
        signature = [tf.TensorSpec(variable.shape, variable.dtype) for variable in variables]

        def of_worker(worker):
            part = keras.tree.map_structure(lambda value: None if value is None else value[worker], parts)
            found = self._gradients_of_part(*part)
            self._of_rows = {i for i, gradient in enumerate(found) if isinstance(gradient, tf.IndexedSlices)}
            return [_dense(gradient, variable) for gradient, variable in zip(found, variables, strict=True)]

        return tf.map_fn(of_worker, tf.range(self.workers), fn_output_signature=signature)

    def average(self, gradients) -> list[tf.Tensor]:
        """What the workers get of their gradients, given as `gradients` returns them."""
        results = [None] * len(gradients)
        together = {}
        for position, (gradient, variable) in enumerate(zip(gradients, self.model.trainable_variables, strict=True)):
            compression = self._compression(variable, position in self._of_rows)
            if compression is None:
                results[position] = tf.reduce_mean(gradient, axis=0)
            else:
                together.setdefault((gradient.dtype, compression), []).append(position)
        for (_, compression), positions in together.items():
            means = average([gradients[position] for position in positions], compression, self.state.next_step())
            for position, mean in zip(positions, means, strict=True):
                results[position] = mean
        return results

    def _compression(self, variable, of_rows):
        """Of a variable's gradient; None: it stays floats. Rows, as an Embedding's, have a scale each."""
        settings, name = self.settings, name_of(variable)
        if of_rows:
            return for_rows(settings.compression, variable.shape) if settings.rows_travel_as_digits(name) else None
        gradient = tf.TensorSpec(variable.shape, variable.dtype)
        return settings.compression if settings.travels_as_digits(gradient, name) else None

    def _share_out(self, value):
        if value is None:
            return None
        message = (
            f"A batch cannot be shared out evenly among {self.workers} workers. Expected a multiple of {self.workers} "
            "examples, and a last batch of an epoch that is as large as the others or left out. Received: a batch of"
        )
        if (value.shape[0] or 0) % self.workers:
            raise ValueError(f"{message} {value.shape[0]}")
        count = tf.shape(value)[0]
        with tf.control_dependencies(expect(count % self.workers == 0, message, count)):
            return tf.reshape(value, (self.workers, count // self.workers, *value.shape[1:]))

    def _gradients_of_part(self, x, y, sample_weight):
        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            predictions = self.model(x, training=True)
            loss = self.model.compute_loss(x, y, predictions, sample_weight, training=True)
            scaled = self.model.optimizer.scale_loss(loss)
        for metric in self.model.metrics:
            if metric.name == "loss":
                metric.update_state(loss, sample_weight=tf.shape(keras.tree.flatten(x)[0])[0])
        self.model.compute_metrics(x, y, predictions, sample_weight)
        return tape.gradient(scaled, [variable.value for variable in variables])


def simulation_of(model):
    """The `Simulation` that trains a model; None: none does."""
    step = getattr(model, "train_step", None)
    return step.__self__ if isinstance(getattr(step, "__self__", None), Simulation) else None


def _dense(gradient, variable):
    if gradient is None:
        return tf.zeros(variable.shape, variable.dtype)
    if isinstance(gradient, tf.IndexedSlices):
        return tf.math.unsorted_segment_sum(gradient.values, gradient.indices, variable.shape[0])
    return gradient


def average(gradients, compression, step) -> list[tf.Tensor]:
    """The averages of several workers' gradients, as their exchange would give them.

    Args:
        gradients: list of tensors (workers, ...), of one floating dtype.
        compression: a `TernGrad`.
        step: integer scalar, of the random bits.

    Returns:
        A list of tensors (...): to rounding what `exchange.average` gives each worker, from the same digits.
    """
    return Digits.of(gradients, compression, step).average()


@dataclasses.dataclass(frozen=True)
class Digits:
    """What workers would send.

    Attributes:
        gradients: what they have, list of tensors (workers, ...) of one dtype.
        rows: uint8 (workers, bytes), each worker's digits.
        lengths: int32 (buckets,), how many consecutive digits share a scale.
        thresholds, scales: float32 (workers, buckets).
        levels: L.
    """

    gradients: list
    rows: tf.Tensor
    lengths: tf.Tensor
    thresholds: tf.Tensor
    scales: tf.Tensor
    levels: int

    @classmethod
    def of(cls, gradients, compression, step):
        """Of gradients (workers, ...)."""
        workers, levels = gradients[0].shape[0], compression.levels
        flat = tf.concat([tf.reshape(gradient, (workers, -1)) for gradient in gradients], 1)
        lengths = bucket_lengths(tf.constant([math.prod(g.shape[1:]) for g in gradients]), compression.bucket_size)
        floats = tf.TensorSpec((lengths.shape[0],), tf.float32)
        thresholds, scales = tf.map_fn(
            lambda row: codec.scale(row, lengths, compression.clip), flat, fn_output_signature=(floats, floats)
        )
        if compression.share_scales:
            scales = tf.repeat(tf.reduce_max(scales, axis=0, keepdims=True), workers, axis=0)

        def encode(worker):
            key = random_key(compression, step, NAME, worker)
            return codec.encode_bytes(flat[worker], lengths, thresholds[worker], scales[worker], key, levels)

        rows = tf.map_fn(encode, tf.range(workers), fn_output_signature=tf.TensorSpec((None,), tf.uint8))
        return cls(gradients, rows, lengths, thresholds, scales, levels)

    def average(self) -> list[tf.Tensor]:
        """What the workers make of all that they get, list of tensors (...)."""
        mean = codec.mean_of_bytes(self.rows, self.lengths, self.scales, self.levels, self.gradients[0].dtype)
        parts = tf.split(mean, [math.prod(gradient.shape[1:]) for gradient in self.gradients])
        return [tf.reshape(part, gradient.shape[1:]) for part, gradient in zip(parts, self.gradients, strict=True)]
