"""Tables and progress: aligned and whole in a pipe, drawn on a terminal, never in the way of what a program reads."""

import io
import sys

import pytest

from tf_terngrad import console


class Terminal(io.StringIO):
    """An output that says it is a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """A function that puts a terminal of 40 columns in a stream's place; to be called in the test."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")

    def replace(name):
        monkeypatch.setattr(sys, name, Terminal())
        return getattr(sys, name)

    return replace


LONG = "a reason " * 40


def test_a_pipe_gets_whole_cells_in_aligned_columns(capsys):
    console.show_table(["name", "count", "why"], [("conv[0:3]", "1,000", LONG + "!"), (":b:", 2, "")], text=["why"])
    title, first, second = capsys.readouterr().out.splitlines()
    assert first == f"conv[0:3]  1,000  {LONG}!"  # no markup, no break, no cut
    assert title.index("count") + len("count") == first.index("1,000") + len("1,000")
    assert second == ":b:".ljust(len("conv[0:3]")) + "2".rjust(7) and title == title.rstrip()


def test_a_terminal_gets_a_table_that_fits(terminal):
    shown = terminal("stdout")
    console.show_table(["name", "why"], [("conv", LONG)], text=["why"])
    lines = shown.getvalue().splitlines()
    assert len(lines) > 8 and max(map(len, lines)) <= 40 + len("\x1b[1m\x1b[0m") * 4


def test_a_table_in_a_string_is_the_same_whatever_the_output_is(terminal, monkeypatch):
    def table():
        return console.plain_table(
            ["name", "size", "why"], [("conv[0:3]", (12, 7), LONG), (":b:", (3, 3), "")], ["why"]
        )

    expected = f"name         size  why\nconv[0:3]  12 → 7  {LONG.rstrip()}\n:b:         3 → 3"
    assert table() == expected
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "JUPYTER_COLUMNS"):
        monkeypatch.setenv(name, "1")
    terminal("stdout")
    assert table() == expected
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert table() == expected


def test_a_table_without_titles_has_no_line_of_titles_and_one_without_rows_no_line():
    assert (
        console.plain_table(["", ""], [("file", "m.tflite"), ("bytes", "9")], text=[""]) == "file   m.tflite\nbytes  9"
    )
    assert console.plain_table(["name", "size"], []) == ""


def test_a_table_is_written_in_a_notebook_too(monkeypatch):
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert console.plain_table(["name"], [("conv",)]) == "name\nconv"


def test_what_was_measured_is_printed_whatever_ends_the_program(capsys):
    with pytest.raises(KeyboardInterrupt), console.growing_table(["name", "ms"]) as add:
        add("first", 1.5)
        assert capsys.readouterr() == ("", "first  1.5\n")  # a sign of life
        raise KeyboardInterrupt
    assert capsys.readouterr().out == "name    ms\nfirst  1.5\n"


def test_nothing_measured_is_no_table(capsys):
    with console.growing_table(["name", "ms"]):
        pass
    assert capsys.readouterr() == ("", "")


def test_progress_is_shown_on_a_terminal_and_leaves_the_output_alone(capsys, terminal):
    shown = terminal("stderr")
    with console.doing("Loading model.keras"):
        print("printed meanwhile")
    assert list(console.tracked([1, 2], "Measuring")) == [1, 2]
    assert "Loading model.keras" in shown.getvalue() and "Measuring" in shown.getvalue()
    assert capsys.readouterr().out == "printed meanwhile\n"


def test_progress_is_silent_in_a_pipe(capsys):
    with console.doing("Loading"):
        pass
    assert list(console.tracked("ab", "Measuring")) == ["a", "b"]
    assert capsys.readouterr() == ("", "")
