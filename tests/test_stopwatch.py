"""The stopwatch of files, with clocks as virtual machines have them."""

import itertools

import pytest

from tf_terngrad.sparsity.costs import timetable
from tf_terngrad.tflite import stopwatch


class Clock:
    """Of a thread that runs for 2 µs between two looks; but in one of fifty runs it stands still, or jumps back."""

    def __init__(self, jump):
        self._looks, self._now, self._jump = itertools.count(), 0, jump

    def thread_time_ns(self):
        self._now += 2000
        if next(self._looks) % 100 == 51:
            self._now -= self._jump
        return self._now


@pytest.mark.parametrize("jump", [1000, 2000, 5000])
def test_runs_that_the_clock_got_wrong_do_not_count(monkeypatch, jump):
    watch = stopwatch.Stopwatch(timetable.packed(timetable._sum_of_two()))
    monkeypatch.setattr(stopwatch, "time", Clock(jump))
    watch.go()
    assert watch.best == 2e-3
