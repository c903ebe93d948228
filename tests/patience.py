"""Waits for processes by signs of life, not by a clock: a busy machine may take its time, a hung process may not.

A process lives while it or what it has started works, or writes. What only waits uses the processor too: Horovod's
threads ask one another a thousand times a second whether there is anything to do. So a thread's work is what it uses
beyond `WAKING` for each time that it woke up, and less than `IDLE` of a core in all is no sign of life.
"""

import contextlib
import pathlib
import re
import subprocess
import threading
import time

import psutil

SILENCE = 120
"""Seconds without a sign of life after which a process is given up."""

WAKING = 4e-4
"""Seconds of the processor that a thread may use to look whether there is anything to do, and to sleep again.

Measured in two workers of a hung `horovodrun`: 20 to 160 microseconds."""

IDLE = 0.15
"""Share of one core that processes may use beside that while they only wait."""

MOST = 1800
"""Seconds after which even a process that works is given up: it may do so for ever."""

GLANCE = 0.05


class GaveUp(AssertionError):
    """A process gave no sign of life any more."""


class Watch:
    """Tells whether some processes still live.

    Args:
        used: a function that gives how many seconds they have worked so far, such as `Work`.
        written: a function that gives how much they have written so far.
        silence: seconds without a sign of life that are too many.
        most: seconds that are too many anyway.
    """

    def __init__(self, used, written=lambda: 0, silence=SILENCE, most=MOST):
        self._use, self._written = used, written
        self._silence, self._end = silence, time.monotonic() + most
        self._used, self._said = used(), written()
        self._since = time.monotonic()
        self.is_silent = False

    def lives(self) -> bool:
        """Whether there was a sign of life lately."""
        now = time.monotonic()
        if now - self._since < min(1.0, self._silence):  # looking costs time too
            return now < self._end
        used, said = self._use(), self._written()
        worked = used - self._used > IDLE * (now - self._since)
        if worked or said != self._said or used < self._used:  # less: one of them has ended
            self._used, self._said, self._since = used, said, now
        self.is_silent = now - self._since >= self._silence
        return now < self._end and not self.is_silent


class Work:
    """How many seconds some processes, and all that they have started, have worked so far; waking up is no work.

    Args:
        identifiers: of the processes.
    """

    def __init__(self, *identifiers):
        self._identifiers = identifiers
        self._threads = {}
        self._seconds = 0.0

    def __call__(self) -> float:
        threads = {}
        for process in (process for identifier in self._identifiers for process in _tree(identifier)):
            threads |= _threads(process)
        for thread, (used, woken) in threads.items():
            used_before, woken_before = self._threads.get(thread, (0.0, 0))
            self._seconds += max(0.0, used - used_before - WAKING * (woken - woken_before))
        self._threads = threads
        return self._seconds


def _threads(process) -> dict:
    """By thread of a process, the seconds of the processor that it has used, and how often it has woken up."""
    with contextlib.suppress(psutil.Error):
        return {
            (process.pid, one.id): (one.user_time + one.system_time, _woken(process.pid, one.id))
            for one in process.threads()
        }
    return {}


def _woken(process, thread) -> int:
    """How often a thread has slept and woken up; only Linux tells."""
    with contextlib.suppress(OSError):
        status = pathlib.Path(f"/proc/{process}/task/{thread}/status").read_text()
        return int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", status, re.MULTILINE)[1])
    return 0


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
    watch = Watch(Work(process.pid), lambda: sum(map(len, kept.values())), silence, most)
    while process.poll() is None:
        if not watch.lives():
            kill(process.pid)
            process.wait()
            why = "gave no sign of life any more" if watch.is_silent else f"did not end within {most} s"
            raise GaveUp(f"{process.args} {why}. It said:\n{_said(kept)}")
        time.sleep(GLANCE)


def wait_until(condition, process, silence=SILENCE):
    """Wait until a condition holds, as long as a process gives signs of life.

    Raises:
        GaveUp: it gives none any more, or has ended.
    """
    watch = Watch(Work(process.pid), silence=silence)
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
