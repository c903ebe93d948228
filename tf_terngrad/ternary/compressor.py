"""TernGrad as Horovod's compression: whatever takes `compression=` exchanges its gradients as digits."""

import dataclasses
import functools

import keras
import tensorflow as tf

from tf_terngrad.checks import expect, flag, integer, positive
from tf_terngrad.ternary import horovod
from tf_terngrad.ternary.exchange import average, average_rows
from tf_terngrad.ternary.quantize import FLOATS, LARGEST_LEVELS
from tf_terngrad.ternary.schedules import SCHEDULES, is_registered, schedule_of
from tf_terngrad.ternary.state import state_of
from tf_terngrad.ternary.transport import transport_of

SIGNS = 32
"""How many signs tell the workers' shapes apart."""


def _of_an_instance(method):
    """A method that Horovod calls of the class itself, where the class is what `compression` was given."""

    @tf.autograph.experimental.do_not_convert
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

        clip:       f(g) = g where |g| <= c sigma, else sign(g) c sigma
        scale:      s = max |f(g)|, the largest of all workers
        ternarize:  digit = sign(g) (floor(x) + b),  x = L |f(g)| / s,  b ~ Bernoulli(x - floor(x))
        average:    s / (L N) times the sum of the N workers' digits

    Use it when gradients take longer to travel between your machines than to compute.

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
        schedule: "words", "bytes", "shards" (see `tf_terngrad.ternary.schedules`), or "auto": what costs least for the
            size and the number of workers on a link of 1 Gb/s; "words" where the size is not known statically. Or a
            `Schedule` of your own, or the name that `register_schedule` knows it by; what is saved is the name.
        smallest: tensors of fewer elements stay floats.
        seed: of the random bits, any integer; the same seed gives the same digits again.
        process_set: a `horovod.tensorflow.ProcessSet`; None: all workers. For `tf_terngrad.distributed` it may be a
            `Transport`. Not part of the configuration.

    Raises:
        TypeError, ValueError: an argument of another kind, or out of range.

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
    schedule: object = "auto"
    smallest: int = 1024
    seed: int = 0
    process_set: object = None

    def __post_init__(self):
        clip, size, schedule = self.clip, self.bucket_size, schedule_of(self.schedule)
        values = {
            "clip": clip if clip is None else positive(clip, "clip", "TernGrad"),
            "levels": integer(self.levels, "levels", "TernGrad", 1, LARGEST_LEVELS),
            "bucket_size": size if size is None else integer(size, "bucket_size", "TernGrad", 1),
            "share_scales": flag(self.share_scales, "share_scales", "TernGrad"),
            "schedule": schedule.name if is_registered(schedule) else schedule,
            "smallest": integer(self.smallest, "smallest", "TernGrad", 0),
            "seed": integer(self.seed, "seed", "TernGrad"),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        transport_of(self.process_set)
        if not self.share_scales and not schedule.private_scales:
            able = " or ".join(repr(name) for name, one in SCHEDULES.items() if one.private_scales)
            raise ValueError(
                f"TernGrad: scales of each worker's own need schedule={able}, for sums of digits need one scale. "
                f"Received: share_scales=False, schedule={schedule.name!r}"
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
        network = self._network()
        name = network.unique_name(tensor)
        (mean,) = average([tensor], self, network, state_of(self).next_step(), name)
        return token_of(tensor, network.rank()), (mean, tf.cast(network.size(), tf.float32), name)

    @tf.autograph.experimental.do_not_convert
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
        network = self._network()
        operation = network.operation_name(op)
        if operation not in ("average", "sum"):
            raise ValueError(f"TernGrad's digits can only be added: expected op Average or Sum. Received: op={op}")
        if not network.is_of(process_set):
            raise ValueError(
                "Expected the same process_set for TernGrad and Horovod. "
                f"Received: {self.process_set} and {process_set}"
            )
        mean = average_rows(slices, self, network, state_of(self).next_step(), network.unique_name(slices.values))
        times = tf.cast(factor if operation == "average" else factor * tf.cast(network.size(), tf.float64), mean.dtype)
        return tf.IndexedSlices(mean.values * times, mean.indices, mean.dense_shape)

    def _network(self):
        """Horovod's own functions run in graphs whose scopes tell their exchanges apart."""
        return horovod.HorovodTransport(self.process_set, scoped=True).ready()

    def get_config(self) -> dict:
        """The arguments, but for the process set, which lives as long as its workers; of the schedule, the name."""
        config = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del config["process_set"]
        return config | {"schedule": schedule_of(self.schedule).name}

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
        return horovod.horovod().Compression.none

    @property
    def fp16(cls):
        """Floats travel as float16."""
        return horovod.horovod().Compression.fp16


class Compression(metaclass=_Lazy):
    """What can be passed as `compression=`: `none`, `fp16` (Horovod's own) and `terngrad` (with its defaults).

    Use it when you want to name a compression beside Horovod's own ones, as a flag of a program does.
    """

    terngrad = TernGrad()
