"""A plot's frame in SVG: scales, ticks, and marks placed by data, in the page's colours.

Drawn about as wide as a phone, so that its letters can be read on one. Every text is escaped here.
"""

import math
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from hone.models.page import escape

WIDTH, HEIGHT = 360, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 20, 24, 42
_TICKS = 5
_KEY_ROW = 17
_WIDE, _NARROW = frozenset("MWm@%"), frozenset("ijlI.,:;'|![]() ")


@dataclass(frozen=True, slots=True)
class Scale:
    """One axis: its name, its ends, whether it is logarithmic, and how a tick reads."""

    name: str
    low: float
    high: float
    logarithmic: bool = False
    reads: Callable[[float], str] = "{:g}".format

    def place(self, value: float) -> float:
        """Return where a value lies between the ends, from 0 to 1; what lies outside moves in."""
        value = min(max(value, self.low), self.high)
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Return round values to mark."""
        return _decades(self.low, self.high) if self.logarithmic else _steps(self.low, self.high)


def linear(name: str, values: Iterable[float], reads: Callable[[float], str]) -> Scale:
    """Return a scale that holds the values with a little room around them."""
    known = list(values) or [0.0, 1.0]
    low, high = min(known), max(known)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    return Scale(name, low - room, high + room, reads=reads)


def logarithmic(name: str, values: Iterable[float], reads: Callable[[float], str]) -> Scale:
    """Return a logarithmic scale that holds the values above zero."""
    known = [value for value in values if value > 0] or [1.0, 10.0]
    return Scale(name, min(known) / 1.6, max(known) * 1.6, logarithmic=True, reads=reads)


def _steps(low: float, high: float) -> list[float]:
    rough = (high - low) / _TICKS
    size = 10 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    first = math.ceil(low / step - 1e-9)
    return [step * k for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _decades(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [f * 10.0**p for p in powers for f in factors if low <= f * 10.0**p <= high]
        if len(found) <= _TICKS + 1:
            return found
    return found[:: math.ceil(len(found) / _TICKS)]


@dataclass(frozen=True, slots=True)
class Axes:
    """Two scales, and the marks between them as pieces of SVG."""

    x: Scale
    y: Scale

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return the pixel of a pair of values."""
        across = _LEFT + self.x.place(x) * (WIDTH - _LEFT - _RIGHT)
        return across, HEIGHT - _BOTTOM - self.y.place(y) * (HEIGHT - _TOP - _BOTTOM)

    def line(
        self, points: Sequence[tuple[float, float]], colour: str, *, dashed: bool = False
    ) -> str:
        """Return a line through values."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.at(*point) for point in points))
        dashes = ' stroke-dasharray="4 3"' if dashed else ""
        return (
            f'<polyline points="{path}" fill="none" stroke="var(--{colour})" '
            f'stroke-width="2"{dashes}/>'
        )

    def dot(self, x: float, y: float, colour: str, *, radius: float = 4) -> str:
        """Return a dot."""
        across, down = self.at(x, y)
        return f'<circle cx="{across:.1f}" cy="{down:.1f}" r="{radius:g}" fill="var(--{colour})"/>'

    def whisker(self, x: float, low: float, high: float, colour: str) -> str:
        """Return an upright interval."""
        return self.line([(x, low), (x, high)], colour)

    def words(
        self, x: float, y: float, text: str, *, above: float = 8, left: bool | None = None
    ) -> str:
        """Return a short text beside a pair of values: on its `left`, or where more room is."""
        across, down = self.at(x, y)
        left = across > (WIDTH + _LEFT) / 2 if left is None else left
        anchor, moved = ("end", -7) if left else ("start", 7)
        return (
            f'<text class="ink" x="{across + moved:.1f}" y="{max(down - above, _TOP + 8):.1f}" '
            f'text-anchor="{anchor}">{escape(text)}</text>'
        )

    def svg(self, marks: Iterable[str], key: Sequence[tuple[str, str]] = ()) -> str:
        """Return the whole drawing; `key` has names and colours of lines, which stand above it."""
        above = _KEY_ROW * len(key)
        drawn = "".join([*self._frame(), *marks])
        if not key:
            return svg(WIDTH, HEIGHT, [drawn])
        rows = [_key(row, name, colour) for row, (name, colour) in enumerate(key)]
        return svg(
            WIDTH, HEIGHT + above, [*rows, f'<g transform="translate(0 {above})">{drawn}</g>']
        )

    def _frame(self) -> Iterable[str]:
        bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
        for value in self.y.ticks():
            down = self.at(self.x.low, value)[1]
            yield _rule(_LEFT, down, right, down)
            yield _text(_LEFT - 6, down + 4, self.y.reads(value), "end")
        for value in self.x.ticks():
            across = self.at(value, self.y.low)[0]
            yield _rule(across, _TOP, across, bottom)
            yield _text(across, bottom + 14, self.x.reads(value), "middle")
        yield _text((_LEFT + right) / 2, HEIGHT - 8, self.x.name, "middle")
        yield _text(4, 10, self.y.name, "start")


def _key(row: int, name: str, colour: str) -> str:
    down = 12 + _KEY_ROW * row
    return (
        f'<line x1="8" x2="24" y1="{down - 4}" y2="{down - 4}" stroke="var(--{colour})" '
        f'stroke-width="3"/><text class="ink" x="30" y="{down}">'
        f"{escape(fitted(name, WIDTH - 40))}</text>"
    )


def fitted(text: str, room: float) -> str:
    """Return a text, or as much of its beginning as about `room` pixels hold."""
    widths = [_letter(letter) for letter in text]
    if sum(widths) <= room:
        return text
    left, kept = room - _letter("…"), 0
    while kept < len(text) and left >= widths[kept]:
        left -= widths[kept]
        kept += 1
    return f"{text[:kept].rstrip()}…"


def _letter(letter: str) -> float:
    """Return about how wide a letter is, in pixels, in the wider of the page's fonts."""
    if unicodedata.east_asian_width(letter) in "WF":
        return 11.0
    return 9.5 if letter in _WIDE else 4.5 if letter in _NARROW else 6.9


def svg(width: float, height: float, pieces: Iterable[str]) -> str:
    """Return an svg element of that many units; it is as wide as there is room."""
    return f'<svg viewBox="0 0 {width:g} {height:g}" aria-hidden="true">{"".join(pieces)}</svg>'


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        'stroke="var(--line)" stroke-width="1"/>'
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
