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


class HorovodTransport:
    """The workers of a Horovod process set.

    Args:
        process_set: a `horovod.tensorflow.ProcessSet`; None: all workers.

    Raises:
        RuntimeError: Horovod is not initialized.
    """

    def __init__(self, process_set=None):
        self._hvd = initialized()
        self._set = process_set or self._hvd.global_process_set

    def size(self):
        return self._hvd.size_op(process_set_id=self._set.process_set_id)

    def rank(self):
        """The number within the process set; among all workers Horovod has an op, for their number may change."""
        if self._set is self._hvd.global_process_set:
            return self._hvd.rank_op()
        return tf.constant(self._set.rank())

    def maximum(self, tensor, name):
        return self._hvd.allreduce(tensor, op=self._hvd.Max, name=name, process_set=self._set)

    def total(self, tensor, name):
        return self._hvd.allreduce(tensor, op=self._hvd.Sum, name=name, process_set=self._set)

    def gather(self, tensor, name):
        return self._hvd.allgather(tensor, name=name, process_set=self._set)

    def scatter(self, tensor, counts, name):
        received, _ = self._hvd.alltoall(tensor, splits=counts, name=name, process_set=self._set)
        return received


def alone(process_set=None) -> bool:
    """Whether there is one worker only, and will be: an elastic job may grow."""
    process_set = process_set or initialized().global_process_set
    return process_set.size() == 1 and not int(os.environ.get("HOROVOD_ELASTIC", 0))


def everyones(value, name: str, process_set=None) -> list:
    """What each worker has, in their order: anything that pickles. It happens now, even while a graph is made."""
    hvd = initialized()
    with tf.init_scope():
        return hvd.allgather_object(value, name=name, process_set=process_set or hvd.global_process_set)


def broadcast(data, root_rank: int, name: str, process_set=None) -> tf.Tensor:
    """The data of one worker, for all of them; eager."""
    hvd = initialized()
    return hvd.broadcast(tf.constant(data), root_rank, name=name, process_set=process_set or hvd.global_process_set)


def unique_name(tensor) -> str:
    """A name for the exchange of a tensor, unique in its graph, and the same on all workers that build it alike."""
    if tf.executing_eagerly():
        return "terngrad"  # eager exchanges follow one another
    of = re.sub("[^A-Za-z0-9_.]", "_", tensor.name) if tf.is_symbolic_tensor(tensor) else "constant"
    return tf.compat.v1.get_default_graph().unique_name(f"terngrad.{of}")
