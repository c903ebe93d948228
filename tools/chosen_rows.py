"""Which rows of a table a command trains."""

import sys


def chosen(rows, names, command) -> list:
    """The rows of these names, or all where none is given; a name that no row has ends the command with a line."""
    known = [row.name for row in rows]
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"{command}: expected some of {', '.join(known)}. Received: {', '.join(unknown)}")
    return [row for row in rows if not names or row.name in names]
