"""Horovod's workers as a transport. No other file of the package imports it, and this one only when it is needed."""

import contextlib
import functools
import importlib
import os
import sys

import tensorflow as tf

from tf_terngrad.checks import refusal
from tf_terngrad.ternary.transport import QUESTION, Transport, new_turns


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


_turns_of = functools.cache(lambda process_set: new_turns())
"""Of each process set, the variable that its exchanges take turns by."""


@functools.cache
def _named(operation, _, **options):
    """One of Horovod's operations as a graph of its own, for eager exchanges: it calls those of graphs alone by name.

    The name is what it tells if a worker does not come, and what it keeps the negotiated by.
    """
    return tf.function(functools.partial(operation, **options), autograph=False, reduce_retracing=True)


@contextlib.contextmanager
def lost_workers(*others):
    """Within it, an error that tells of workers that do not answer becomes the one that an elastic run goes on from.

    Args:
        others: further kinds of errors that do.
    """
    internal = importlib.import_module("horovod.common.exceptions").HorovodInternalError
    try:
        yield
    except tf.errors.InvalidArgumentError:  # of a step that is refused: it would be refused again
        raise
    except (tf.errors.OpError, *others) as error:
        if not (isinstance(error, others) or HorovodTransport().tells_of(error)):
            raise
        raise internal(str(error)) from error


def elastic_run(function):
    """`hvd.elastic.run(function)`."""
    return importlib.import_module("horovod.tensorflow.elastic").run(function)


def changing_hosts():
    """What listens to the launcher, which tells of workers that may come or have to leave."""
    state = importlib.import_module("horovod.common.elastic").State
    return state(horovod().broadcast_object, horovod().rank)


class HorovodTransport(Transport):
    """The workers of a Horovod process set. It can be made before `hvd.init()`; `ready` tells whether it serves.

    Args:
        process_set: a `horovod.tensorflow.ProcessSet`; None: all workers.
        scoped: whether the names of exchanges get those of the scopes and functions that they are in; if not, they must
            be unique without, and serve workers whose scopes tell of another past, as of other optimizers.

    Raises:
        TypeError: it is no process set of Horovod's.
    """

    def __init__(self, process_set=None, scoped=False):
        if process_set is not None and not isinstance(process_set, horovod().ProcessSet):
            expected = "a horovod.tensorflow.ProcessSet, such as hvd.add_process_set([0, 1]), a Transport, or None"
            raise TypeError(refusal("tf_terngrad", "process_set", expected, process_set))
        self._process_set = process_set
        self._scoped = scoped

    def size(self):
        return horovod().size_op(process_set_id=self._set.process_set_id)

    def rank(self):
        """The number within the process set; among all workers Horovod has an op, for their number may change."""
        if self._is_of_all:
            return horovod().rank_op()
        return self._set.rank() + self._zero()

    def ranks(self):
        some = self._set
        return list(range(some.size())) if self._is_of_all else sorted(some.ranks)

    def alone(self):
        """An elastic job may grow."""
        return self._set.size() == 1 and not int(os.environ.get("HOROVOD_ELASTIC", 0))

    def members(self, process_set):
        return HorovodTransport(process_set, self._scoped)

    def initialized(self):
        return horovod().is_initialized()

    def ready(self):
        _ = self._set
        return self

    def maximum(self, tensor, name):
        return self._exchange(horovod().allreduce, tensor, name, op=horovod().Max)

    def total(self, tensor, name):
        return self._exchange(horovod().allreduce, tensor, name, op=horovod().Sum)

    def gather(self, tensor, name):
        return self._exchange(horovod().allgather, tensor, name)

    def scatter(self, tensor, counts, name):
        received, _ = self._exchange(horovod().alltoall, tensor, name, counts)
        return received

    def broadcast(self, tensor, root_rank, name):
        return self._exchange(horovod().broadcast, tensor, name, root_rank=root_rank)

    def everyones(self, value, name):
        """What may be asked in a py_function goes without a function: the graph that waits for it can run none."""
        if name != QUESTION:
            return super().everyones(value, name)
        some = self._set
        with tf.init_scope():
            return horovod().allgather_object(value, name=name, process_set=some)

    @property
    def _turns(self):
        """Every transport of these workers takes part."""
        return _turns_of(self._set)

    def tells_of(self, error):
        told = f"{type(error).__module__} {error}".lower()
        return any(sign in told for sign in ("horovod", "gloo/transport", "closed by peer", "reset by peer"))

    def operation_name(self, op):
        """As "sum" of hvd.Sum."""
        hvd = sys.modules.get("horovod.tensorflow")
        names = ("Average", "Sum", "Adasum", "Min", "Max", "Product")
        known = {} if hvd is None or type(op) is not int else {getattr(hvd, name): name.lower() for name in names}
        return known.get(op, op)

    def compression_name(self, compression):
        """As "fp16" of hvd.Compression.fp16; None too where Horovod was not imported yet."""
        hvd = sys.modules.get("horovod.tensorflow")
        known = {} if hvd is None else {"none": hvd.Compression.none, "fp16": hvd.Compression.fp16}
        return next((name for name, own in known.items() if own is compression), None)

    def is_of(self, process_set) -> bool:
        """Whether these are the workers of a process set; None: all of them."""
        everyone = horovod().global_process_set
        return (self._process_set or everyone) is (process_set or everyone)

    @property
    def _is_of_all(self):
        return self._set is horovod().global_process_set

    @property
    def _set(self):
        """The process set, if this worker can exchange with it now."""
        if not self.initialized():
            raise RuntimeError(
                "Horovod is not initialized. Call horovod.tensorflow.init() before anything is exchanged."
            )
        some, everyone = self._process_set, horovod().global_process_set
        if some is None or some is everyone:
            return everyone
        if some.process_set_id is None:
            raise ValueError(
                "Horovod does not know the process set. Give it to hvd.init(process_sets=[...]), or to "
                f"hvd.add_process_set. Received: {some}"
            )
        if not some.included():
            raise ValueError(
                f"Worker {horovod().rank()} is none of the process set's workers, {some.ranks}, and cannot exchange "
                "with them. Expected a process set that it is in, or nothing exchanged on this worker."
            )
        return some

    def _exchange(self, operation, tensor, name, *further, **options):
        options |= {"name": name, "process_set": self._set, "ignore_name_scope": not self._scoped}
        if tf.executing_eagerly():
            return _named(operation, self._set.process_set_id, **options)(tensor, *further)
        return operation(self._live(tensor), *further, **options)

    def _live(self, tensor):
        """The tensor, no constant of its graph: TensorFlow would exchange that once, when it optimizes the graph.

        Nobody would take part in it who comes later.
        """
        if tensor.shape.rank == 0:  # no number here is known before its step
            return tensor
        return tf.ensure_shape(tensor[self._zero() :], tensor.shape)

    def _zero(self):
        """0, as TensorFlow cannot know."""
        return tf.minimum(self.size(), 0)
