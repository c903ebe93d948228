"""TensorFlow's own collectives as a transport: two real processes by TF_CONFIG, where Horovod cannot be imported."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import pytest

import tf_terngrad as tt

WORKER = pathlib.Path(__file__).with_name("collective_worker.py")


def free_ports(count):
    with_ports = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in with_ports]
    for server in with_ports:
        server.close()
    return ports


def test_two_workers_without_horovod(tmp_path):
    addresses = [f"localhost:{port}" for port in free_ports(2)]
    workers, logs = [], [tmp_path / f"{index}.log" for index in range(2)]
    try:
        for index, log in enumerate(logs):
            task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            with log.open("w") as output:
                workers.append(
                    subprocess.Popen(
                        [sys.executable, WORKER],
                        env=os.environ | {"TF_CONFIG": json.dumps(task), "PYTHONPATH": str(WORKER.parents[1])},
                        stdout=output,
                        stderr=subprocess.STDOUT,
                    )
                )
        codes = [worker.wait(300) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    told = "\n".join(log.read_text() for log in logs)
    assert told.count("FIT") == 2, told
    assert codes == [7, -9], told  # the second kills itself at last, which is an error on the first


def test_refused_without_workers(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{}")
    with pytest.raises(ValueError, match="TF_CONFIG"):
        tt.distributed.init()
