"""Runs a command as N Horovod workers, each on a host of its own, over links of a given rate: on this one machine.

    python -m tools.network_lab --workers=4 --rate=100mbit -- python train.py --compression=terngrad --output=runs/slow

Needs root, Linux and iproute2. It prints what the workers say, and at the end the bytes that each of them sent and
received, read from its network card. From Python:

    with Lab(4, rate=100e6) as lab:
        for worker in lab.run(["python", "script.py"]):
            print(worker.rank, worker.seconds, worker.traffic.sent)

A worker that wants to know the bytes of a part of its run calls `own_traffic()` before and after it.
"""

import contextlib
import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

from absl import app, flags

from tools.emulated_network import CARD, SIGNALS, CannotEmulate, EmulatedNetwork, Traffic

SECONDS_FOR_THE_OTHERS = 10  # after one worker has failed; they mostly wait for it in an exchange


class WorkersFailed(RuntimeError):
    """A worker failed, or the time was over; the message tells which and the last that it said."""


@dataclasses.dataclass(frozen=True)
class Worker:
    """What became of a worker.

    Attributes:
        rank: Its number.
        code: Its exit code, negative: the signal that ended it.
        seconds: From its start to its end.
        traffic: What its network card sent and received meanwhile, `Traffic`.
        output: What it wrote, standard output and errors.
    """

    rank: int
    code: int
    seconds: float
    traffic: Traffic
    output: str


class Lab(EmulatedNetwork):
    """An emulated network with a Horovod worker on each host; arguments are those of `EmulatedNetwork`."""

    def run(self, command, env=None, timeout=None, echo=False):
        """Runs a command as Horovod workers, and waits for them.

        Args:
            command: A list of strings.
            env: A dict of environment variables beside this process's; no HOROVOD_* variable is inherited.
            timeout: Seconds.
            echo: Print what the workers say, each line with the worker's rank in front.

        Returns:
            A list of `Worker`, by rank.

        Raises:
            WorkersFailed: Not all of them ended with exit code 0; the others have been killed.
        """
        with contextlib.ExitStack() as stack:
            port = stack.enter_context(self._rendezvous())
            before, start = self.traffic(), time.monotonic()
            runs = []
            for rank in range(self.hosts):
                runs.append(_Run(rank, self._start(rank, command, port, env or {}), echo))
                stack.callback(runs[-1].end)
            late = not _wait(runs, timeout)
            seconds = [(run.ended or time.monotonic()) - start for run in runs]
            for run in runs:
                run.end()
            spent = [after - earlier for after, earlier in zip(self.traffic(), before, strict=True)]
        workers = [
            Worker(run.rank, run.process.returncode, seconds[run.rank], spent[run.rank], "".join(run.lines))
            for run in runs
        ]
        if any(worker.code for worker in workers):
            raise WorkersFailed(_report(workers, f" after {timeout} s, the time that they had" if late else ""))
        return workers

    @contextlib.contextmanager
    def _rendezvous(self):
        """The server where Gloo's workers find each other, on the switch; the port that it listens to."""
        try:
            from horovod.runner.common.util.hosts import get_host_assignments, parse_hosts
            from horovod.runner.http.http_server import RendezvousServer
        except ImportError as error:
            raise CannotEmulate(f"Horovod is not installed: run python tools/build_horovod.py. ({error})") from error
        server = RendezvousServer()
        port = self.on_switch(server.start)
        hosts = ",".join(f"{self.host_address(rank)}:1" for rank in range(self.hosts))
        server.init(get_host_assignments(parse_hosts(hosts), self.hosts))
        try:
            yield port
        finally:
            server.stop()
            server._httpd.server_close()

    def _start(self, rank, command, port, env):
        return self.start(
            rank,
            command,
            env=self._environment(rank, port) | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def _environment(self, rank, port):
        """The variables that horovodrun sets for a worker alone on its host."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HOROVOD_")}
        job = {"RANK": rank, "SIZE": self.hosts, "LOCAL_RANK": 0, "LOCAL_SIZE": 1}
        job |= {"CROSS_RANK": rank, "CROSS_SIZE": self.hosts, "HOSTNAME": self.host_address(rank)}
        job |= {"GLOO_RENDEZVOUS_ADDR": self.address, "GLOO_RENDEZVOUS_PORT": port, "GLOO_IFACE": CARD}
        job |= {"CONTROLLER": "gloo", "CPU_OPERATIONS": "gloo"}
        return inherited | {"PYTHONUNBUFFERED": "1"} | {f"HOROVOD_{name}": str(value) for name, value in job.items()}


class _Run:
    """A worker's process, and a thread that takes what it says."""

    def __init__(self, rank, process, echo):
        self.rank, self.process, self.lines, self.ended = rank, process, [], None
        self._listener = threading.Thread(target=self._listen, args=(echo,), daemon=True)
        self._listener.start()

    def _listen(self, echo):
        for line in self.process.stdout:
            self.lines.append(line.decode(errors="replace"))
            if echo:
                print(f"[{self.rank}] {self.lines[-1]}", end="", flush=True)

    def running(self):
        if self.ended is None and self.process.poll() is not None:
            self.ended = time.monotonic()
        return self.ended is None

    def end(self):
        """Kills the process if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._listener.join(5)  # a child of its own may keep the pipe open
        self.process.stdout.close()


def exit_on_signals():
    """A signal that ends this process lets it clean up first."""
    for number in SIGNALS:
        signal.signal(number, lambda number, _: sys.exit(128 + number))


def own_traffic(card=CARD):
    """What the network card of this process's host has sent and received so far."""
    for line in pathlib.Path("/proc/self/net/dev").read_text().splitlines():
        name, _, numbers = line.strip().partition(":")
        if name == card:
            counters = [int(number) for number in numbers.split()]
            return Traffic(sent=counters[8], received=counters[0], packets=counters[9])
    raise CannotEmulate(f"There is no network card {card} here. Run this by tools.network_lab.")


def _wait(runs, timeout):
    """Whether the workers ended in time; when one fails, the others get little of it."""
    deadline = float("inf") if timeout is None else time.monotonic() + timeout
    failed = False
    while any([run.running() for run in runs]):
        if not failed and any(run.process.returncode for run in runs):
            failed, deadline = True, min(deadline, time.monotonic() + SECONDS_FOR_THE_OTHERS)
        if time.monotonic() > deadline:
            return failed
        time.sleep(0.05)
    return True


def _report(workers, when):
    """How each worker ended that failed, and the last that one of them said: one that was not killed, if there is."""
    failed = sorted((worker for worker in workers if worker.code), key=lambda worker: worker.code == -signal.SIGKILL)
    told = [f"worker {worker.rank} ended with {_code(worker.code)}" for worker in failed]
    return f"{', '.join(told)}{when}. Worker {failed[0].rank} said last:\n{failed[0].output[-3000:]}"


def _code(code):
    return f"exit code {code}" if code > 0 else signal.Signals(-code).name


def define_flags():
    """The flags of the command line; scripts that import this module have flags of their own."""
    flags.DEFINE_integer("workers", 2, "Workers, each on its own host.", lower_bound=1)
    flags.DEFINE_string("rate", "unlimited", "Of each network card, in both directions: 100mbit, 1gbit, unlimited.")
    flags.DEFINE_float("delay", 0, "Milliseconds from one host to another; needs a kernel with netem.", lower_bound=0)
    flags.DEFINE_float("timeout", None, "Seconds after which the workers are killed.", lower_bound=0)


def main(arguments):
    """Run the command, and print the bytes."""
    # Workers import this module for their traffic, and should not wait for TensorFlow too.
    from tf_terngrad.cli.rates import bits_per_second
    from tf_terngrad.console import show_table

    options = flags.FLAGS
    command = arguments[1:]
    if not command:
        raise app.UsageError("Expected a command behind --, such as: -- python train.py")
    exit_on_signals()
    try:
        with Lab(options.workers, bits_per_second(options.rate), options.delay / 1000) as lab:
            workers = lab.run(command, timeout=options.timeout, echo=True)
    except (CannotEmulate, WorkersFailed, ValueError, OSError) as error:
        sys.exit(f"network_lab: {error}")
    rows = [
        (each.rank, f"{each.seconds:.2f}", f"{each.traffic.sent:,}", f"{each.traffic.received:,}") for each in workers
    ]
    show_table(["worker", "seconds", "bytes sent", "bytes received"], rows)


if __name__ == "__main__":
    define_flags()
    app.run(main)
