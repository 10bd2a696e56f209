"""Tables at a terminal, or in a program's pipe, whose names can be used as they stand."""

from rich.console import Console
from rich.table import Table

_WIDE = 240
"""Columns, where the output goes to a file or a program."""


def console() -> Console:
    """Return standard output, wide where nobody looks at it."""
    found = Console()
    return found if found.is_terminal else Console(width=max(found.width, _WIDE))


def id_table(*columns: str) -> Table:
    """Return a table whose first column, the ids, is never cut; the others are folded."""
    table = Table()
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=not number, overflow="fold")
    return table
