"""TernGrad as Horovod's compression: whatever takes `compression=` exchanges its gradients as digits."""

import dataclasses

import keras
import tensorflow as tf

from tf_terngrad.ternary import transport
from tf_terngrad.ternary.exchange import SCHEDULES, average, average_rows
from tf_terngrad.ternary.quantize import FLOATS, check_bucket_size, check_clip, check_levels


@keras.saving.register_keras_serializable("tf_terngrad")
@dataclasses.dataclass(frozen=True)
class TernGrad:
    """Gradients travel as digits in [-L, L] and a scale, ternary by default; their average is the same everywhere.

        clip:       f(g) = g where |g| <= c sigma, else sign(g) c sigma
        scale:      s = max |f(g)|, the largest of all workers
        ternarize:  digit = sign(g) (floor(x) + b),  x = L |f(g)| / s,  b ~ Bernoulli(x - floor(x))
        average:    s / (L N) times the sum of the N workers' digits

    Give it to anything of Horovod's that takes `compression=`, or to `tf_terngrad.distributed`. Op Average or Sum, with
    any prescale and postscale; Adasum and others are refused, for digits can only be added. What is no tensor of
    floats, or smaller than `smallest`, travels as it is. Of `tf.IndexedSlices`, rows of one index are merged, and each
    row has a scale of its own; a Horovod that `tools/build_horovod.py` did not build sends their values as floats.

    Args:
        clip: c, in standard deviations; None: no clipping.
        levels: L, 1 to 127; more levels, less noise, more bytes.
        bucket_size: consecutive elements of a tensor that share a scale; None: all of them.
        share_scales: the largest scale of all workers serves all; False: each has its own, which only the schedule
            "bytes" can carry.
        schedule: "words", "bytes", "shards" (see `tf_terngrad.ternary.exchange`), or "auto": what costs least for the
            size and the number of workers.
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
        check_clip(self.clip)
        check_levels(self.levels)
        check_bucket_size(self.bucket_size)
        if self.schedule not in ("auto", *SCHEDULES):
            raise ValueError(f"Expected one of {('auto', *SCHEDULES)}. Received: schedule={self.schedule!r}")
        for name, kind in (("share_scales", bool), ("smallest", int), ("seed", int)):
            if not isinstance(getattr(self, name), kind):
                raise TypeError(f"Expected {name} of type {kind.__name__}. Received: {name}={getattr(self, name)!r}")
        if not self.share_scales and self.schedule not in ("auto", "bytes"):
            raise ValueError(
                f"Scales of each worker's own need schedule='bytes', for sums of digits need one scale. "
                f"Received: share_scales=False, schedule={self.schedule!r}"
            )

    def compresses(self, tensor) -> bool:
        """Whether a tensor travels as digits."""
        size = tensor.shape.num_elements()
        return tensor.dtype in FLOATS and (size is None or size >= self.smallest)

    def compress(self, tensor):
        """Exchange a tensor, and give Horovod a token to reduce in its place.

        The token tells what Horovod did to it: it is (1, worker), and a sum or an average of those keeps their ratio.

        Returns:
            (what Horovod is to reduce, what `decompress` needs).
        """
        if not self.compresses(tensor):
            return tensor, None
        network = transport.HorovodTransport(self.process_set)
        (mean,) = average([tensor], self, network, self.next_step(), transport.unique_name(tensor))
        workers = tf.cast(network.size(), tf.float32)
        token = tf.stack([1.0, tf.cast(network.rank(), tf.float32)])
        return token, (mean, workers)

    def decompress(self, token, context):
        """The average, or the sum if that is what Horovod was asked for."""
        if context is None:
            return token
        mean, workers = context
        if token.shape.rank != 1 or token.shape[0] not in (2, None):
            raise ValueError("TernGrad serves allreduce, whose result has the gradient's shape; not reducescatter.")
        linear = tf.abs(token[1] - token[0] * (workers - 1) / 2) <= 1e-3 * tf.abs(token[0]) * workers
        check = tf.debugging.Assert(
            linear,
            ["TernGrad's digits can only be added: expected op Average or Sum, and the same process_set for TernGrad "
             "and Horovod. Horovod's reduction of (1, worker) gave", token],
        )  # fmt: skip
        with tf.control_dependencies([check] if check is not None else []):
            return mean * tf.cast(token[0], mean.dtype)

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
        mean = average_rows(slices, self, network, self.next_step(), transport.unique_name(slices.values))
        times = tf.cast(factor if op == hvd.Average else factor * tf.cast(network.size(), tf.float64), mean.dtype)
        return tf.IndexedSlices(mean.values * times, mean.indices, mean.dense_shape)

    def next_step(self) -> tf.Tensor:
        """A number that no exchange of this object had before: the random bits' step."""
        if not self._steps:
            with tf.init_scope():
                self._steps.append(tf.Variable(0, dtype=tf.int64, trainable=False, name="terngrad_step"))
        return self._steps[0].assign_add(1)

    def get_config(self) -> dict:
        """The arguments, but for the process set, which lives as long as its workers."""
        fields = [field.name for field in dataclasses.fields(self) if field.init and field.name != "process_set"]
        return {name: getattr(self, name) for name in fields}

    @classmethod
    def from_config(cls, config: dict) -> "TernGrad":
        """The same compression again."""
        return cls(**config)


class _Lazy(type):
    """Horovod's own compressions, looked up when asked for: importing this package imports no Horovod."""

    @property
    def none(cls):
        """Nothing is compressed."""
        return transport.horovod().Compression.none

    @property
    def fp16(cls):
        """Floats travel as float16."""
        return transport.horovod().Compression.fp16


class Compression(metaclass=_Lazy):
    """What can be passed as `compression=`: `none`, `fp16` (Horovod's own) and `terngrad` (with its defaults)."""

    terngrad = TernGrad()
