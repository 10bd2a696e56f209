"""Other people's words at a terminal: data, labels, names."""

from rich.markup import escape


def plain(text: str) -> str:
    """Return a text that the terminal shows as it is: no markup, no escape sequence.

    What a stranger wrote may stand in it, and must not move the cursor or change a colour.
    """
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return escape(shown)


def plain_lines(text: str) -> str:
    """Return a text of several lines likewise."""
    return "\n".join(map(plain, text.split("\n")))
