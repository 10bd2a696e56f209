"""Which encoding a text file is in: byte order mark, then UTF-8 by trying, then a guess."""

import codecs
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from hone.models.errors import InvalidInput

UNDECODABLE = "\udc80"
"""Stands in decoded text for bytes that the encoding does not allow."""

_ERRORS = "hone-undecodable"
_CHUNK = 1 << 20
_SAMPLE = 1 << 16

# UTF-32 first: its little-endian mark begins with that of UTF-16.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

# The code pages a guess may choose from, each with the languages that it is believed for. Short
# western texts fit many code pages, and the commonest by far is windows-1252.
_GUESSES: dict[str, frozenset[str]] = {
    "cp1252": frozenset(),
    "cp1250": frozenset(
        {"Polish", "Czech", "Slovak", "Hungarian", "Slovene", "Croatian", "Romanian"}
    ),
    "cp1254": frozenset({"Turkish"}),
    "cp1257": frozenset({"Lithuanian", "Latvian", "Estonian"}),
    "cp1251": frozenset(),
    "koi8_r": frozenset(),
    "cp1253": frozenset(),
    "cp1255": frozenset(),
    "cp1256": frozenset(),
    "cp932": frozenset(),
    "euc_jp": frozenset(),
    "gb18030": frozenset(),
    "big5": frozenset(),
    "cp949": frozenset(),
}


@dataclass(frozen=True, slots=True)
class Encoding:
    """`codec` is Python's name; `guessed` says that neither a mark nor UTF-8 decided it."""

    codec: str
    has_mark: bool = False
    guessed: bool = False

    @property
    def spoken(self) -> str:
        """The name a person knows."""
        return "UTF-8" if self.codec in {"utf-8", "utf-8-sig"} else self.codec


def find_encoding(path: Path, *, given: str | None = None, is_json: bool = False) -> Encoding:
    """Return the encoding of a text file; raise InvalidInput for an unknown `given` one.

    The whole file is tried as UTF-8, a megabyte at a time. JSON is UTF-8 by its standard, so a
    few broken bytes there are broken lines and no reason to guess.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    marked = next((codec for mark, codec in _BYTE_ORDER_MARKS if head.startswith(mark)), None)
    if given is not None:
        return Encoding(_known_codec(given), has_mark=marked is not None)
    if marked is not None:
        return Encoding(marked, has_mark=True)
    wide = _utf16_without_mark(head)
    if wide is not None:
        return Encoding(wide, guessed=True)
    if _is_probably_utf8(path, is_json=is_json):
        return Encoding("utf-8")
    return Encoding(_guess(_lines_with_high_bytes(path)), guessed=True)


def open_text(path: Path, encoding: Encoding) -> TextIO:
    """Open for reading, line ends untouched; undecodable bytes become `UNDECODABLE`."""
    _register_error_handler()
    return path.open(encoding=encoding.codec, errors=_ERRORS, newline="")


def _register_error_handler() -> None:
    codecs.register_error(_ERRORS, _mark_undecodable)


def _mark_undecodable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return UNDECODABLE, error.end


def _known_codec(name: str) -> str:
    try:
        info = codecs.lookup(name)
    except LookupError:
        raise InvalidInput(f"there is no encoding {name!r}: try utf-8, utf-16 or cp1252") from None
    # A given plain UTF-8 must not leave a mark in the first column's name.
    return "utf-8-sig" if info.name == "utf-8" else info.name


def _utf16_without_mark(head: bytes) -> str | None:
    """Western text in UTF-16 has a NUL in every second byte."""
    pairs = len(head) // 2
    if pairs < 2:
        return None
    if head[1::2].count(0) > 0.4 * pairs and head[::2].count(0) < 0.1 * pairs:
        return "utf-16-le"
    if head[::2].count(0) > 0.4 * pairs and head[1::2].count(0) < 0.1 * pairs:
        return "utf-16-be"
    return None


def _is_probably_utf8(path: Path, *, is_json: bool) -> bool:
    _register_error_handler()
    decoder = codecs.getincrementaldecoder("utf-8")(_ERRORS)
    good = broken = lines = 0
    for chunk in _chunks(path):
        text = decoder.decode(chunk)
        lines += text.count("\n")
        if not text.isascii():
            bad_here = text.count(UNDECODABLE)
            broken += bad_here
            good += len(text) - len(text.encode("ascii", "ignore")) - bad_here
    broken += decoder.decode(b"", final=True).count(UNDECODABLE)
    if is_json and broken * 100 <= lines + 1:
        return True
    return broken == 0 or good > broken


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _lines_with_high_bytes(path: Path) -> bytes:
    """Return up to 64 KiB of the lines that tell encodings apart."""
    sample = bytearray()
    with path.open("rb") as file:
        while len(sample) < _SAMPLE and (line := file.readline(_SAMPLE)):
            if not line.isascii():
                sample += line
    return bytes(sample[:_SAMPLE])


def _guess(sample: bytes) -> str:
    if importlib.util.find_spec("charset_normalizer") is None:
        return "cp1252"
    from charset_normalizer import from_bytes  # noqa: PLC0415 - of the extra, needed only here

    best = from_bytes(sample, cp_isolation=list(_GUESSES)).best()
    if best is None or best.encoding not in _GUESSES:
        return "cp1252"
    believed_for = _GUESSES[best.encoding]
    return "cp1252" if believed_for and best.language not in believed_for else best.encoding
