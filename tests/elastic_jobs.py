"""Elastic jobs for tests: `horovodrun` with hosts that are names of this machine, which tests may add, and may kill.

Horovod starts nothing more on a host where a worker was killed: each worker has a host of its own.
"""

import os
import pathlib
import sys

import patience

ROOT = pathlib.Path(__file__).parents[1]
NAMES = ("localhost", "127.0.0.1", "127.1", "127.0.1", "0x7f.1")


def run(folder, script, first, more=(), least=1):
    """Run a script by workers on those hosts; it gets the path of the file that names hosts, and that of more.

    Args:
        folder: for the files.
        script: text of the program.
        first: hosts at first, of `NAMES`.
        more: hosts for the script to add: it replaces the one file by the other.
        least: workers without which the job ends.

    Returns:
        The lines that the workers have printed, without their numbers.
    """
    program, hosts, others, discovery = (folder / name for name in ("train.py", "hosts", "more", "discover.sh"))
    program.write_text(script)
    hosts.write_text("".join(f"{host}:1\n" for host in first))
    others.write_text("".join(f"{host}:1\n" for host in more))
    discovery.write_text(f"#!/bin/sh\ncat {hosts}\n")
    discovery.chmod(0o755)
    horovodrun = pathlib.Path(sys.executable).with_name("horovodrun")
    numbers = ["-np", len(first), "--min-np", least, "--max-np", max(len(first), len(more))]
    options = [*map(str, numbers), "--host-discovery-script", discovery, "--network-interface", "lo"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HOROVOD_GLOO_TIMEOUT_SECONDS": "90"}
    done = patience.run([horovodrun, *options, sys.executable, program, hosts, others], env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return [line.partition(">:")[2] for line in done.stdout.splitlines() if ">:" in line]
