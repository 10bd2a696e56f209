"""Tables and times at an operator's terminal."""

from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

_WIDE = 240
"""Columns, where the output goes to a file or a program."""


def when(seconds: int) -> str:
    """Return a Unix time as the machine's clock shows it."""
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


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
