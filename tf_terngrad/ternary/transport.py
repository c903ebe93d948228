"""Horovod: the only file that imports it, when something is exchanged and not before."""

import functools
import importlib
import os
import re
import sys

import tensorflow as tf


@functools.cache
def horovod():
    """The module `horovod.tensorflow`.

    Raises:
        ModuleNotFoundError: Horovod is not installed.
    """
    try:
        return importlib.import_module("horovod.tensorflow")
    except ImportError as error:
        raise ModuleNotFoundError(
            "Horovod is not installed, or was built for another TensorFlow. Build it with "
            f"`python tools/build_horovod.py` from tf_terngrad's sources. ({error})"
        ) from error


def initialized():
    """The module `horovod.tensorflow`, if `hvd.init()` was called.

    Raises:
        RuntimeError: it was not.
    """
    hvd = horovod()
    if not hvd.is_initialized():
        raise RuntimeError("Horovod is not initialized. Call horovod.tensorflow.init() before anything is exchanged.")
    return hvd


def own_compressions() -> tuple:
    """Horovod's `Compression.none` and `Compression.fp16`; none of them where Horovod was not imported yet."""
    hvd = sys.modules.get("horovod.tensorflow")
    return () if hvd is None else (hvd.Compression.none, hvd.Compression.fp16)


def check_process_set(process_set) -> None:
    """Refuse what is no process set of Horovod's."""
    if process_set is not None and not isinstance(process_set, horovod().ProcessSet):
        raise TypeError(
            "Expected a horovod.tensorflow.ProcessSet, such as hvd.add_process_set([0, 1]), or None. "
            f"Received: process_set={process_set!r}"
        )


def operation_name(op):
    """Of one of Horovod's operations its name, as "sum" of hvd.Sum; what is none of them, itself."""
    hvd = sys.modules.get("horovod.tensorflow")
    names = ("Average", "Sum", "Adasum", "Min", "Max", "Product")
    known = {} if hvd is None or type(op) is not int else {getattr(hvd, name): name.lower() for name in names}
    return known.get(op, op)


def members(process_set=None):
    """The process set, or that of all workers, if this worker can exchange with it.

    Raises:
        RuntimeError: Horovod is not initialized.
        ValueError: it does not know the process set; or this worker is not in it.
    """
    everyone = initialized().global_process_set
    if process_set is None or process_set is everyone:
        return everyone
    if process_set.process_set_id is None:
        raise ValueError(
            "Horovod does not know the process set. Give it to hvd.init(process_sets=[...]), or to "
            f"hvd.add_process_set. Received: {process_set}"
        )
    if not process_set.included():
        raise ValueError(
            f"Worker {horovod().rank()} is none of the process set's workers, {process_set.ranks}, and cannot exchange "
            "with them. Expected a process set that it is in, or nothing exchanged on this worker."
        )
    return process_set


class HorovodTransport:
    """The workers of a Horovod process set.

    Args:
        process_set: a `horovod.tensorflow.ProcessSet`; None: all workers.
        scoped: whether the names of exchanges get those of the scopes and functions that they are in; if not, they must
            be unique without, and serve workers whose scopes tell of another past, as of other optimizers.

    Raises:
        RuntimeError: Horovod is not initialized.
        ValueError: this worker is not in the process set.
    """

    def __init__(self, process_set=None, scoped=True):
        self._set = members(process_set)
        self._scoped = scoped
        self._hvd = horovod()

    def size(self):
        return self._hvd.size_op(process_set_id=self._set.process_set_id)

    def rank(self):
        """The number within the process set; among all workers Horovod has an op, for their number may change."""
        if self._set is self._hvd.global_process_set:
            return self._hvd.rank_op()
        return self._set.rank() + self._zero()

    def maximum(self, tensor, name):
        return self._exchange(self._hvd.allreduce, tensor, name, op=self._hvd.Max)

    def total(self, tensor, name):
        return self._exchange(self._hvd.allreduce, tensor, name, op=self._hvd.Sum)

    def gather(self, tensor, name):
        return self._exchange(self._hvd.allgather, tensor, name)

    def scatter(self, tensor, counts, name):
        received, _ = self._exchange(self._hvd.alltoall, tensor, name, splits=counts)
        return received

    def _exchange(self, operation, tensor, name, **options):
        options |= {"name": name, "process_set": self._set, "ignore_name_scope": not self._scoped}
        return operation(self._live(tensor), **options)

    def _live(self, tensor):
        """The tensor, no constant of its graph: TensorFlow would exchange that once, when it optimizes the graph.

        Nobody would take part in it who comes later.
        """
        if tf.executing_eagerly() or tensor.shape.rank == 0:  # no number here is known before its step
            return tensor
        return tf.ensure_shape(tensor[self._zero() :], tensor.shape)

    def _zero(self):
        """0, as TensorFlow cannot know."""
        return tf.minimum(self.size(), 0)


def alone(process_set=None) -> bool:
    """Whether there is one worker only, and will be: an elastic job may grow."""
    return members(process_set).size() == 1 and not int(os.environ.get("HOROVOD_ELASTIC", 0))


def everyones(value, name: str, process_set=None) -> list:
    """What each worker has, in their order: anything that pickles. It happens now, even while a graph is made."""
    process_set = members(process_set)
    with tf.init_scope():
        return horovod().allgather_object(value, name=name, process_set=process_set)


def broadcast(data, root_rank: int, name: str, process_set=None) -> tf.Tensor:
    """The data of one worker, for all of them; eager."""
    process_set = members(process_set)
    return horovod().broadcast(tf.constant(data), root_rank, name=name, process_set=process_set)


def unique_name(tensor) -> str:
    """A name for the exchange of a tensor, unique in its graph, and the same on all workers that build it alike."""
    if tf.executing_eagerly():
        return "terngrad"  # eager exchanges follow one another
    of = re.sub("[^A-Za-z0-9_.]", "_", tensor.name) if tf.is_symbolic_tensor(tensor) else "constant"
    return tf.compat.v1.get_default_graph().unique_name(f"terngrad.{of}")
