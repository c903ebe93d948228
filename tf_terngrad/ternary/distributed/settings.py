"""How gradients travel: what the optimizer and the tape are told."""

import dataclasses
import fnmatch

import tensorflow as tf

from tf_terngrad.checks import integer, one_of, strings
from tf_terngrad.ternary.compressor import TernGrad
from tf_terngrad.ternary.transport import transport_of

FUSION_BYTES = 32 * 2**20
SHOWN = 30
"""Paths in a message."""
OPERATIONS = ("average", "sum")


@dataclasses.dataclass(frozen=True)
class Route:
    """How a gradient travels: as digits or as floats, dense or as the rows of a `tf.IndexedSlices`."""

    digits: bool
    rows: bool = False

    def __str__(self):
        return f"{'rows of ' if self.rows else ''}{'digits' if self.digits else 'floats'}"


@dataclasses.dataclass(frozen=True)
class Settings:
    """How gradients travel.

    Args:
        compression: None, Compression.none, Compression.fp16, or a `TernGrad`.
        op: "average" or "sum", over the workers; Horovod's Average and Sum are taken too.
        exclude: patterns, as a shell's, of the paths of variables whose gradients stay floats.
        process_set: the workers, Horovod's process set or a `Transport`; None: those of the `TernGrad`, or all of
            Horovod's.
        fusion_bytes: the most that is exchanged at once, as it is before compression; a larger tensor goes alone.

    Raises:
        TypeError, ValueError: an argument of another kind, or out of range.
    """

    compression: object = None
    op: str = "average"
    exclude: tuple = ()
    process_set: object = None
    fusion_bytes: int = FUSION_BYTES

    def __post_init__(self):
        self._check_compression()
        op = one_of(self.network.operation_name(self.op), OPERATIONS, "op", "DistributedOptimizer")
        values = {
            "op": op,
            "exclude": strings(self.exclude, "exclude", "DistributedOptimizer"),
            "process_set": self._checked_process_set(),
            "fusion_bytes": integer(self.fusion_bytes, "fusion_bytes", "DistributedOptimizer", 1),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def ternary(self) -> bool:
        """Whether anything travels as digits."""
        return isinstance(self.compression, TernGrad)

    @property
    def network(self):
        """The transport of the workers."""
        return transport_of(self.process_set)

    def route(self, gradient, name: str) -> Route:
        """How the gradient of a variable travels."""
        if isinstance(gradient, tf.IndexedSlices):
            return Route(self.rows_travel_as_digits(name), rows=True)
        return Route(self.travels_as_digits(gradient, name))

    def travels_as_digits(self, gradient, name: str) -> bool:
        """Whether a gradient, or whatever has its shape and dtype, becomes digits."""
        return self.rows_travel_as_digits(name) and self.compression.compresses(gradient)

    def rows_travel_as_digits(self, name: str) -> bool:
        """Whether the rows of a variable's `tf.IndexedSlices` become digits, however few they are."""
        return self.ternary and not any(fnmatch.fnmatchcase(name, pattern) for pattern in self.exclude)

    def require_excluded(self, names) -> None:
        """Refuse patterns that fit no variable: what they were meant for would travel as digits.

        Args:
            names: of all variables.

        Raises:
            ValueError: it names the patterns, and what there is.
        """
        idle = [pattern for pattern in self.exclude if not fnmatch.filter(names, pattern)]
        if idle:
            raise ValueError(
                f"exclude={idle} fits no variable that is trained. Expected patterns, as a shell's, of some of these "
                f"paths: {', '.join(names[:SHOWN])}{f' and {len(names) - SHOWN} more' * (len(names) > SHOWN)}."
            )

    def wire(self, dtype: tf.DType) -> tf.DType:
        """The type in which floats of this type travel; Horovod adds no bfloat16."""
        if not self.ternary and self.network.compression_name(self.compression) == "fp16":
            return tf.float16
        return tf.float32 if dtype == tf.bfloat16 else dtype

    def __str__(self):
        """The settings but for the process set, which is the same if anything arrives at all."""
        compression = self.compression.get_config() if self.ternary else self.compression
        return f"compression={compression}, op={self.op}, exclude={self.exclude}, fusion_bytes={self.fusion_bytes}"

    def _checked_process_set(self):
        """The one that either names, this or the `TernGrad`."""
        transport_of(self.process_set)
        of_compression = self.compression.process_set if self.ternary else None
        if None not in (self.process_set, of_compression) and self.process_set is not of_compression:
            raise ValueError(
                "Expected the same process_set for TernGrad as beside it, or one of the two alone. Received: "
                f"TernGrad(process_set={of_compression}) and process_set={self.process_set}"
            )
        return of_compression if self.process_set is None else self.process_set

    def _check_compression(self):
        if self.compression is None or self.ternary:
            return
        if self.network.compression_name(self.compression) is None:
            raise TypeError(
                "Expected None, Compression.none, Compression.fp16 or a TernGrad, such as TernGrad(). "
                f"Received: compression={self.compression!r}"
            )
