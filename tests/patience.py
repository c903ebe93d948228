"""Waits for processes by signs of life, not by a clock: a busy machine may take its time, a hung process may not.

A process lives while it or what it has started uses the processor, or writes. What only waits uses a little of it too:
less than `IDLE` of a core is no sign of life. (Horovod's workers ask one another a thousand times a second, which takes
more: tests/workers.py leaves those threads out; a hung `horovodrun` is given up after `MOST` seconds.)
"""

import contextlib
import subprocess
import threading
import time

import psutil

SILENCE = 120
"""Seconds without a sign of life after which a process is given up."""

IDLE = 0.15
"""Share of one core that processes may use while they only wait."""

MOST = 1800
"""Seconds after which even a process that works is given up: it may do so for ever."""

GLANCE = 0.05


class GaveUp(AssertionError):
    """A process gave no sign of life any more."""


class Watch:
    """Tells whether some processes still live.

    Args:
        used: a function that gives how many seconds of the processor they have used so far.
        written: a function that gives how much they have written so far.
        silence: seconds without a sign of life that are too many.
        most: seconds that are too many anyway.
    """

    def __init__(self, used, written=lambda: 0, silence=SILENCE, most=MOST):
        self._use, self._written = used, written
        self._silence, self._end = silence, time.monotonic() + most
        self._used, self._said = used(), written()
        self._since = time.monotonic()

    def lives(self) -> bool:
        """Whether there was a sign of life lately."""
        now = time.monotonic()
        if now - self._since < min(1.0, self._silence):  # looking costs time too
            return now < self._end
        used, said = self._use(), self._written()
        worked = used - self._used > IDLE * (now - self._since)
        if worked or said != self._said or used < self._used:  # less: one of them has ended
            self._used, self._said, self._since = used, said, now
        return now < self._end and now - self._since < self._silence


def processor_seconds(identifier) -> float:
    """What a process and all that it has started have used of the processor."""
    total = 0.0
    for process in _tree(identifier):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def _tree(identifier):
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(identifier)
        return [root, *root.children(recursive=True)]
    return []


def run(command, silence=SILENCE, most=MOST, **options) -> subprocess.CompletedProcess:
    """Run a command as `subprocess.run(command, capture_output=True, text=True)` does, with patience.

    Raises:
        GaveUp: it has given no sign of life for so many seconds; it and what it has started are killed.
    """
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    return finish(subprocess.Popen(command, **options), silence, most)


def finish(process, silence=SILENCE, most=MOST) -> subprocess.CompletedProcess:
    """Wait for a process, and take what it writes meanwhile; as `run`."""
    kept = {"stdout": [], "stderr": []}
    listeners = [
        threading.Thread(target=lambda name=name: kept[name].extend(getattr(process, name)), daemon=True)
        for name in kept
        if getattr(process, name)
    ]
    for listener in listeners:
        listener.start()
    try:
        _wait(process, kept, silence, most)
    finally:
        for listener in listeners:
            listener.join(5)  # what it has started may keep the pipe open
        for name in kept:
            if getattr(process, name):
                getattr(process, name).close()
    return subprocess.CompletedProcess(process.args, process.returncode, *map("".join, kept.values()))


def _wait(process, kept, silence, most):
    watch = Watch(lambda: processor_seconds(process.pid), lambda: sum(map(len, kept.values())), silence, most)
    while process.poll() is None:
        if not watch.lives():
            kill(process.pid)
            process.wait()
            raise GaveUp(f"{process.args} gave no sign of life any more. It said:\n{_said(kept)}")
        time.sleep(GLANCE)


def wait_until(condition, process, silence=SILENCE):
    """Wait until a condition holds, as long as a process gives signs of life.

    Raises:
        GaveUp: it gives none any more, or has ended.
    """
    watch = Watch(lambda: processor_seconds(process.pid), silence=silence)
    while not condition():
        if process.poll() is not None or not watch.lives():
            raise GaveUp(f"{process.args} ended, or gave no sign of life any more (exit code {process.poll()})")
        time.sleep(GLANCE)


def kill(identifier):
    """Kill a process and all that it has started."""
    for process in _tree(identifier):
        with contextlib.suppress(psutil.Error):
            process.kill()


def _said(kept):
    return "".join(line for lines in kept.values() for line in lines)[-6000:]
