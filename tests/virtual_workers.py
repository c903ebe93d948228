"""N workers in one process: a thread each, and a transport that hands tensors over in memory."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf


class Meeting:
    """Where all workers lay down a value, and take all of them away."""

    def __init__(self, workers):
        self.workers = workers
        self._values = [None] * workers
        self._barrier = threading.Barrier(workers, timeout=60)

    def everyones(self, rank, name, value):
        self._values[rank] = (name, value)
        self._barrier.wait()
        names, values = zip(*self._values, strict=True)
        assert len(set(names)) == 1, names
        self._barrier.wait()
        return values


class VirtualTransport:
    """A transport of one of N workers; eager only."""

    def __init__(self, meeting, rank):
        self._meeting, self._rank = meeting, rank
        self._sent = 0

    def sent(self):
        """The bytes that this worker has sent, were sums made in rings."""
        return self._sent

    def size(self):
        return tf.constant(self._meeting.workers)

    def rank(self):
        return tf.constant(self._rank)

    def maximum(self, tensor, name):
        self._in_ring(tensor)
        return tf.constant(np.max(self._everyones(name, tensor), axis=0))

    def total(self, tensor, name):
        self._in_ring(tensor)
        return tf.constant(np.sum(self._everyones(name, tensor), axis=0, dtype=tensor.numpy().dtype))

    def gather(self, tensor, name):
        self._sent += (self._meeting.workers - 1) * tensor.numpy().nbytes
        return tf.constant(np.concatenate(self._everyones(name, tensor)))

    def scatter(self, tensor, counts, name):
        assert sum(counts.numpy()) == len(tensor)
        parts = np.split(tensor.numpy(), np.cumsum(counts.numpy())[:-1])
        self._sent += tensor.numpy().nbytes - parts[self._rank].nbytes
        return tf.constant(np.concatenate([p[self._rank] for p in self._meeting.everyones(self._rank, name, parts)]))

    def _in_ring(self, tensor):
        self._sent += 2 * (self._meeting.workers - 1) / self._meeting.workers * tensor.numpy().nbytes

    def _everyones(self, name, tensor):
        return self._meeting.everyones(self._rank, name, tensor.numpy())


def run(workers, function):
    """What function(transport) gives for each of the workers, in their order."""
    meeting = Meeting(workers)
    with ThreadPoolExecutor(workers) as threads:
        return list(threads.map(lambda rank: function(VirtualTransport(meeting, rank)), range(workers)))
