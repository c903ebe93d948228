"""TernGrad as Horovod's compression: whatever takes `compression=` exchanges its gradients as digits."""

import dataclasses
import functools

import keras
import tensorflow as tf

from tf_terngrad.checks import expect
from tf_terngrad.ternary import transport
from tf_terngrad.ternary.exchange import SCHEDULES, average, average_rows
from tf_terngrad.ternary.quantize import FLOATS, check_bucket_size, check_clip, check_integer, check_levels

SIGNS = 32
"""How many signs tell the workers' shapes apart."""


def _counter() -> tf.Variable:
    with tf.init_scope():
        return tf.Variable(0, dtype=tf.int64, trainable=False, name="terngrad_step")


@functools.cache
def _steps_of(settings) -> tf.Variable:
    """How many gradients travelled with these settings through Horovod's doors."""
    return _counter()


def _next_step(settings) -> tf.Tensor:
    """The random bits' step: another one for equal settings too, which a loop may make anew each time."""
    return _steps_of(settings).assign_add(1)


def _of_an_instance(method):
    """A method that Horovod calls of the class itself, where the class is what `compression` was given."""

    @functools.wraps(method)
    def checked(self, *arguments):
        if not isinstance(self, TernGrad):
            raise TypeError("Expected an instance, such as compression=TernGrad(). Received: the class TernGrad")
        return method(self, *arguments)

    return checked


@keras.saving.register_keras_serializable("tf_terngrad")
@dataclasses.dataclass(frozen=True)
class TernGrad:
    """Gradients travel as digits in [-L, L] and a scale, ternary by default; their average is the same everywhere.

    Use it when several machines train one model and wait for the network: pass it wherever `compression=` is taken.

        clip:       f(g) = g where |g| <= c sigma, else sign(g) c sigma
        scale:      s = max |f(g)|, the largest of all workers
        ternarize:  digit = sign(g) (floor(x) + b),  x = L |f(g)| / s,  b ~ Bernoulli(x - floor(x))
        average:    s / (L N) times the sum of the N workers' digits

    Give it to anything of Horovod's that takes `compression=`, or to `tf_terngrad.distributed`. Op Average or Sum, with
    any prescale and postscale; Adasum and others are refused, for digits can only be added. What is no tensor of
    floats, or smaller than `smallest`, travels as it is. Of `tf.IndexedSlices`, rows of one index are merged, and each
    row has a scale of its own; a Horovod that `tools/build_horovod.py` did not build sends their values as floats.

    All workers take part in every exchange: `hvd.join()` is not supported. Those of an elastic job may become more or
    fewer between steps.

    Args:
        clip: c, in standard deviations; None: no clipping.
        levels: L, 1 to 127; more levels, less noise, more bytes.
        bucket_size: consecutive elements of a tensor that share a scale; None: all of them.
        share_scales: the largest scale of all workers serves all; False: each has its own, which only the schedule
            "bytes" can carry.
        schedule: "words", "bytes", "shards" (see `tf_terngrad.ternary.exchange`), or "auto": what costs least for the
            size and the number of workers on a link of 1 Gb/s; "words" where the size is not known statically.
        smallest: tensors of fewer elements stay floats.
        seed: of the random bits, any integer; the same seed gives the same digits again.
        process_set: a `horovod.tensorflow.ProcessSet`; None: all workers. Not part of the configuration.

    Raises:
        ValueError, TypeError: an argument out of range.

    Example:

    ```python
    gradient = hvd.allreduce(gradient, compression=tt.TernGrad(clip=2.5))
    tape = hvd.DistributedGradientTape(tape, compression=tt.TernGrad())
    ```

    Paper: Wen et al., TernGrad: Ternary gradients to reduce communication in distributed deep learning, 2017.
    """

    clip: float | None = 2.5
    levels: int = 1
    bucket_size: int | None = None
    share_scales: bool = True
    schedule: str = "auto"
    smallest: int = 1024
    seed: int = 0
    process_set: object = None
    _steps: list = dataclasses.field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self):
        values = {
            "clip": check_clip(self.clip),
            "levels": check_levels(self.levels),
            "bucket_size": check_bucket_size(self.bucket_size),
            "smallest": check_integer(self.smallest, "smallest", 0),
            "seed": check_integer(self.seed, "seed"),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        if self.schedule not in ("auto", *SCHEDULES):
            raise ValueError(f"Expected one of {('auto', *SCHEDULES)}. Received: schedule={self.schedule!r}")
        if not isinstance(self.share_scales, bool):
            raise TypeError(f"Expected share_scales of type bool. Received: share_scales={self.share_scales!r}")
        transport.check_process_set(self.process_set)
        if not self.share_scales and self.schedule not in ("auto", "bytes"):
            raise ValueError(
                f"Scales of each worker's own need schedule='bytes', for sums of digits need one scale. "
                f"Received: share_scales=False, schedule={self.schedule!r}"
            )

    def compresses(self, tensor) -> bool:
        """Whether a tensor travels as digits."""
        size = tensor.shape.num_elements()
        return tensor.dtype in FLOATS and (size is None or size >= self.smallest)

    @_of_an_instance
    def compress(self, tensor):
        """Exchange a tensor, and give Horovod a token to reduce in its place.

        The token tells what Horovod did to it: it is (1, worker, signs), and a sum or an average of those keeps their
        ratio. The signs stand for the tensor's dtype and shape: where a worker has others, they cancel.

        Returns:
            (what Horovod is to reduce, what `decompress` needs).
        """
        if not tf.is_tensor(tensor):
            tensor = tf.convert_to_tensor(tensor)
        if not self.compresses(tensor):
            return tensor, None
        network, name = transport.HorovodTransport(self.process_set), transport.unique_name(tensor)
        (mean,) = average([tensor], self, network, _next_step(self), name)
        return token_of(tensor, network.rank()), (mean, tf.cast(network.size(), tf.float32), name)

    def decompress(self, token, context):
        """The average, or the sum if that is what Horovod was asked for."""
        if context is None:
            return token
        mean, workers, name = context
        if token.shape.rank != 1 or token.shape[0] not in (2 + SIGNS, None):
            raise ValueError("TernGrad serves allreduce, whose result has the gradient's shape; not reducescatter.")
        one, worker, signs = token[0], token[1], token[2:]
        small = 1e-3 * tf.abs(one)
        checks = expect(
            tf.abs(worker - one * (workers - 1) / 2) <= small * workers,
            "TernGrad's digits can only be added: expected op Average or Sum, and the same process_set for TernGrad "
            "and Horovod. Horovod's reduction of (1, worker) gave",
            token[:2],
        )
        checks += expect(
            tf.reduce_all(tf.abs(tf.abs(signs) - tf.abs(one)) <= small),
            "The workers' gradients differ. Expected tensors of the same dtypes and shapes, in the same order, on all "
            f"of them. This one has, as {name!r}, {mean.dtype.name}",
            tf.shape(mean),
        )
        with tf.control_dependencies(checks):
            return mean * tf.cast(one, mean.dtype)

    @_of_an_instance
    def allreduce_slices(self, slices, op, factor=1.0, process_set=None) -> tf.IndexedSlices:
        """The average or the sum of `tf.IndexedSlices`, values as digits; what the Horovod of this project asks for.

        Each index that any worker has is in it once, in rising order.

        Args:
            slices: this worker's.
            op: Horovod's Average or Sum.
            factor: multiplies the result.
            process_set: Horovod's; it has to be the one of these settings.

        Raises:
            ValueError: another op or process set.
        """
        hvd = transport.initialized()
        if op not in (hvd.Average, hvd.Sum):
            raise ValueError(f"TernGrad's digits can only be added: expected op Average or Sum. Received: op={op}")
        if (process_set or hvd.global_process_set) is not (self.process_set or hvd.global_process_set):
            raise ValueError(
                "Expected the same process_set for TernGrad and Horovod. "
                f"Received: {self.process_set} and {process_set}"
            )
        network = transport.HorovodTransport(self.process_set)
        mean = average_rows(slices, self, network, _next_step(self), transport.unique_name(slices.values))
        times = tf.cast(factor if op == hvd.Average else factor * tf.cast(network.size(), tf.float64), mean.dtype)
        return tf.IndexedSlices(mean.values * times, mean.indices, mean.dense_shape)

    def next_step(self) -> tf.Tensor:
        """A number that no exchange of this object had before: the random bits' step."""
        if not self._steps:
            self._steps.append(_counter())
        return self._steps[0].assign_add(1)

    def get_config(self) -> dict:
        """The arguments, but for the process set, which lives as long as its workers."""
        fields = [field.name for field in dataclasses.fields(self) if field.init and field.name != "process_set"]
        return {name: getattr(self, name) for name in fields}

    @classmethod
    def from_config(cls, config: dict) -> "TernGrad":
        """The same compression again."""
        return cls(**config)


def token_of(tensor, worker) -> tf.Tensor:
    """What stands for a tensor in Horovod's reduction, float32 (2 + SIGNS,): 1, the worker's number, and signs.

    Tensors of other dtypes or shapes have the same signs once in 2^32.
    """
    if tensor.shape.is_fully_defined():
        signs = _signs_of_known(tensor.dtype.name, tuple(tensor.shape))
    else:
        signs = _signs(tensor.dtype.name, tf.shape(tensor))
    return tf.concat([[1.0, tf.cast(worker, tf.float32)], signs], 0)


@functools.cache
def _signs_of_known(dtype, shape):
    """The same, once for each shape: eager exchanges would wait for so many operations."""
    with tf.init_scope():
        return _signs(dtype, tf.constant(shape, tf.int32)).numpy()


def _signs(dtype, shape):
    text = tf.strings.join([dtype, tf.strings.reduce_join(tf.strings.as_string(shape), separator=",")], " ")
    number = tf.strings.to_hash_bucket_fast(text, 2**SIGNS)
    bits = tf.bitwise.right_shift(number, tf.range(SIGNS, dtype=tf.int64)) % 2
    return tf.cast(1 - 2 * bits, tf.float32)


class _Lazy(type):
    """Horovod's own compressions, looked up when asked for: importing this package imports no Horovod."""

    def __dir__(cls):
        return [*super().__dir__(), "fp16", "none"]

    @property
    def none(cls):
        """Nothing is compressed."""
        return transport.horovod().Compression.none

    @property
    def fp16(cls):
        """Floats travel as float16."""
        return transport.horovod().Compression.fp16


class Compression(metaclass=_Lazy):
    """What can be passed as `compression=`: `none`, `fp16` (Horovod's own) and `terngrad` (with its defaults).

    Use it when an argument wants one of the ways that gradients can travel, as `compression=` does.
    """

    terngrad = TernGrad()
