"""How long TFLite files and single operators take, in the processor's time, on a machine that others use too."""

import math
import time

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from tf_terngrad.tflite.excerpt import NUMBERS
from tf_terngrad.tflite.litert import quiet

ROUNDS = 5
FEWEST, SHORTEST = 3, 1.5  # runs of a file in a round, and milliseconds of them all
TOO_SHORT = 20  # of so many runs the clock of a virtual machine makes at most one too short: it jumps back, or stands
MOST_BOUTS, QUIET_BOUTS, PAUSE, SETTLED = 30, 5, 0.1, 0.99  # until times fall by less than 1 % in five bouts
LONG = 0.1  # milliseconds; of a shorter operator a file has several, for the interpreter's own share is in each run
COPIES = 8  # at most


class Stopwatch:
    """A file, ready to run on one thread.

    The processor's time goes on only while the thread runs. What other programs cost it then, in caches and in units
    that two cores share, comes in spells; so the shortest run of several rounds counts.

    Args:
        content: of the file, bytes.

    Attributes:
        best: milliseconds of the shortest run so far.
    """

    def __init__(self, content):
        with quiet():
            self._interpreter = Interpreter(model_content=content, num_threads=1)
            self._interpreter.allocate_tensors()
        for detail in self._interpreter.get_input_details():
            is_float = np.issubdtype(detail["dtype"], np.floating)
            values = np.resize(NUMBERS, detail["shape"]) if is_float else np.zeros(detail["shape"])  # rows of a table
            self._interpreter.set_tensor(detail["index"], values.astype(detail["dtype"]))
        self.best = math.inf

    def go(self):
        """Run it for a round; the first run, with the caches full of another file, does not count."""
        self._interpreter.invoke()
        took, spent = [], 0.0
        while len(took) < FEWEST or spent < SHORTEST:
            begin = time.thread_time_ns()
            self._interpreter.invoke()
            took.append((time.thread_time_ns() - begin) / 1e6)
            spent += took[-1]
        self.best = min(self.best, sorted(took)[len(took) // TOO_SHORT])


def processor_time(content, rounds=ROUNDS) -> float:
    """The shortest time of a run of a file, in milliseconds of the processor."""
    watch = Stopwatch(content)
    for _ in range(rounds):
        watch.go()
    return watch.best


def settled_times(contents) -> list[float]:
    """The shortest times of a run of several files, in milliseconds of the processor, on a machine that may be busy.

    Use it for the few files that others are judged by: it goes on until the shortest times stay as they are.
    """
    watches, before, quiet_bouts = [Stopwatch(content) for content in contents], [], 0
    for _ in range(MOST_BOUTS):
        for _ in range(ROUNDS):
            for watch in watches:
                watch.go()
        best = [watch.best for watch in watches]
        falls = not before or any(now < SETTLED * then for now, then in zip(best, before, strict=True))
        before, quiet_bouts = best, 0 if falls else quiet_bouts + 1
        if quiet_bouts == QUIET_BOUTS:
            break
        time.sleep(PAUSE)
    return before


def milliseconds(excerpts, idle) -> list[float]:
    """How long operators take within a file, in milliseconds of the processor.

    Args:
        excerpts: a list of `Excerpt`; they are measured in turns.
        idle: milliseconds of a file that does next to nothing.

    Raises:
        RuntimeError: LiteRT cannot run one of them.
        ValueError: it is no whole file.
    """
    alone = [Stopwatch(excerpt.content()) for excerpt in excerpts]
    for watch in alone:
        watch.go()
    copies = [1 if watch.best > LONG else min(COPIES, 1 + math.ceil(LONG / watch.best)) for watch in alone]
    several = [
        Stopwatch(excerpt.content(count)) if count > 1 else None
        for excerpt, count in zip(excerpts, copies, strict=True)
    ]
    for _ in range(ROUNDS):
        for watch in (*alone, *filter(None, several)):
            watch.go()
    return [
        max(one.best - idle if more is None else (more.best - one.best) / (count - 1), 0.0)
        for one, more, count in zip(alone, several, copies, strict=True)
    ]
