"""Words of clients at an operator's terminal."""

from datetime import UTC, datetime

from rich.markup import escape


def plain(text: str) -> str:
    """Return a text that the terminal shows as it is: no markup, no escape sequence.

    What a client sent may stand in it, and must not move the cursor or change a colour.
    """
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return escape(shown)


def when(seconds: int) -> str:
    """Return a Unix time as the machine's clock shows it."""
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
