"""Emulated networks: what they count and how fast they are let be, who is told of failures, and what they leave behind.

Where there can be no such network (not root, no iproute2), each test shows that it is refused, with the reason.
"""

import functools
import os
import pathlib
import re
import signal
import subprocess
import sys

import patience
import pytest
from command_lines import run_all

from tf_terngrad.cli.rates import bits_per_second
from tf_terngrad.ternary import cost
from tools import emulated_network as emulated
from tools import network_lab as lab

ROOT = str(pathlib.Path(__file__).parents[1])

# Connects, sends to the other worker and hears that all has come; the other one does the converse.
SENDER = """
import socket, sys, time
sys.path.insert(0, {root!r})
from tools.network_lab import own_traffic
for attempt in range(2400):
    try:
        connection = socket.create_connection(({peer!r}, 5000))
        break
    except ConnectionRefusedError:
        time.sleep(0.05)
before, start = own_traffic(), time.monotonic()
connection.sendall(bytes({size}))
assert connection.recv(1) == b"!"
print((own_traffic() - before).data, time.monotonic() - start)
"""
RECEIVER = """
import socket
connection, _ = socket.create_server(("", 5000)).accept()
received = 0
while received < {size}:
    received += len(connection.recv(1 << 20))
connection.sendall(b"!")
"""


@functools.cache
def refusal():
    """Why there can be no network here; None: there can."""
    try:
        with emulated.EmulatedNetwork(1, rate=1e8):
            return None
    except emulated.CannotEmulate as error:
        return str(error)


def on_a_network(test):
    """The test; where there can be no network, a test that it is refused."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        if refusal() is None:
            return test(*args, **kwargs)
        with pytest.raises(emulated.CannotEmulate, match=re.escape(refusal())):
            lab.Lab(2).__enter__()

    return run


def python(code, **values):
    return [sys.executable, "-c", code.format(**values)]


def namespaces(network_or_number):
    number = getattr(network_or_number, "_number", network_or_number)
    return sorted(path.name for path in emulated.NAMESPACES.glob(f"{emulated.PREFIX}{number}-*"))


def by_rank(first, second):
    """A command that runs one program as worker 0 and another as worker 1."""
    return [sys.executable, "-c", f"import os\nexec([{first!r}, {second!r}][int(os.environ['HOROVOD_RANK'])])"]


@on_a_network
def test_counters_tell_what_was_sent_and_the_rate_is_kept():
    size, rate = 2_000_000, 50e6
    with lab.Lab(2, rate) as network:
        sender = SENDER.format(root=ROOT, peer=network.host_address(1), size=size)
        first, second = network.run(by_rank(sender, RECEIVER.format(size=size)))
    data, seconds = map(float, first.output.split())
    assert size <= data < 1.01 * size
    assert data < first.traffic.sent < 1.1 * size and data < second.traffic.received < 1.1 * size
    assert second.traffic.sent < 0.1 * size
    assert seconds > 0.95 * 8 * size / rate  # it may take longer, on a busy machine, but not less


@on_a_network
def test_horovods_workers_exchange_what_the_cost_model_says():
    size = 1_000_000
    code = """
import sys
sys.path.insert(0, {root!r})
import horovod.tensorflow as hvd, tensorflow as tf
from tools.network_lab import own_traffic
hvd.init()
before = own_traffic()
total = hvd.allreduce(tf.ones({size}), op=hvd.Sum)
assert float(total[-1]) == hvd.size() == 2 and hvd.local_size() == 1
print("sent", (own_traffic() - before).data)
"""
    with lab.Lab(2) as network:
        workers = network.run(python(code, root=ROOT, size=size))
    for worker in workers:
        sent = int(re.search(r"sent (\d+)", worker.output)[1])
        assert sent == pytest.approx(cost.float_bytes(size, 2), rel=0.05)


@on_a_network
def test_hosts_have_names_of_their_own_and_no_horovod_variable_is_inherited(monkeypatch):
    monkeypatch.setenv("HOROVOD_FUSION_THRESHOLD", "1")
    code = (
        "import os, socket; print(socket.gethostbyname(socket.gethostname()), 'HOROVOD_FUSION_THRESHOLD' in os.environ)"
    )
    with lab.Lab(3) as network:
        workers = network.run(python(code))
        told = [worker.output.split() for worker in workers]
        assert told == [[network.host_address(rank), "False"] for rank in range(3)]
        names = namespaces(network)
        assert len(names) == 4
    assert namespaces(network) == []
    assert not list(emulated.HOSTS_FILES.glob(f"{emulated.PREFIX}{network._number}-*"))


@on_a_network
def test_a_worker_that_fails_ends_the_run_and_is_named(monkeypatch):
    monkeypatch.setattr(lab, "SECONDS_FOR_THE_OTHERS", 0.2)
    with lab.Lab(2) as network:
        with pytest.raises(lab.WorkersFailed, match=r"worker 1 ended with exit code 3, worker 0 ended with SIGKILL"):
            network.run(by_rank("import time; time.sleep(60)", "print('alas'); raise SystemExit(3)"))
        with pytest.raises(lab.WorkersFailed, match=r"after 0\.3 s"):
            network.run(python("import time; time.sleep(60)"), timeout=0.3)
        assert [worker.output for worker in network.run(python("print(1)"))] == ["1\n", "1\n"]


KILLED = """
import os, signal, sys
sys.path.insert(0, {root!r})
from tools.emulated_network import EmulatedNetwork
network = EmulatedNetwork(2).__enter__()
network.start(1, ["setsid", "sleep", "600"])
print(network._number, flush=True)
signal.pause()
"""


@on_a_network
def test_two_networks_do_not_meet_and_what_a_killed_one_left_goes():
    command = python(KILLED, root=ROOT)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        number = int(other.stdout.readline())
        with emulated.EmulatedNetwork(1) as network:
            assert network._number != number
            assert len(namespaces(number)) == 3
        other.kill()
    with emulated.EmulatedNetwork(1) as network:
        assert number == network._number or namespaces(number) == []


@on_a_network
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_line_reports_and_cleans_up_when_interrupted(number):
    code = "import os, time; print('here', os.readlink('/proc/self/ns/net'), flush=True); time.sleep(60)"
    command = [sys.executable, "-m", "tools.network_lab", "--workers=1", "--rate=1gbit", "--", *python(code)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        where = process.stdout.readline().split()
        process.send_signal(number)
        code = patience.finish(process).returncode
    assert where[:2] == ["[0]", "here"] and code == 128 + number
    held = {os.stat(path).st_ino for path in emulated.NAMESPACES.glob(f"{emulated.PREFIX}*-0")}
    assert int(re.search(r"\d+", where[2])[0]) not in held


@on_a_network
def test_the_command_line_prints_a_table():
    command = [sys.executable, "-m", "tools.network_lab", "--workers=2", "--", *python("print(6 * 7)")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert {"[0] 42", "[1] 42"} < set(done.stdout.splitlines())
    assert re.search(r"worker +seconds +bytes sent +bytes received\n0 ", done.stdout)


REFUSED = {
    "--workers=x": "expected whole numbers of at least 2",
    "--workers=1": "expected whole numbers of at least 2",
    "--sizes=999": "expected whole numbers of at least 1000",
    "--methods=none": "benchmark_network: expected some of float32, .* Received: none",
}


def test_the_benchmark_refuses_in_a_line_what_it_cannot_measure(tmp_path):
    done = run_all("tools.benchmark_network", [(tmp_path, [flag]) for flag in REFUSED])
    for told, (code, printed) in zip(REFUSED.values(), done, strict=True):
        assert code != 0 and "Traceback" not in printed
        assert re.search(told, printed), printed


def test_rates_and_their_queues():
    rates = {"100mbit": 1e8, "1gbit": 1e9, "56kbit": 56e3, "2.5gbit": 2.5e9, "unlimited": None}
    assert {text: bits_per_second(text) for text in rates} == rates
    for text in ("100", "100mbps", "0mbit", "-1gbit", "fast"):
        with pytest.raises(ValueError, match=f"Expected a rate .* Received: '{text}'"):
            bits_per_second(text)
    assert emulated.queues(None, 0) == []
    (limit,) = emulated.queues(1e9, 0)
    assert limit[:5] == ["root", "tbf", "rate", "1000000000bit", "burst"] and int(limit[5]) > 64 * 1024
    delay, limit = emulated.queues(1e8, 5e-4)
    assert delay[:5] == ["root", "handle", "1:", "netem", "delay"] and delay[5] == "500us"
    assert limit[:3] == ["parent", "1:1", "tbf"]


@pytest.mark.parametrize("arguments", [{"hosts": 0}, {"hosts": 300}, {"rate": 0}, {"rate": -1.0}, {"delay": -1.0}])
def test_impossible_networks_are_refused(arguments):
    with pytest.raises(ValueError, match="Received"):
        emulated.EmulatedNetwork(**({"hosts": 2} | arguments))


def test_a_machine_that_lacks_something_is_told_what(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(emulated.CannotEmulate, match=r"Not found: ip, tc, .*apt-get install iproute2"):
        emulated.check_machine()
    for program in emulated.PACKAGES:
        (tmp_path / program).touch(mode=0o755)
    emulated.check_machine()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(emulated.CannotEmulate, match="Only root"):
        emulated.check_machine()


def test_outside_of_a_lab_there_is_no_traffic_to_tell():
    with pytest.raises(emulated.CannotEmulate, match=r"no network card.*network_lab"):
        lab.own_traffic(card="none")
