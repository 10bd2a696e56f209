"""The cells of a document's tables, and how they are written in Markdown and in HTML.

All texts are plain: what looks like markup in them is shown, never obeyed.
"""

import re
from dataclasses import dataclass

from hone.models.data_uris import data_uri
from hone.models.page import escape, visible

# Underscores within a word are left alone: card\_not\_working is hard to read.
_MARKUP = re.compile(r"[\\`*\[\]<>|~&$]|(?<![^\W_])_|_(?![^\W_])")


@dataclass(frozen=True, slots=True)
class Interval:
    """A number of a table with its interval; `gauge` draws it on a scale from 0 to 1 in HTML."""

    value: float
    low: float
    high: float
    n: int | None = None
    gauge: bool = False

    def range(self) -> str:
        """Return `0.901 to 0.941, n = 1,000`."""
        counted = "" if self.n is None else f", n = {self.n:,}"
        return f"{self.low:.3f} to {self.high:.3f}{counted}"


@dataclass(frozen=True, slots=True)
class Ranged:
    """A figure of a table in words, with its interval in words under it.

    `wraps` is for a sentence in the interval's place, which may run over several lines.
    """

    value: str
    range: str
    wraps: bool = False


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small picture of a table, a JPEG, and its name; without `content` the name alone.

    Markdown has the name.
    """

    name: str
    content: bytes | None


Cell = str | int | Interval | Ranged | Thumbnail


def one_line(text: str) -> str:
    """Return the text with each run of white space as one space."""
    return " ".join(visible(text).split())


def inline(text: str) -> str:
    """Return one line of Markdown that shows exactly this text, also within a table."""
    return _MARKUP.sub(r"\\\g<0>", one_line(text))


def markdown_cell(cell: Cell) -> str:
    """Return a cell as it stands in a table of Markdown."""
    match cell:
        case Interval():
            return f"{cell.value:.3f} ({cell.range()})"
        case Ranged(value, range_):
            return inline(f"{value} ({range_})")
        case Thumbnail(name):
            return inline(name)
        case int():
            return f"{cell:,}"
        case _:
            return inline(cell)


def html_cell(cell: Cell) -> str:
    """Return a cell's HTML."""
    match cell:
        case Interval():
            gauge = _gauge(cell) if cell.gauge else ""
            return f"{gauge}{cell.value:.3f} <small>({cell.range()})</small>"
        case Ranged(value, range_, wraps):
            kind = "" if wraps else ' class="range"'
            return f"{escape(value)}<br><small{kind}>{escape(range_)}</small>"
        case Thumbnail(name, content):
            return _thumbnail(name, content)
        case int():
            return f"{cell:,}"
        case _:
            return escape(cell)


def _gauge(cell: Interval) -> str:
    low, width = 100 * cell.low, max(100 * (cell.high - cell.low), 1)
    point = min(max(100 * cell.value - 1.5, 0), 97)
    return (
        '<svg class="gauge" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" width="100" height="10"/>'
        f'<rect class="range" x="{low:.1f}" width="{width:.1f}" height="10"/>'
        f'<rect class="point" x="{point:.1f}" width="3" height="10"/></svg>'
    )


def _thumbnail(name: str, content: bytes | None) -> str:
    if content is None:
        return escape(name)
    drawn = data_uri(content, "image/jpeg")
    return f'<img class="thumbnail" src="{drawn}" alt="{escape(name)}" title="{escape(name)}">'
