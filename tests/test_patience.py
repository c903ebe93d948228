"""Waits end on signs of life: a process that works or writes has all the time it needs, one that hangs does not."""

import subprocess
import sys
import time
from pathlib import Path

import patience
import psutil
import pytest


class Machine:
    """A clock, and processes that use the processor and write, as a test says."""

    def __init__(self, monkeypatch):
        self.now, self.used, self.written = 1000.0, 5.0, 0
        monkeypatch.setattr(patience.time, "monotonic", lambda: self.now)

    def watch(self, **options):
        return patience.Watch(lambda: self.used, lambda: self.written, **options)

    def runs(self, watch, seconds, share=0.0, writes=0):
        """Whether the watch takes them for alive all the time; it looks ten times a second."""
        for _ in range(10 * seconds):
            self.now += 0.1
            self.used += 0.1 * share
            self.written += writes
            if not watch.lives():
                return False
        return True


@pytest.fixture
def machine(monkeypatch):
    return Machine(monkeypatch)


def test_what_works_on_a_busy_machine_or_writes_now_and_then_is_waited_for(machine):
    watch = machine.watch(silence=60)
    assert machine.runs(watch, 1000, share=0.2)
    for _ in range(10):
        assert machine.runs(watch, 50)
        assert machine.runs(watch, 1, writes=1)


def test_what_neither_works_nor_writes_hangs(machine):
    watch = machine.watch(silence=60)
    assert machine.runs(watch, 300, share=1.0)
    assert machine.runs(watch, 59)
    assert not machine.runs(watch, 3)


def test_what_only_asks_whether_others_are_there_hangs(machine):
    assert not machine.runs(machine.watch(silence=60), 62, share=0.05)


def test_what_works_for_ever_is_given_up_in_the_end(machine):
    watch = machine.watch(silence=60, most=600)
    assert machine.runs(watch, 599, share=1.0)
    assert not machine.runs(watch, 2, share=1.0)


def test_what_ends_among_several_is_a_sign_of_life(machine):
    watch = machine.watch(silence=60)
    assert machine.runs(watch, 50)
    machine.used = 1.0
    assert machine.runs(watch, 50)


def python(program):
    return [sys.executable, "-c", program]


def test_a_run_gives_what_was_written_and_the_exit_code():
    done = patience.run(python("import sys; print('a'); print('b', file=sys.stderr); sys.exit(3)"))
    assert (done.stdout, done.stderr, done.returncode) == ("a\n", "b\n", 3)


def test_the_work_of_children_counts():
    program = "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass\ntime.sleep(600)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {program!r}])"
    process = subprocess.Popen(python(parent))
    try:
        work = patience.Work(process.pid)
        patience.wait_until(lambda: work() > 0.4, process)
    finally:
        patience.kill(process.pid)
        process.wait()


def test_waking_up_is_no_work(monkeypatch):
    threads = {(1, 1): (10.0, 0), (1, 2): (20.0, 0)}  # seconds of the processor, and how often they have woken up
    monkeypatch.setattr(patience, "_tree", lambda identifier: [identifier])
    monkeypatch.setattr(patience, "_threads", lambda process: dict(threads))
    work = patience.Work(1)
    begun = work()
    threads |= {(1, 1): (10.2, 1000), (1, 2): (20.0, 0)}
    assert work() == begun
    threads |= {(1, 1): (10.5, 1000), (1, 2): (20.1, 100)}
    assert work() - begun == pytest.approx(0.3 + 0.1 - 100 * patience.WAKING)


HANGING = """
import threading, time
import horovod.tensorflow as hvd
import tensorflow as tf

hvd.init()
print("begins", flush=True)
if hvd.rank() == 0:
    hvd.allreduce(tf.ones(3))  # which the other never joins
time.sleep(600)
"""


def test_workers_that_wait_for_one_another_are_silent_though_they_ask_a_thousand_times_a_second(tmp_path):
    (tmp_path / "hanging.py").write_text(HANGING)
    command = [Path(sys.executable).with_name("horovodrun"), "-np", "2", sys.executable, "hanging.py"]
    said = tmp_path / "said"
    with said.open("w") as output:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=output, stderr=output)
        try:
            patience.wait_until(lambda: said.read_text().count("begins") == 2, process)
            watch = patience.Watch(patience.Work(process.pid), silence=5)
            while watch.lives():  # what follows the first words is work yet
                time.sleep(0.1)
            assert watch.is_silent
        finally:
            patience.kill(process.pid)
            process.wait()


def test_what_hangs_is_killed_with_its_children_and_tells_what_it_said():
    program = (
        "import subprocess, time; child = subprocess.Popen(['sleep', '600']); print('child', child.pid, flush=True); "
        "time.sleep(600)"
    )
    with pytest.raises(patience.GaveUp, match=r"no sign of life(?s:.)*child \d+") as caught:
        patience.run(python(program), silence=3.0)
    child = int(str(caught.value).split("child ")[-1])
    for _ in range(500):
        if not _runs(child):
            break
        time.sleep(0.02)
    assert not _runs(child)


def _runs(identifier):
    return psutil.pid_exists(identifier) and psutil.Process(identifier).status() != psutil.STATUS_ZOMBIE


def test_a_condition_is_waited_for_as_long_as_the_process_lives(tmp_path):
    file = tmp_path / "file"
    process = subprocess.Popen(python(f"import time; open({str(file)!r}, 'w').close(); time.sleep(600)"))
    patience.wait_until(file.exists, process)
    process.kill()
    process.wait()
    with pytest.raises(patience.GaveUp, match="exit code -9"):
        patience.wait_until((tmp_path / "none").exists, process)
