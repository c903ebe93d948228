"""N workers in one process: a thread each, and a transport that hands tensors over in memory."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf

import tf_terngrad as tt


class Meeting:
    """Where all workers lay down a value, and take all of them away. Nobody waits for one that has left."""

    def __init__(self, workers):
        self.workers = workers
        self._changed = threading.Condition()
        self._rounds, self._counts, self._left = {}, [0] * workers, set()

    def everyones(self, rank, name, value):
        with self._changed:
            number = self._counts[rank]
            self._counts[rank] += 1
            laid = self._rounds.setdefault(number, {})
            laid[rank] = (name, value)
            self._changed.notify_all()
            self._changed.wait_for(lambda: len(laid) == self.workers or self._left - laid.keys())
            if len(laid) < self.workers:
                raise RuntimeError(f"worker {rank} waits in {name!r} for workers {self._left - laid.keys()}, who left")
        names, values = zip(*(laid[other] for other in range(self.workers)), strict=True)
        assert len(set(names)) == 1, names
        return values

    def leave(self, rank):
        with self._changed:
            self._left.add(rank)
            self._changed.notify_all()


class VirtualTransport(tt.distributed.Transport):
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
    """What function(transport) gives for each of the workers, in their order; the error of the first that failed."""
    meeting = Meeting(workers)
    failures = []

    def work(rank):
        try:
            return function(VirtualTransport(meeting, rank))
        except BaseException as error:
            failures.append(error)
            raise
        finally:
            meeting.leave(rank)

    with ThreadPoolExecutor(workers) as threads:
        done = [threads.submit(work, rank) for rank in range(workers)]
    if failures:
        raise failures[0]
    return [one.result() for one in done]
