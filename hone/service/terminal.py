"""Times at an operator's terminal."""

from datetime import UTC, datetime


def when(seconds: int) -> str:
    """Return a Unix time as the machine's clock shows it."""
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
