"""Tables and progress: drawn on a terminal, plain text in a file, a pipe or a string."""

import contextlib
import io
import sys

from rich import box
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

# Of what is no terminal, and so has no width: no cell is broken into lines or cut.
UNLIMITED = 100_000
# Nothing in a text is markup, as in "conv[0:3]".
LITERAL = {"markup": False, "emoji": False, "highlight": False}


def show_table(columns, rows, text=()) -> None:
    """Print a table; use it for every table of a command line, so that none is aligned by hand.

    Args:
        columns: titles, with texts in the first column and numbers, ends aligned, in the others.
        rows: sequences of cells; a cell is shown as `str` has it.
        text: titles of further columns with texts.

    >>> show_table(["layer", "units"], [("hidden", 12), ("out", 4)])
    layer   units
    hidden     12
    out         4
    """
    _print(_filled(columns, rows, text, _console().is_terminal))


def plain_table(columns, rows, text=()) -> str:
    """Write a table into a string, the same on every machine; use it where `str()` of an object is a table.

    Args:
        columns: titles, with texts in the first column and numbers, ends aligned, in the others; where all are empty,
            there is no line of titles.
        rows: sequences of cells; a cell is shown as `str` has it, a pair (before, after) with an arrow between, and
            the arrows of a column lie below each other.
        text: titles of further columns with texts.

    Returns:
        The lines of the table; empty if it has no rows.

    >>> print(plain_table(["layer", "units", "kept"], [("hidden", (12, 6), "50 %"), ("out", (4, 4), "100 %")]))
    layer    units   kept
    hidden  12 → 6   50 %
    out      4 → 4  100 %
    """
    cells = [_joined(column) for column in zip(*rows, strict=True)]
    return _plain(_filled(columns, zip(*cells, strict=True), text)) if cells else ""


@contextlib.contextmanager
def growing_table(columns, text=()):
    """Give a function that adds a row to a table; use it where each row takes seconds to measure.

    A terminal shows the table as it grows. A file or a pipe gets the whole table at the end, also where the body fails;
    meanwhile, each row is a line on the standard error.

    Args:
        columns: titles, as for `show_table`.
        text: titles of further columns with texts.

    Yields:
        A function of the cells of a row.
    """
    console = _console()
    table = _table(columns, text, console.is_terminal)
    if console.is_terminal:
        with Live(table, console=console, vertical_overflow="visible", redirect_stdout=False, redirect_stderr=False):
            yield lambda *cells: table.add_row(*map(str, cells))
        return

    def add(*cells):
        table.add_row(*map(str, cells))
        print(*cells, sep="  ", file=sys.stderr, flush=True)

    try:
        yield add
    finally:
        if table.row_count:
            _print(table)


@contextlib.contextmanager
def doing(what: str):
    """Show on a terminal what takes some seconds, and how long it has taken; nothing elsewhere.

    Args:
        what: such as "Loading model.keras".
    """
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with _progress(*columns) as progress:
        progress.add_task(what, total=None)
        yield


def tracked(items, what: str):
    """Go through a list, and show on a terminal how far it is; use it where each item takes seconds.

    Args:
        items: a list.
        what: is done to them.

    Yields:
        The items.
    """
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with _progress(*columns) as progress:
        yield from progress.track(items, description=what)


def _joined(column):
    """The cells of a column, where they are pairs with arrows."""
    if not isinstance(column[0], tuple):
        return column
    table = Table.grid(padding=(0, 1))
    for side in ("right", "center", "right"):
        table.add_column(justify=side)
    for before, after in column:
        table.add_row(str(before), "→", str(after))
    return _plain(table).split("\n")


def _filled(columns, rows, text, drawn=False):
    table = _table(columns, text, drawn)
    for row in rows:
        table.add_row(*map(str, row))
    return table


def _table(columns, text, drawn):
    look = {"box": box.SIMPLE_HEAD if drawn else None, "padding": (0, 2, 0, 0), "pad_edge": False}
    table = Table(**look, show_header=any(columns))
    for number, title in enumerate(columns):
        is_text = number == 0 or title in text
        table.add_column(title, justify="left" if is_text else "right", overflow="fold")
    return table


def _print(table):
    console = _console()
    if console.is_terminal:
        console.print(table)
    else:
        print(_plain(table), flush=True)


def _plain(table):
    """A table as text: the same in a terminal, in a notebook, and where the standard output knows ASCII only."""
    console = Console(file=io.StringIO(), width=UNLIMITED, force_terminal=False, force_jupyter=False, **LITERAL)
    console.print(table)
    return "\n".join(line.rstrip() for line in console.file.getvalue().rstrip("\n").split("\n"))


def _console(**options):
    """A console of what is the standard output now."""
    console = Console(**LITERAL, **options)
    return console if console.is_terminal else Console(width=UNLIMITED, **LITERAL, **options)


def _progress(*columns):
    """On the standard error, for the output may be read by a program; it vanishes at the end."""
    console = _console(stderr=True)
    return Progress(
        *columns,
        console=console,
        transient=True,
        redirect_stdout=False,  # a pipe must get what is printed meanwhile
        redirect_stderr=False,
        disable=not console.is_terminal,
    )
