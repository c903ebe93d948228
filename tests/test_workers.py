"""The helper that runs tests in real Horovod workers: results by rank, and failures that tell who failed and where."""

import os
import signal
import sys
import tempfile
import time

import horovod.tensorflow as hvd
import numpy as np
import patience
import psutil
import pytest
from workers import WorkersFailed, run_workers


def weighted(values, shift):
    return hvd.rank(), total_of(values * (hvd.rank() + 1)) + shift


def total_of(values):
    return hvd.allreduce(values, op=hvd.Sum).numpy()


def test_results_come_in_the_order_of_ranks():
    for shift in range(3):
        for rank, (told, total) in enumerate(run_workers(weighted, np.arange(3.0), shift)):
            assert told == rank
            np.testing.assert_array_equal(total, 3 * np.arange(3.0) + shift)


def test_workers_stay_and_rest_between_calls():
    identifiers = run_workers(os.getpid)
    assert run_workers(os.getpid) == identifiers
    states = [None]
    for _ in range(500):  # a signal needs a moment on a busy machine
        states = [psutil.Process(identifier).status() for identifier in identifiers]
        if states == ["stopped"] * 2:
            break
        time.sleep(0.02)
    assert states == ["stopped"] * 2


def test_variables_are_for_one_call_and_none_of_horovods_is_inherited(monkeypatch):
    monkeypatch.setenv("HOROVOD_FUSION_THRESHOLD", "1")
    env = {"HOROVOD_CYCLE_TIME": "2"}
    names = ["HOROVOD_CYCLE_TIME", "HOROVOD_FUSION_THRESHOLD", "HOROVOD_SIZE"]
    told = run_workers(lambda: [os.environ.get(name) for name in names], workers=3, env=env)
    assert told == [["2", None, "3"]] * 3


def wait_for_one_that_raises():
    print(f"this is {hvd.rank()}")
    assert hvd.rank() != 1
    total_of(np.ones(2))


def wait_for_one_that_sleeps():
    if hvd.rank() == 1:
        time.sleep(600)
    total_of(np.ones(2))


def test_workers_that_hang_are_told_from_those_that_work():
    """The one in Horovod's exchange asks for the other all the time; that is no sign of life."""
    with pytest.raises(WorkersFailed, match="2 s without a sign of life") as failed:
        run_workers(wait_for_one_that_sleeps, silence=2)
    assert str(failed.value).count("did not return") == 2


def leave():
    if hvd.rank() == 0:
        os._exit(7)


def test_failures_tell_who_and_where_and_new_workers_follow():
    before = run_workers(os.getpid)
    with pytest.raises(WorkersFailed) as failed:
        run_workers(wait_for_one_that_raises)
    first, second = str(failed.value).split("----- rank ")[1:]
    assert first.startswith("0 did not return") and "in total_of" in first and "this is 0" in first
    assert second.startswith("1 raised") and "assert 1 != 1" in second and "this is 1" in second
    for identifier in before:
        with pytest.raises(ProcessLookupError):
            os.kill(identifier, 0)
    with pytest.raises(WorkersFailed, match="rank 0 died with exit code 7"):
        run_workers(leave)


def test_no_worker_survives_a_killed_test_run():
    program = "import os, workers; print(*workers.run_workers(os.getpid), flush=True); os.kill(os.getpid(), 9)"
    with tempfile.TemporaryDirectory() as folder:  # for what a killed process cannot clear away
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TMPDIR": folder}
        done = patience.run([sys.executable, "-c", program], env=env)
    assert done.returncode == -signal.SIGKILL
    identifiers = [int(identifier) for identifier in done.stdout.split()]
    assert len(identifiers) == 2
    for _ in range(500):
        if not any(map(psutil.pid_exists, identifiers)):
            break
        time.sleep(0.02)
    assert not any(map(psutil.pid_exists, identifiers))
