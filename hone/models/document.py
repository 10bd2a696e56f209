"""A small document of sections, that can be written as Markdown and as HTML.

A card says the same in both, so it is put together once, of these blocks. All texts are plain:
what looks like markup in them (a label may be called `<script>` or `a|b`) is shown, never obeyed.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from hone.models.cells import Cell, html_cell, inline, markdown_cell
from hone.models.data_uris import data_uri
from hone.models.gallery import Gallery
from hone.models.page import escape, page, visible

_MARKDOWN_DPI = 110
_HTML_DPI = 160
_LARGE_PICTURE = 640
_MOST_BESIDE = 3
"""How many columns stand side by side on a phone; a row of more becomes a list of its cells."""
_LONGEST_WHOLE = 24
"""A word of a cell, such as a label, that has no more characters is never broken on a wide page."""


@dataclass(frozen=True, slots=True)
class Png:
    """A PNG file's bytes, and its size in CSS pixels."""

    content: bytes
    width: int
    height: int


Paint = Callable[..., Png]
"""Draws a picture: called with `dark` (bool) and `dpi` (int)."""


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list of sentences."""

    items: Sequence[str]


@dataclass(frozen=True, slots=True)
class Table:
    """A table; `align` has one letter a column, `l` for words and `r` for numbers."""

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    align: str


@dataclass(frozen=True, slots=True)
class Verbatim:
    """Text shown exactly as it is, line for line."""

    text: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture with a text for those who cannot see it, and a caption."""

    alt: str
    caption: str
    paint: Paint


@dataclass(frozen=True, slots=True)
class Drawing:
    """Markup of an `svg` element in the page's colours, a text instead of it, and a caption.

    The markup goes into the page as it is: whoever draws it escapes the texts in it. Markdown has
    the text and the caption alone.
    """

    alt: str
    caption: str
    svg: str


@dataclass(frozen=True, slots=True)
class Side:
    """Drawings side by side, where there is room."""

    drawings: Sequence[Drawing]


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading within a section."""

    text: str


@dataclass(frozen=True, slots=True)
class Folded:
    """Blocks that a reader opens, under a line that says what they are."""

    summary: str
    blocks: Sequence["Block"]


_Drawn = Picture | Drawing | Side | Folded | Gallery
Block = Text | Bullets | Table | Verbatim | Heading | _Drawn

Tone = Literal["good", "bad", "neutral"]


@dataclass(frozen=True, slots=True)
class Banner:
    """What a document comes to: a word or two, and a sentence."""

    word: str
    sentence: str
    tone: Tone = "neutral"


@dataclass(frozen=True, slots=True)
class Fact:
    """One of the few numbers at the top; `tone` tells one that should give pause."""

    name: str
    value: str
    note: str = ""
    tone: Tone = "neutral"


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class Document:
    """A title, a sentence, a few numbers, and sections."""

    title: str
    lead: str
    facts: Sequence[Fact]
    sections: Sequence[Section]
    banner: Banner | None = None

    def markdown(self) -> str:
        """Return CommonMark with GitHub's tables; pictures are inside, as data URIs."""
        facts = [_markdown_fact(fact) for fact in self.facts]
        parts = [f"# {inline(self.title)}", inline(self.lead)]
        if self.banner is not None:
            parts.append(f"**{inline(self.banner.word)}.** {inline(self.banner.sentence)}")
        parts.append("\n".join(facts))
        for section in self.sections:
            parts.append(f"## {inline(section.title)}")
            parts += [_markdown(block) for block in section.blocks]
        return "\n\n".join(part for part in parts if part) + "\n"

    def html(self) -> str:
        """Return one HTML page that needs nothing but itself."""
        facts = "".join(_html_fact(fact) for fact in self.facts)
        parts = [f"<h1>{escape(self.title)}</h1>", f'<p class="lead">{escape(self.lead)}</p>']
        parts += [] if self.banner is None else [_html_banner(self.banner)]
        parts += [f'<dl class="facts">{facts}</dl>'] if facts else []
        for section in self.sections:
            blocks = "\n".join(_html(block) for block in section.blocks)
            parts.append(f"<section>\n<h2>{escape(section.title)}</h2>\n{blocks}\n</section>")
        return page(self.title, "\n".join(parts))


def fenced(text: str) -> str:
    """Return a fenced block of this text; the fence is longer than any that the text holds."""
    lines = visible(text.replace("\r\n", "\n").replace("\r", "\n"))
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", lines)), default=0))
    return f"{fence}text\n{lines}\n{fence}"


def _markdown(block: Block) -> str:
    match block:
        case Text(text):
            return inline(text)
        case Bullets(items):
            return "\n".join(f"- {inline(item)}" for item in items)
        case Table():
            return _markdown_table(block)
        case Verbatim(text):
            return fenced(text)
        case Heading(text):
            return f"### {inline(text)}"
        case _:
            return _markdown_drawn(block)


def _markdown_drawn(block: _Drawn) -> str:
    match block:
        case Picture(alt, caption, paint):
            drawn = _data_uri(paint(dark=False, dpi=_MARKDOWN_DPI))
            return f"![{inline(alt)}]({drawn})\n\n{inline(caption)}"
        case Drawing(alt, caption):
            return f"*Drawn in the page:* {inline(alt)}. {inline(caption)}"
        case Gallery():
            return block.markdown(inline)
        case Side(drawings):
            return "\n\n".join(_markdown(drawing) for drawing in drawings)
        case Folded(summary, blocks):
            return "\n\n".join([inline(summary), *map(_markdown, blocks)])


def _markdown_fact(fact: Fact) -> str:
    note = f" ({inline(fact.note)})" if fact.note else ""
    return f"- {inline(fact.name)}: **{inline(fact.value)}**{note}"


def _markdown_table(table: Table) -> str:
    rules = ["---:" if letter == "r" else "---" for letter in table.align]
    rows = [[inline(name) for name in table.head], rules]
    rows += [[markdown_cell(cell) for cell in row] for row in table.rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _html(block: Block) -> str:
    match block:
        case Text(text):
            return f"<p>{escape(text)}</p>"
        case Bullets(items):
            return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"
        case Table():
            return _html_table(block)
        case Verbatim(text):
            return f'<pre tabindex="0">{escape(text)}</pre>'
        case Heading(text):
            return f"<h3>{escape(text)}</h3>"
        case _:
            return _html_drawn(block)


def _html_drawn(block: _Drawn) -> str:
    match block:
        case Picture():
            return _html_picture(block)
        case Drawing():
            return _html_drawing(block)
        case Gallery():
            return block.html()
        case Side(drawings):
            return f'<div class="side">{"".join(map(_html_drawing, drawings))}</div>'
        case Folded(summary, blocks):
            inside = "\n".join(map(_html, blocks))
            return f"<details><summary>{escape(summary)}</summary>\n{inside}\n</details>"


def _html_drawing(drawing: Drawing) -> str:
    return (
        f'<figure class="drawing" role="img" aria-label="{escape(drawing.alt)}">{drawing.svg}'
        f"<figcaption>{escape(drawing.caption)}</figcaption></figure>"
    )


def _html_banner(banner: Banner) -> str:
    return (
        f'<div class="banner {banner.tone}"><p class="word">{escape(banner.word)}</p>'
        f"<p>{escape(banner.sentence)}</p></div>"
    )


def _html_fact(fact: Fact) -> str:
    note = f'<dd class="note">{escape(fact.note)}</dd>' if fact.note else ""
    kind = "value" if fact.tone == "neutral" else f"value {fact.tone}"
    value = f'<dd class="{kind}">{escape(fact.value)}</dd>'
    return f"<div><dt>{escape(fact.name)}</dt>{value}{note}</div>"


def _kind(cell: Cell) -> str:
    """Return the class of a cell that is one word, such as a label, which should stay whole."""
    whole = isinstance(cell, str) and len(cell) <= _LONGEST_WHOLE and not re.search(r"\s", cell)
    return ' class="word"' if whole else ""


def _html_table(table: Table) -> str:
    kinds = [' class="number"' if letter == "r" else "" for letter in table.align]
    head = "".join(
        f'<th scope="col"{kind}>{escape(name)}</th>'
        for kind, name in zip(kinds, table.head, strict=True)
    )
    head = f"<thead><tr>{head}</tr></thead>\n" if any(table.head) else ""
    stacks = len(table.head) > _MOST_BESIDE and bool(head)
    named = [f' data-label="{escape(name)}"' if stacks else "" for name in table.head]
    opened, closed = ("<div>", "</div>") if stacks else ("", "")
    rows = "\n".join(
        "<tr>"
        + "".join(
            f"<td{kind or _kind(cell)}{name}>{opened}{html_cell(cell)}{closed}</td>"
            for kind, name, cell in zip(kinds, named, row, strict=True)
        )
        + "</tr>"
        for row in table.rows
    )
    stack = ' class="stack"' if stacks else ""
    return (
        f'<div class="scroll" tabindex="0"><table{stack}>\n{head}<tbody>\n{rows}\n'
        "</tbody></table></div>"
    )


def _html_picture(picture: Picture) -> str:
    light = picture.paint(dark=False, dpi=_HTML_DPI)
    dark = picture.paint(dark=True, dpi=_HTML_DPI)
    large = ' class="large"' if light.width > _LARGE_PICTURE else ""
    return (
        '<figure tabindex="0"><picture>'
        f'<source media="(prefers-color-scheme: dark)" srcset="{_data_uri(dark)}">'
        f'<img{large} src="{_data_uri(light)}" width="{light.width}" height="{light.height}"'
        f' alt="{escape(picture.alt)}"></picture>'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def _data_uri(png: Png) -> str:
    return data_uri(png.content, "image/png")
