"""A training that meets with one mishap after the other, and must go on from each: ten minutes, or as long as you like.

    python -m tools.soak --minutes=10 --network=horovod

In each round some workers, one to three, train a few epochs more. One of them is killed, ended or paused, sets
`stop_training`, raises an error, has a label that is no number, or fewer batches, or a full disk; or nothing happens.
After each round: have all ended, are the replicas the same, is nothing lost beyond the last checkpoint, and does the
next round begin where it was? A line for each round, and exit code 1 if one of the answers was no.
"""

import collections
import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import numpy as np
from absl import app, flags

from tf_terngrad.ternary.distributed import saved

MINUTES = flags.DEFINE_float("minutes", 10.0, "Rounds begin for so long.", lower_bound=0)
ROUNDS = flags.DEFINE_integer("rounds", None, "So many rounds, however long they take.", lower_bound=1)
NETWORK = flags.DEFINE_enum("network", "horovod", ["horovod", "tensorflow"], "What workers talk by.")
SEED = flags.DEFINE_integer("seed", 0, "Of the mishaps.")
KEEP = flags.DEFINE_string("output", None, "Folder that is kept, with what workers said; by default none.")

MISHAPS = ("none", "kill", "term", "pause", "stop", "error", "nan", "ends", "full")
SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "pause": signal.SIGSTOP}
MORE, BATCHES = 3, 12  # epochs in a round, batches in an epoch
EVERY = 5  # batches from one checkpoint to the next
MOST = 240  # seconds of a round; then its workers wait for one another for ever
PAUSE = 3  # seconds


class Round:
    """Some workers train on, with one mishap.

    Args:
        folder: of the training.
        workers: how many there are.
        mishap: one of `MISHAPS`.
        chance: `random.Random`.
    """

    def __init__(self, folder, workers, mishap, chance):
        self.folder, self.workers, self.mishap, self._chance = folder, workers, mishap, chance
        self.victim = 0 if mishap == "full" else chance.randrange(workers)
        self.before = saved.read(folder / "training.npz")
        for left in [*folder.glob("pid-*"), *folder.glob("now-*"), *folder.glob("result-*")]:
            left.unlink()

    def run(self) -> list[str]:
        """Train; what was wrong with it, sentences."""
        epochs = (self.before.epoch if self.before else 0) + MORE
        command = [sys.executable, "-m", "tools.soak_worker", f"--folder={self.folder}", f"--mishap={self.mishap}"]
        command += [f"--victim={self.victim}", f"--at={self._chance.randrange(1, BATCHES - 1)}", f"--epochs={epochs}"]
        command += [f"--batches={BATCHES}", f"--every={EVERY}"]
        with (self.folder / "said.txt").open("a") as said:
            print(f"\n===== {self.mishap} of {self.victim} among {self.workers}", file=said, flush=True)
            processes = [
                subprocess.Popen(each, env=os.environ | more, stdout=said, stderr=said)
                for each, more in self._starts(command)
            ]
            try:
                self._disturb()
                ended = self._wait(processes)
            finally:
                for process in processes:
                    process.kill()
                    process.wait()
                self._end_what_is_left()
        return self._wrong(ended)

    def _starts(self, command):
        """Pairs of a command and further variables of its environment, for each process to start."""
        if NETWORK.value == "horovod":
            horovodrun = pathlib.Path(sys.executable).with_name("horovodrun")
            return [([horovodrun, "--gloo", "-np", str(self.workers), *command], {})]
        servers = [socket.create_server(("localhost", 0)) for _ in range(self.workers)]
        cluster = {"worker": [f"localhost:{server.getsockname()[1]}" for server in servers]}
        for server in servers:
            server.close()
        tasks = [{"type": "worker", "index": rank} for rank in range(self.workers)]
        return [(command, {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})}) for task in tasks]

    def _disturb(self):
        """Send the victim its signal, at any time of its training."""
        if self.mishap not in SIGNALS:
            return
        end = time.monotonic() + MOST
        while self._told("now", self.victim) is None and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(self._chance.uniform(0, 2))
        with_signal = SIGNALS[self.mishap]
        self._signal(self.victim, with_signal)
        if with_signal is signal.SIGSTOP:
            time.sleep(PAUSE)
            self._signal(self.victim, signal.SIGCONT)

    def _signal(self, rank, number):
        process = self._told("pid", rank)
        if process is not None:
            with contextlib.suppress(ProcessLookupError):  # it was ready before
                os.kill(process, number)

    def _end_what_is_left(self):
        for rank in range(self.workers):
            self._signal(rank, signal.SIGKILL)

    def _told(self, what, rank):
        """A number that a worker has written; None: it has not yet."""
        path = self.folder / f"{what}-{rank}"
        return int(path.read_text() or -1) if path.exists() else None

    def _wait(self, processes) -> bool:
        """Whether all have ended."""
        end = time.monotonic() + MOST
        while time.monotonic() < end:
            if all(process.poll() is not None for process in processes):
                return True
            time.sleep(0.1)
        return False

    def _wrong(self, ended):
        """What does not hold now."""
        if not ended:
            return [f"not all have ended after {MOST} seconds"]
        paths = [self.folder / f"result-{rank}.json" for rank in range(self.workers)]
        results = [json.loads(path.read_text()) for path in paths if path.exists()]
        wrong = []
        is_missing = self.mishap in ("kill", "term")
        if len(results) < self.workers and not is_missing:
            wrong.append(f"{self.workers - len(results)} workers died")
        if len({str(result["weights"]) for result in results}) > 1:
            wrong.append("the replicas differ")
        errors = [result["error"] for result in results if result["error"]]
        if errors and self.mishap not in ("error", "kill", "term"):
            wrong.append(f"an error: {errors[0]}")
        if self.mishap == "error" and not (len(errors) == self.workers and all("a mishap" in each for each in errors)):
            wrong.append(f"not all have heard of the error: {errors}")
        begun, then = {result["began"] for result in results} - {None}, updates(self.before)
        if begun - {then}:
            wrong.append(f"they began at update {sorted(begun)}, the checkpoint was at {then}")
        after, furthest = saved.read(self.folder / "training.npz"), self._told("now", 0)
        lost = (furthest or 0) - updates(after)
        if self.mishap != "full" and lost > EVERY:
            wrong.append(f"{lost} updates are lost")
        if updates(after) < then:
            wrong.append(f"the checkpoint went back from update {then} to {updates(after)}")
        if not all(np.isfinite(value).all() for value in (after.values if after else ())):
            wrong.append("the checkpoint holds values that are not finite")
        return wrong


def updates(content) -> int:
    """How many updates a checkpoint's optimizer has made: the only integer among its values that counts to so many."""
    if content is None:
        return 0
    counts = [int(value) for value in content.values if value.shape == () and np.issubdtype(value.dtype, np.integer)]
    return counts[0]


def main(_):
    """Rounds, a table of them, and what was wrong."""
    chance, seen, failed = random.Random(SEED.value), collections.Counter(), []
    folder = pathlib.Path(KEEP.value or tempfile.mkdtemp(prefix="soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    end, number, waiting = time.monotonic() + 60 * MINUTES.value, 0, []
    print("| round | mishap | workers | updates | seconds | |\n|---|---|---|---|---|---|", flush=True)
    while number < ROUNDS.value if ROUNDS.value else time.monotonic() < end:
        waiting = waiting or chance.sample(MISHAPS, len(MISHAPS))
        each, begin = Round(folder, chance.randint(1, 3), waiting.pop(), chance), time.monotonic()
        wrong = each.run()
        number, seen = number + 1, seen + collections.Counter([each.mishap])
        now = updates(saved.read(folder / "training.npz"))
        row = (number, each.mishap, each.workers, f"{updates(each.before)} to {now}", f"{time.monotonic() - begin:.0f}")
        print("|", " | ".join(map(str, row)), "|", "; ".join(wrong) or "as it must", "|", flush=True)
        failed += [f"round {number}, {each.mishap}: {sentence}" for sentence in wrong]
    print(f"\n{number} rounds: " + ", ".join(f"{count} {mishap}" for mishap, count in sorted(seen.items())))
    print("\n".join(failed) or "All ended, replicas were the same, and nothing was lost beyond the last checkpoint.")
    if not KEEP.value and not failed:
        shutil.rmtree(folder)
    elif failed:
        sys.exit(f"What the workers said: {folder / 'said.txt'}")


if __name__ == "__main__":
    app.run(main)
