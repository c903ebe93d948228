"""The table of times: measured once on a machine, whatever becomes of its file and whoever else writes it."""

import dataclasses
import json
import multiprocessing

import pytest

from tf_terngrad.sparsity.costs import timetable
from tf_terngrad.sparsity.costs.timetable import Timetable


@dataclasses.dataclass(frozen=True)
class Named:
    """In place of an excerpt."""

    key: str


@pytest.fixture
def measured(monkeypatch):
    """The keys that were measured, in order; each takes as many milliseconds as it has letters."""
    keys = []

    def milliseconds(excerpts, idle):
        keys.extend(excerpt.key for excerpt in excerpts)
        return [float(len(excerpt.key)) for excerpt in excerpts]

    monkeypatch.setattr(timetable, "milliseconds", milliseconds)
    monkeypatch.setattr(timetable, "_idle", lambda: 0.0)
    return keys


def test_nothing_is_measured_twice(measured, tmp_path):
    path, names = tmp_path / "machine" / "times.json", [Named("a"), Named("bb"), Named("a")]
    table = Timetable(path)
    table.measure(names, "Measuring")
    assert measured == ["a", "bb"] and table[Named("bb")] == 2.0
    again = Timetable(path)
    again.measure([*names, Named("ccc")], "Measuring")
    assert measured == ["a", "bb", "ccc"] and again[Named("a")] == 1.0


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b'{"form": 1}',
        b'{"form": 0, "milliseconds": {"a": 9.0}}',
        b'{"form": 1, "milliseconds": {"a": "9"}}',
        b'{"form": 1, "milliseconds": {"a": -9.0}}',
        b'{"form": 1, "milliseconds": {"a": NaN}}',
        b'{"form": 1, "milliseconds": [9.0]}',
    ],
)
def test_a_damaged_file_is_made_again(measured, tmp_path, content):
    path = tmp_path / "times.json"
    path.write_bytes(content)
    table = Timetable(path)
    table.measure([Named("a")], "Measuring")
    assert measured == ["a"] and table[Named("a")] == 1.0
    assert json.loads(path.read_text())["milliseconds"] == {"a": 1.0}


def test_what_another_process_wrote_meanwhile_stays(measured, tmp_path):
    path = tmp_path / "times.json"
    first, second = Timetable(path), Timetable(path)
    first.measure([Named("a")], "Measuring")
    second.measure([Named("bb")], "Measuring")
    assert json.loads(path.read_text())["milliseconds"] == {"a": 1.0, "bb": 2.0}


def fill(path, prefix):
    timetable.milliseconds = lambda excerpts, idle: [1.0 for _ in excerpts]
    timetable._idle = lambda: 0.0
    table = Timetable(path)
    for number in range(30):
        table.measure([Named(f"{prefix}{number}")], "Measuring")
    assert all(table[Named(f"{prefix}{number}")] == 1.0 for number in range(30))


def test_two_processes_at_once_leave_a_whole_file(tmp_path):
    path, context = tmp_path / "times.json", multiprocessing.get_context("fork")
    processes = [context.Process(target=fill, args=(path, prefix)) for prefix in "xy"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    held = json.loads(path.read_text())["milliseconds"]
    assert {key[0] for key in held} == {"x", "y"} and len(held) > 30


def test_an_operator_that_cannot_run_alone_counts_nothing_and_is_named(monkeypatch, tmp_path, caplog):
    def milliseconds(excerpts, idle):
        if any(excerpt.key == "bad" for excerpt in excerpts):
            raise RuntimeError("it failed to prepare\nmore")
        return [2.0 for _ in excerpts]

    monkeypatch.setattr(timetable, "milliseconds", milliseconds)
    monkeypatch.setattr(timetable, "_idle", lambda: 0.0)
    table = Timetable(tmp_path / "times.json")
    table.measure([Named("good"), Named("bad"), Named("fine")], "Measuring")
    assert [table[Named(key)] for key in ("good", "bad", "fine")] == [2.0, 0.0, 2.0]
    assert "bad: it failed to prepare" in caplog.text


def test_its_name_tells_the_processor_and_the_version():
    name = timetable._machine()
    assert "litert-" in name and name == timetable._machine() and "/" not in name


def test_it_lies_in_the_user_s_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    Timetable.of_this_machine()._write()
    assert [path.suffix for path in (tmp_path / "tf_terngrad" / "latency").iterdir()] == [".json"]
