"""Real workers for tests: N processes that call a function and hand back what it returns.

They are Horovod's, over Gloo; or, with by="tensorflow", those that TF_CONFIG names.

    def square_sum(x):
        import horovod.tensorflow as hvd
        return hvd.allreduce(x * hvd.rank(), op=hvd.Sum).numpy()

    first, second = run_workers(square_sum, np.ones(3))

The workers have called hvd.init(), or tt.distributed.init(), and stay for the next call, which takes some milliseconds.
Starting others takes a second: they are forked from one process that has imported TensorFlow.
"""

import atexit
import contextlib
import ctypes
import faulthandler
import json
import multiprocessing
import os
import pathlib
import signal
import socket
import sys
import tempfile
import time
import traceback
from multiprocessing import forkserver
from multiprocessing.connection import Pipe, wait

import cloudpickle
import patience

PR_SET_PDEATHSIG = 1  # of Linux's prctl
SHOWN = 6000  # characters of a worker's output


class WorkersFailed(AssertionError):
    """A worker raised, died or did not answer; the message has what each of them said."""


def run_workers(function, *arguments, workers=2, env=None, silence=patience.SILENCE, by="horovod"):
    """Calls `function(*arguments)` in each of N workers.

    Args:
        function: Any function, of a test's module too; it asks hvd.rank() who it is.
        *arguments: The same for every worker.
        workers: Their number.
        env: A dict of environment variables; such workers are started for this one call. HOROVOD_* variables cost
            nothing more; others may be read while TensorFlow is imported, so each worker imports it anew.
        silence: Seconds for which none of them gives a sign of life; then they are taken for hung.
        by: A key of `MEETINGS`: what they talk by.

    Returns:
        A list of what each rank returned.

    Raises:
        WorkersFailed: Not every rank returned. All are killed.
    """
    if env is None:
        return _kept(workers, by).run(function, *arguments, silence=silence)
    with contextlib.closing(Workers(workers, env, by)) as fresh:
        return fresh.run(function, *arguments, silence=silence)


class Workers:
    """N processes that wait for functions to call; `close` ends them.

    Args:
        size: Their number.
        env: A dict of environment variables beside those of this process; no HOROVOD_* variable is inherited.
        by: A key of `MEETINGS`.
    """

    def __init__(self, size, env=None, by="horovod"):
        self.size, self.by = size, by
        self.closed = False
        self._folder = tempfile.TemporaryDirectory(prefix="workers-")
        self._meeting = MEETINGS[by](size)
        self._processes, self._connections, self._shown = [], [], [0] * size
        for rank in range(size):
            self._start(rank, self._meeting.environment(rank), env or {})

    def _start(self, rank, meeting, others):
        ours, theirs = Pipe()
        forks = all(name.startswith("HOROVOD_") for name in others)
        context = multiprocessing.get_context("forkserver" if forks else "spawn")
        if forks:
            context.set_forkserver_preload(["horovod.tensorflow"])
        call = theirs, type(self._meeting).begin, meeting | others, self._output(rank)
        process = context.Process(target=_serve, args=call, daemon=True)
        process.start()
        theirs.close()
        self._processes.append(process)
        self._connections.append(ours)

    def run(self, function, *arguments, silence=patience.SILENCE):
        """As `run_workers`."""
        call = _pickled(function, arguments)
        self._signal(signal.SIGCONT)
        for connection in self._connections:
            with contextlib.suppress(BrokenPipeError):  # a dead worker is noticed when its answer does not come
                connection.send_bytes(call)
        answers = self._answers(silence)
        if [kind for kind, _ in answers] != ["returned"] * self.size:
            raise WorkersFailed(self._report(answers, silence))
        if self._meeting.busy:
            self._signal(signal.SIGSTOP)
        self._shown = [self._output(rank).stat().st_size for rank in range(self.size)]
        return [value for _, value in answers]

    def _signal(self, number):
        for process in self._processes:
            if process.is_alive():
                os.kill(process.pid, number)

    def _watch(self, silence):
        written = [self._output(rank) for rank in range(self.size)]
        return patience.Watch(
            patience.Work(*(process.pid for process in self._processes)),
            lambda: sum(file.stat().st_size for file in written if file.exists()),
            silence,
        )

    def _answers(self, silence):
        """A pair (returned, value), (raised, traceback), (died, exit code) or (hung, None) of each rank."""
        answers = [("hung", None)] * self.size
        waiting, watch = list(self._connections), self._watch(silence)
        while waiting:
            ready = wait(waiting, patience.GLANCE)
            if not ready and not watch.lives():
                break
            for connection in ready:
                rank = self._connections.index(connection)
                try:
                    answers[rank] = cloudpickle.loads(connection.recv_bytes())
                except (EOFError, ConnectionResetError):
                    self._processes[rank].join()
                    answers[rank] = ("died", self._processes[rank].exitcode)
                waiting.remove(connection)
                if answers[rank][0] != "returned":
                    watch = self._watch(min(silence, self._meeting.silence_of_the_others))
        return answers

    def _report(self, answers, silence):
        """What each rank did and said; the workers are ended, since nobody knows what they still wait for."""
        self._signal(signal.SIGUSR1)  # a worker then writes where it is
        time.sleep(0.3)
        parts = []
        for rank, (kind, content) in enumerate(answers):
            said = self._output(rank).read_bytes()[self._shown[rank] :][-SHOWN:].decode(errors="replace")
            told = {
                "returned": "returned",
                "raised": f"raised\n{content}",
                "died": f"died with exit code {content}",
                "hung": f"did not return ({silence} s without a sign of life); its threads, innermost call first:",
            }[kind]
            parts.append(f"----- rank {rank} {told}\n{said}")
        self.close()
        return "\n" + "\n".join(parts)

    def _output(self, rank):
        return pathlib.Path(self._folder.name, f"{rank}.txt")

    def close(self):
        """Kills the processes."""
        if self.closed:
            return
        self.closed = True
        self._signal(signal.SIGKILL)
        for process, connection in zip(self._processes, self._connections, strict=True):
            process.join()
            connection.close()
        self._meeting.close()
        self._folder.cleanup()


class HorovodMeeting:
    """Where Horovod's workers meet.

    Args:
        size: Their number.

    Attributes:
        busy: Whether idle workers go on to talk to each other, a thousand times a second.
        silence_of_the_others: Seconds, after one worker has failed; they mostly wait for it in an exchange.
    """

    busy = True
    silence_of_the_others = 3

    def __init__(self, size):
        # Here, so that the other tests do without Horovod.
        from horovod.runner.common.util.hosts import get_host_assignments, parse_hosts
        from horovod.runner.http.http_server import RendezvousServer

        self._size = size
        self._rendezvous = RendezvousServer()
        self._port = self._rendezvous.start()  # a free one
        self._rendezvous.init(get_host_assignments(parse_hosts(f"localhost:{size}"), size))

    def environment(self, rank):
        """The variables of a worker's process."""
        return _environment(rank, self._size, self._port)

    def close(self):
        """Ends it."""
        self._rendezvous.stop()
        self._rendezvous._httpd.server_close()

    @staticmethod
    def begin():
        """What each worker does first."""
        import horovod.tensorflow as hvd

        hvd.init()


class TensorFlowMeeting:
    """The addresses of workers that TF_CONFIG names; otherwise as `HorovodMeeting`."""

    busy = False  # and if they were stopped, the others would take them for dead
    silence_of_the_others = 60  # they miss its signs of life for ten

    def __init__(self, size):
        free = [socket.create_server(("localhost", 0)) for _ in range(size)]
        self._addresses = [f"localhost:{server.getsockname()[1]}" for server in free]
        for server in free:
            server.close()

    def environment(self, rank):
        config = {"cluster": {"worker": self._addresses}, "task": {"type": "worker", "index": rank}}
        others = {name: value for name, value in os.environ.items() if not name.startswith("HOROVOD_")}
        return others | {"TF_CONFIG": json.dumps(config)}

    def close(self):
        pass

    @staticmethod
    def begin():
        import tf_terngrad as tt

        tt.distributed.init()


MEETINGS = {"horovod": HorovodMeeting, "tensorflow": TensorFlowMeeting}

_last = None


def _kept(size, by):
    """Workers that stay until others are asked for: each holds 650 MB."""
    global _last
    if _last is None or _last.closed or (_last.size, _last.by) != (size, by):
        _close_kept()
        _last = Workers(size, by=by)
    return _last


@atexit.register  # after, so before, what multiprocessing registers: it would wait for the stopped workers
def _close_kept():
    if _last is not None:
        _last.close()


def _environment(rank, size, port):
    """The variables that horovodrun sets for rank `rank` of `size` on this machine."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HOROVOD_")}
    of_the_job = {"RANK": rank, "SIZE": size, "LOCAL_RANK": rank, "LOCAL_SIZE": size, "CROSS_RANK": 0, "CROSS_SIZE": 1}
    gloo = {"GLOO_RENDEZVOUS_ADDR": "127.0.0.1", "GLOO_RENDEZVOUS_PORT": port, "GLOO_IFACE": "lo"}
    # The time between two calls, in which the workers are stopped, must not count as a partner that does not answer.
    gloo["GLOO_TIMEOUT_SECONDS"] = 24 * 60 * 60
    fixed = {"HOSTNAME": "localhost", "CONTROLLER": "gloo", "CPU_OPERATIONS": "gloo"}
    horovod = {f"HOROVOD_{name}": str(value) for name, value in (of_the_job | gloo | fixed).items()}
    return inherited | horovod


def _pickled(function, arguments):
    """A call as bytes; functions of a test's module travel as code, so that workers need not import the tests."""
    module = sys.modules.get(getattr(function, "__module__", None))
    if module is None or not module.__name__.startswith("test_"):
        return cloudpickle.dumps((function, arguments))
    cloudpickle.register_pickle_by_value(module)
    try:
        return cloudpickle.dumps((function, arguments))
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def _serve(connection, begin, environment, output):
    """What a worker does: calls one function after the other until the tests end."""
    _end_with_the_tests()
    os.environ.clear()
    os.environ.update(environment)
    with output.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout.reconfigure(line_buffering=True)
    faulthandler.register(signal.SIGUSR1)
    with contextlib.suppress(EOFError):
        _answer_calls(connection, begin)


def _end_with_the_tests():
    """Lets no worker survive the tests, be it stopped or waiting: it is killed when the process that forked it ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # The server that forks ends when nobody holds this any more, and it hands it down to what it forks.
    alive = forkserver._forkserver._forkserver_alive_fd
    if alive is not None:
        os.close(alive)


def _answer_calls(connection, begin):
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    begin()
    while True:
        call = connection.recv_bytes()
        try:
            function, arguments = cloudpickle.loads(call)
            answer = cloudpickle.dumps(("returned", function(*arguments)))
        except BaseException:
            answer = cloudpickle.dumps(("raised", traceback.format_exc()))
        connection.send_bytes(answer)
