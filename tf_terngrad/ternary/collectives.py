"""TensorFlow's own collectives as a transport: workers that TF_CONFIG names, without Horovod."""

import contextlib
import functools
import hashlib
import json
import os
import signal
import threading

import numpy as np
import tensorflow as tf

from tf_terngrad.checks import refusal
from tf_terngrad.ternary.transport import Transport, new_turns

GROUP = 0x7474  # TensorFlow's strategies count theirs from 1
LARGEST_KEY = 2**31 - 1  # a prime
FINENESS = 5  # lengths of so many leading bits are sent: what is negotiated for each of them is kept for ever
_started = []  # the strategy: while it lives, so does the server that other workers talk to


def init():
    """Meet the workers that TF_CONFIG names, by TensorFlow's own collectives: nothing but TensorFlow is needed.

    Use it when your cluster sets TF_CONFIG, or Horovod is not installed. Call it on every worker, before anything else
    of TensorFlow runs. From then on, all of `tt.distributed` that is given no `process_set` goes to these workers,
    unless Horovod is initialized. Again, it does nothing.

    Raises:
        ValueError: TF_CONFIG names no workers, or not which of them this one is.
        RuntimeError: TensorFlow has run something before.

    Example:

    ```python
    >>> tt.distributed.init()  # doctest: +SKIP
    ```
    """
    if not _started and _place()[0] > 1:
        with _sigterm_as_it_was(), _told_if_late():
            _started.append(tf.distribute.MultiWorkerMirroredStrategy())
    elif not _started:
        _started.append(None)


@contextlib.contextmanager
def _sigterm_as_it_was():
    """TensorFlow takes SIGTERM for itself, to tell of preemption; a cluster that sends it wants the process to end."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():  # no other may set it
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


@contextlib.contextmanager
def _told_if_late():
    try:
        yield
    except RuntimeError as error:
        if "program startup" not in str(error):
            raise
        raise RuntimeError(
            "tt.distributed.init: TensorFlow has run something before, and can meet no other workers any more. Call it "
            "behind the imports, before any tensor, variable, model or list of devices is made."
        ) from error


def started() -> bool:
    """Whether `init` was called."""
    return bool(_started)


@functools.cache
def _place() -> tuple[int, int]:
    """How many workers TF_CONFIG names, and which of them this one is: a chief first."""
    text = os.environ.get("TF_CONFIG", "")
    try:
        config = json.loads(text)
        jobs = [(job, len(config["cluster"].get(job, ()))) for job in ("chief", "worker")]
        workers = [(job, index) for job, count in jobs for index in range(count)]
        return len(workers), workers.index((config["task"]["type"], int(config["task"]["index"])))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        expected = 'JSON such as {"cluster": {"worker": ["host:1", "host:2"]}, "task": {"type": "worker", "index": 0}}'
        raise ValueError(refusal("tt.distributed.init", "TF_CONFIG", expected, text)) from error


class CollectiveTransport(Transport):
    """The workers that TF_CONFIG names, all of them. It can be made before `tt.distributed.init()`.

    Use it when Horovod is initialized too: give it as `process_set`. After `init` alone, it is what None means.

    Example:

    ```python
    network = tt.distributed.CollectiveTransport()
    ```
    """

    def size(self):
        return tf.constant(_place()[0])

    def rank(self):
        return tf.constant(_place()[1])

    def initialized(self):
        return started()

    def ready(self):
        if not started():
            raise RuntimeError("TensorFlow's collectives have not begun. Call tt.distributed.init() at the beginning.")
        return self

    def maximum(self, tensor, name):
        return self._reduce(tensor, name, "Max")

    def total(self, tensor, name):
        return self._reduce(tensor, name, "Add")

    def gather(self, tensor, name):
        tensor = tf.convert_to_tensor(tensor)
        lengths = self._gather(tf.shape(tensor)[:1], f"{name}.lengths")
        words, per_row = _words(tensor)
        rows = self._gather(_padded(words, tf.reduce_max(lengths) * per_row)[None], name)
        return _unpacked(rows, lengths, tensor)

    def scatter(self, tensor, counts, name):
        tensor, counts = tf.convert_to_tensor(tensor), tf.cast(counts, tf.int32)
        everyones = self._gather(counts[None], f"{name}.counts")
        parts = tf.RaggedTensor.from_row_lengths(_bytes(tensor), counts).to_tensor()
        width = tf.reduce_max(everyones) * tensor.dtype.size
        flat = tf.reshape(parts, (tf.shape(counts)[0], -1))
        flat = tf.pad(flat, [[0, 0], [0, _whole(width) * 4 - tf.shape(flat)[1]]])
        blocks = tf.bitcast(tf.reshape(flat, (tf.shape(counts)[0], -1, 4)), tf.int32)
        rows = self._run(tf.raw_ops.CollectiveAllToAllV2, blocks, name)
        return _unpacked(rows, everyones[:, _place()[1]], tensor)

    @functools.cached_property
    def _turns(self):
        return _shared_turns()

    def tells_of(self, error):
        return isinstance(error, tf.errors.OpError) and "Collective ops is aborted" in str(error)

    def _reduce(self, tensor, name, merge):
        tensor = tf.convert_to_tensor(tensor)
        small = tensor.dtype.is_integer and tensor.dtype.size < 4
        flat = tf.reshape(tf.cast(tensor, tf.int32) if small else tensor, (-1,))
        flat = tf.pad(flat, [[0, tf.cast(tf.equal(tf.size(flat), 0), tf.int32)]])  # there is no ring of nothing
        result = self._run(tf.raw_ops.CollectiveReduceV2, flat, name, merge_op=merge, final_op="Id")
        result = tf.reshape(result[: tf.size(tensor)], tf.shape(tensor))
        return tf.ensure_shape(tf.cast(result, tensor.dtype), tensor.shape)

    def _gather(self, tensor, name):
        return self._run(tf.raw_ops.CollectiveGatherV2, tensor, name)

    def _run(self, operation, tensor, name, **options):
        self.ready()
        with tf.device("/cpu:0"):
            return operation(
                input=tensor,
                group_size=tf.constant(_place()[0]),
                group_key=tf.constant(GROUP),
                instance_key=_key(f"{operation.__name__} {options} {name} {tensor.dtype.name}", tf.shape(tensor)),
                ordering_token=[],
                communication_hint="auto",
                **options,
            )


_shared_turns = functools.cache(new_turns)


def _key(what, shape):
    """A number for an exchange and its shape: workers meet where they have the same, from within a graph or not."""
    key = tf.constant(int.from_bytes(hashlib.blake2b(what.encode(), digest_size=4).digest()) % LARGEST_KEY, tf.int64)
    for length in tf.unstack(tf.cast(shape, tf.int64)):
        key = (31 * key + length) % LARGEST_KEY
    return tf.cast(key, tf.int32)


def _whole(count):
    """How many int32 to send for so many bytes: at least one, for nothing cannot be gathered; at most 3 % more."""
    words = tf.maximum((count + 3) // 4, 1)
    exponent = tf.searchsorted(2 ** np.arange(31, dtype=np.int32), words[None], side="right")[0] - 1
    grain = tf.bitwise.left_shift(1, tf.maximum(exponent - FINENESS, 0))
    return (words + grain - 1) // grain * grain


def _bytes(tensor):
    """uint8 (rows, bytes of a row)."""
    if tensor.dtype == tf.bool:
        tensor = tf.cast(tensor, tf.uint8)
    data = tensor if tensor.dtype == tf.uint8 else tf.bitcast(tensor, tf.uint8)
    width = tf.reduce_prod(tf.shape(tensor)[1:]) * tensor.dtype.size
    return tf.reshape(data, (tf.shape(tensor)[0], width))


def _words(tensor):
    """The tensor as uint8, and how many of them a row has."""
    data = _bytes(tensor)
    return tf.reshape(data, (-1,)), tf.shape(data)[1]


def _padded(data, count):
    """The bytes as int32, with zeros up to so many bytes."""
    data = tf.pad(data, [[0, _whole(count) * 4 - tf.size(data)]])
    return tf.bitcast(tf.reshape(data, (-1, 4)), tf.int32)


def _unpacked(rows, lengths, like):
    """Of each worker's int32 words as many rows as it sent, as the dtype that they had."""
    kind = tf.uint8 if like.dtype == tf.bool else like.dtype
    width = tf.reduce_prod(tf.shape(like)[1:]) * kind.size
    data = tf.reshape(tf.bitcast(rows, tf.uint8), (tf.shape(rows)[0], -1))
    data = tf.boolean_mask(data, tf.sequence_mask(lengths * width, tf.shape(data)[1]))
    if kind != tf.uint8:
        data = tf.bitcast(tf.reshape(data, (-1, kind.size) if kind.size > 1 else (-1,)), kind)
    shape = tf.concat([tf.reduce_sum(lengths)[None], tf.shape(like)[1:]], 0)
    return tf.ensure_shape(tf.cast(tf.reshape(data, shape), like.dtype), (None, *like.shape[1:]))
