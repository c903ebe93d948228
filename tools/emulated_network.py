"""Several hosts on one machine, each with a network card of its own: Linux network namespaces joined by a switch.

Every host is a namespace with a card `eth0`; a cable (a veth pair) leads from it to a bridge. Both ends of the cable
send at a limited rate (tc tbf) and, if asked, with a delay (tc netem). The bridge has a namespace of its own too, so
nothing of the machine's own network is touched, and two networks may use the same addresses.
"""

import contextlib
import ctypes
import dataclasses
import fcntl
import itertools
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

PREFIX = "terngrad-lab"  # of the names of all namespaces
CARD = "eth0"
LOCKS = pathlib.Path("/run/lock") / PREFIX
NAMESPACES = pathlib.Path("/run/netns")
HOSTS_FILES = pathlib.Path("/etc/netns")  # `ip netns exec` shows what is in there as /etc
QUEUE = 4_000_000  # bytes that a port of the switch holds back before it drops, as in a data centre's switch
BURST = 0.0006  # seconds' worth of data that a card may send at once after a pause; at 1 Gb/s, a packet of 64 KB fits
SMALLEST_BURST = 8_000  # bytes; must be more than a frame
HEADERS = 66  # bytes in front of a packet's data: Ethernet 14, IP 20, TCP 32
HOLD = 0.001  # seconds' worth of data that a connection may have waiting in the card
SMALLEST_HOLD = 16_384  # bytes
PACKAGES = {"ip": "iproute2", "tc": "iproute2", "setpriv": "util-linux", "sysctl": "procps"}  # of these programs
CLONE_NEWNET = 0x40000000
SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


class CannotEmulate(RuntimeError):
    """This machine cannot have such a network; the message tells why, and what would help."""


@dataclasses.dataclass(frozen=True)
class Traffic:
    """What a card's counters say.

    Attributes:
        sent, received: Bytes, with all headers.
        packets: How many it has sent. The kernel counts up to 64 KB that it hands over at once as one.
    """

    sent: int
    received: int
    packets: int

    @property
    def data(self) -> int:
        """Bytes sent without headers; acknowledgements have none."""
        return self.sent - HEADERS * self.packets

    def __sub__(self, earlier):
        return Traffic(self.sent - earlier.sent, self.received - earlier.received, self.packets - earlier.packets)


class EmulatedNetwork:
    """A context manager: the hosts are there while it is entered. What a killed process left behind goes at entering.

    Args:
        hosts: How many.
        rate: Bits a second that each card sends, and receives; None: as fast as the machine can.
        delay: Seconds from one host to another.

    Raises:
        CannotEmulate: Not on Linux, not as root, without iproute2, or on a kernel that lacks a part.
    """

    def __init__(self, hosts, rate=None, delay=0.0):
        if not 1 <= hosts <= 250:
            raise ValueError(f"Expected 1 to 250 hosts. Received: {hosts}")
        if (rate is not None and not rate > 0) or not 0 <= delay < 10:
            raise ValueError(f"Expected a positive rate and a delay in seconds. Received: rate={rate}, delay={delay}")
        self.hosts, self.rate, self.delay = hosts, rate, delay
        self.address = _address(0)  # of the switch, where this process's servers can be reached
        self._lock = None

    def __enter__(self):
        check_machine()
        LOCKS.mkdir(parents=True, exist_ok=True)
        remove_leftovers()
        self._number, self._lock = _first_free_number()
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Kills whatever runs on the hosts, and removes them."""
        if self._lock is None:
            return
        with _without_interruption():
            _remove(self._number)
            self._lock.close()
            self._lock = None

    def name(self, host):
        """The namespace of a host, 0 to hosts - 1, or of the switch: None."""
        return f"{PREFIX}{self._number}-{'switch' if host is None else host}"

    def host_address(self, host):
        """The address of a host, 0 to hosts - 1."""
        return _address(host + 1)

    def traffic(self):
        """The `Traffic` of each host since it came into being."""
        return [_counters(self.name(host)) for host in range(self.hosts)]

    def start(self, host, command, **options):
        """A process on a host, which dies with this one: a `subprocess.Popen` of the command, with these options."""
        mortal = ["setpriv", "--pdeathsig", "KILL"]
        return subprocess.Popen([*mortal, "ip", "netns", "exec", self.name(host), *command], **options)

    def on_switch(self, function):
        """Calls a function whose sockets shall be the switch's; returns what it returns."""

        def entered():
            library = ctypes.CDLL(None, use_errno=True)
            with (NAMESPACES / self.name(None)).open() as namespace:
                if library.setns(namespace.fileno(), CLONE_NEWNET):
                    raise CannotEmulate(f"Cannot enter the switch's namespace: {os.strerror(ctypes.get_errno())}")
            return function()

        with ThreadPoolExecutor(1) as thread:  # it is the thread that moves to the namespace, and it ends there
            return thread.submit(entered).result()

    def _build(self):
        switch = self.name(None)
        _ip("netns", "add", switch)
        _ip("-n", switch, "link", "set", "lo", "up")
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "address", "add", f"{self.address}/24", "dev", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        for host in range(self.hosts):
            self._plug_in(host, switch)

    def _plug_in(self, host, switch):
        name, port, address = self.name(host), f"port{host}", self.host_address(host)
        _name_the_machine(name, address)
        _ip("netns", "add", name)
        _ip("-n", switch, "link", "add", port, "type", "veth", "peer", "name", CARD, "netns", name)
        self._tune(name)
        for namespace, card in ((name, CARD), (switch, port)):
            for arguments in queues(self.rate, self.delay / 2):
                _run("ip", "netns", "exec", namespace, "tc", "qdisc", "add", "dev", card, *arguments)
        _ip("-n", switch, "link", "set", port, "master", "bridge", "up")
        _ip("-n", name, "address", "add", f"{address}/24", "dev", CARD)
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "link", "set", CARD, "up")

    def _tune(self, name):
        """Makes a host's TCP the same on all machines: reno, with little data waiting in the card.

        Reno, for every kernel has it, and it does not remember, as bbr does, how slow the last exchange was. And where
        little waits in the card, acknowledgements and small messages need not stand behind another connection's data:
        elsewhere a queue for each connection (fq_codel) sees to that, which is not in every kernel.
        """
        settings = {"tcp_congestion_control": "reno"}
        if self.rate is not None:
            settings["tcp_limit_output_bytes"] = max(SMALLEST_HOLD, round(self.rate / 8 * HOLD))
        for key, value in settings.items():
            _run("ip", "netns", "exec", name, "sysctl", "-q", f"net.ipv4.{key}={value}")


def queues(rate, delay):
    """The arguments of `tc qdisc add dev CARD` that make a card send at a rate (bits/s or None) and a delay (s)."""
    commands, parent = [], ["root"]
    if delay:
        commands.append([*parent, "handle", "1:", "netem", "delay", f"{delay * 1e6:.0f}us", "limit", "100000"])
        parent = ["parent", "1:1"]
    if rate is not None:
        burst = round(rate / 8 * burst_seconds(rate))
        commands.append([*parent, "tbf", "rate", f"{rate:.0f}bit", "burst", str(burst), "limit", str(QUEUE)])
    return commands


def burst_seconds(rate):
    """For how long a card of a rate (bits/s or None) may send at full speed after a pause."""
    return 0 if rate is None else max(BURST, 8 * SMALLEST_BURST / rate)


def check_machine():
    """Raise `CannotEmulate` where namespaces cannot be made."""
    if not NAMESPACES.parent.is_dir() or not hasattr(os, "geteuid"):
        raise CannotEmulate("Network namespaces need Linux.")
    missing = [program for program in PACKAGES if shutil.which(program) is None]
    if missing:
        packages = " ".join(dict.fromkeys(PACKAGES[program] for program in missing))
        raise CannotEmulate(f"Not found: {', '.join(missing)}. On Debian and Ubuntu: apt-get install {packages}")
    if os.geteuid() != 0:
        raise CannotEmulate("Only root may make network namespaces. Run this with sudo, or as root in a container.")


def remove_leftovers():
    """Removes the networks of processes that have been killed: those whose locks nobody holds any more."""
    for path in LOCKS.glob("*"):
        lock = _locked(path)
        if lock is not None:
            with lock:
                _remove(int(path.name))


def _first_free_number():
    """The number of a new network, and the open file whose lock says that it is taken."""
    return next((number, lock) for number in itertools.count() if (lock := _locked(LOCKS / str(number))) is not None)


def _locked(path):
    """The file, open and locked as long as this process lives; None if another process has it."""
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _remove(number):
    """Removes all that belongs to the network of this number; its processes first, for they keep namespaces alive."""
    for path in NAMESPACES.glob(f"{PREFIX}{number}-*"):
        while found := _run("ip", "netns", "pids", path.name).split():
            for process in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(process), signal.SIGKILL)
            time.sleep(0.02)
        _ip("netns", "delete", path.name)
    for path in HOSTS_FILES.glob(f"{PREFIX}{number}-*"):
        shutil.rmtree(path)


def _name_the_machine(namespace, address):
    """On a host, the machine's name is the host's own address: programs that look themselves up find their card."""
    folder = HOSTS_FILES / namespace
    folder.mkdir(parents=True)
    (folder / "hosts").write_text(f"127.0.0.1 localhost\n{address} {socket.gethostname()}\n")


def _counters(namespace):
    (link,) = json.loads(_ip("-n", namespace, "-json", "-statistics", "link", "show", CARD))
    counters = link["stats64"]
    return Traffic(counters["tx"]["bytes"], counters["rx"]["bytes"], counters["tx"]["packets"])


def _address(number):
    return f"10.77.0.{number + 1}"


def _ip(*arguments):
    return _run("ip", *arguments)


def _run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        hint = " This kernel has no sch_netem, so it can limit rates but not delay." if "netem" in command else ""
        raise CannotEmulate(f"`{' '.join(command)}` failed: {done.stderr.strip()}{hint}")
    return done.stdout


@contextlib.contextmanager
def _without_interruption():
    """Signals that would interrupt wait until this is done."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
