"""What the first bytes and the outline of a picture file say, read without decoding anything.

Only JPEG, PNG and WebP are known. The dimensions come from the file's own header fields (JPEG:
ITU T.81, section B.2.2; PNG: W3C third edition, section 11.2.1; WebP: RFC 9649), so that a file
which would unpack to more than anyone wants to hold is found out before a decoder sees it.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from hone.models.errors import InvalidInput

Format = Literal["JPEG", "PNG", "WEBP"]

MEDIA_TYPES: dict[Format, str] = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
SUFFIXES: dict[Format, str] = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}

_JPEG_START = b"\xff\xd8\xff"
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_STANDALONE_MARKERS = frozenset({0x01, *range(0xD0, 0xD8)})
FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
_TABLES_AND_SCANS = frozenset({0xC4, 0xCC, START_OF_SCAN, 0xDB, 0xDC, 0xDD})
_APPLICATIONS_AND_COMMENT = frozenset({*range(0xE0, 0xF0), 0xFE})
_SEGMENT_MARKERS = FRAME_MARKERS | _TABLES_AND_SCANS | _APPLICATIONS_AND_COMMENT
"""Markers whose segment libjpeg and Pillow pass over by its length. Behind any other one they read
on, or give up: what we passed over there would be hidden from us, and not from them."""

_ANIMATED_FLAG = 0x02

_MOST_FURTHER = 16
"""JPEGs behind the first one; cameras add one to three."""

MOST_PARTS = 16_384
"""Segments of a JPEG or chunks of a PNG. Decoders take some 10 µs for each, however small, and
32 MiB would hold millions. Encoders write pieces of 4 to 64 KiB."""

_MOST_FILL_BYTES = 64 * 2**10
"""Of a whole JPEG. Pillow reads each by itself: 30 MB of them take it a minute."""

_USUAL_SCANS, _MOST_SCANNED = 20, 500_000_000
"""A JPEG with more scans than usual (progressive ones have 6 to 18) may have so many pixels in all
of them together: each scan goes over the whole picture, and of a flat one it takes 40 bytes."""

_DO_NOT_FIT = "it is a JPEG picture whose parts do not fit together"
_FILL_BYTES = re.compile(rb"\xff+")
_MARKER_BEHIND_DATA = re.compile(rb"\xff[^\x00\x01\xd0-\xd7]")
"""Behind entropy-coded data: no stuffed zero, and no marker that stands without a segment."""


class UnusablePicture(InvalidInput):
    """Bytes that are no picture which can be used; the message says why."""

    code = "unusable_picture"


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself; `width` and `height` in pixels, before any rotation by EXIF."""

    format: Format
    width: int
    height: int
    animated: bool = False


def sniff(content: bytes | bytearray) -> Format | None:
    """Return the format by the file's first bytes, whatever it is called; None for another."""
    if content.startswith(_JPEG_START):
        return "JPEG"
    if content.startswith(_PNG_SIGNATURE):
        return "PNG"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WEBP"
    return None


def read_header(content: bytes) -> Header:
    """Walk the outline of a file; UnusablePicture for another format, or one that is not whole.

    A file that goes on behind its end is refused: it may be another kind of file as well.
    """
    if not content:
        raise UnusablePicture("it is empty")
    found = sniff(content)
    if found is None:
        raise UnusablePicture("it is no JPEG, PNG or WebP picture")
    readers = {"JPEG": _read_jpeg, "PNG": _read_png, "WEBP": _read_webp}
    try:
        header = readers[found](content)
    except (struct.error, IndexError):
        raise UnusablePicture(f"it is a {found} picture that was cut off") from None
    if header.width < 1 or header.height < 1:
        raise UnusablePicture(f"it is a {found} picture without a size")
    return header


def _read_png(content: bytes) -> Header:
    size: tuple[int, int] | None = None
    animated, end = False, None
    for kind, start, length in png_chunks(content):
        if kind == b"IHDR" and size is None:
            size = struct.unpack_from(">II", content, start)
        animated = animated or kind == b"acTL"
        if kind == b"IEND":
            end = start + length + 4
            break
    if size is None or end is None or end > len(content):
        raise UnusablePicture("it is a PNG picture that was cut off")
    _refuse_more(content, end, "PNG")
    return Header("PNG", *size, animated)


def png_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield each chunk's type, where its data starts, and how long that is.

    UnusablePicture for more than `MOST_PARTS`.
    """
    at, chunks = len(_PNG_SIGNATURE), 0
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        chunks += 1
        _refuse_many(chunks, MOST_PARTS, "PNG", "chunks")
        yield kind, at + 8, length
        if kind == b"IEND":
            return
        at += 12 + length


def _read_webp(content: bytes) -> Header:
    (length,) = struct.unpack_from("<I", content, 4)
    end = 8 + length
    if end > len(content):
        raise UnusablePicture("it is a WEBP picture that was cut off")
    _refuse_more(content, end + length % 2, "WEBP")
    kind = content[12:16]
    if kind == b"VP8X":
        animated = bool(content[20] & _ANIMATED_FLAG)
        width = 1 + int.from_bytes(content[24:27], "little")
        height = 1 + int.from_bytes(content[27:30], "little")
        return Header("WEBP", width, height, animated)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", content, 21)
        return Header("WEBP", 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", content, 26)
        return Header("WEBP", width & 0x3FFF, height & 0x3FFF)
    raise UnusablePicture("it is a WEBP picture of an unknown kind")


def _read_jpeg(content: bytes) -> Header:
    size: tuple[int, int] | None = None
    end = scans = 0
    for marker, at in jpeg_segments(content):
        scans += marker == START_OF_SCAN
        if marker in FRAME_MARKERS and size is None:
            height, width = struct.unpack_from(">HH", content, at + 3)
            size = width, height
        end = at
    if size is None:
        raise UnusablePicture("it is a JPEG picture without a size")
    if not scans:  # Pillow would look for one behind the end, byte by byte
        raise UnusablePicture("it is a JPEG picture without a scan")
    width, height = size
    if scans > _USUAL_SCANS and scans * width * height > _MOST_SCANNED:
        raise UnusablePicture(
            f"it is a JPEG picture with too many scans: {scans:,} of {width} x {height} pixels"
        )
    _refuse_more(content, end, "JPEG")
    return Header("JPEG", *size)


def jpeg_segments(content: bytes, start: int = 0) -> Iterator[tuple[int, int]]:
    """Yield each marker of a JPEG and where it ends, up to the end mark; UnusablePicture if none.

    A segment's length and data stand where its marker ends. Entropy-coded data is passed over.
    UnusablePicture also for more than `MOST_PARTS` markers, too many bytes to fill between them, or
    a marker whose segment decoders would not pass over.
    """
    at, markers, fill_bytes = start + 2, 0, 0
    while True:
        before = at
        marker, at = _next_marker(content, before)
        markers, fill_bytes = markers + 1, fill_bytes + at - before - 2
        _refuse_many(markers, MOST_PARTS, "JPEG", "segments")
        _refuse_many(fill_bytes, _MOST_FILL_BYTES, "JPEG", "fill bytes")
        if marker in _STANDALONE_MARKERS:
            continue
        yield marker, at
        if marker == END_OF_IMAGE:
            return
        if marker not in _SEGMENT_MARKERS:
            raise UnusablePicture(_DO_NOT_FIT)
        (length,) = struct.unpack_from(">H", content, at)
        at += length
        if marker == START_OF_SCAN:
            at = _end_of_scan(content, at)


def _next_marker(content: bytes, at: int) -> tuple[int, int]:
    """Return the marker at a place and where its segment starts."""
    if content[at] != 0xFF:
        raise UnusablePicture(_DO_NOT_FIT)
    fill = _FILL_BYTES.match(content, at)  # any number of them may stand before a marker
    at = fill.end() if fill else at
    return content[at], at + 1


def _end_of_scan(content: bytes, at: int) -> int:
    """Return where the next marker stands behind entropy-coded data."""
    found = _MARKER_BEHIND_DATA.search(content, at)
    if found is None:
        raise UnusablePicture("it is a JPEG picture that was cut off")
    return found.start()


def _refuse_many(count: int, most: int, name: str, parts: str) -> None:
    if count > most:
        raise UnusablePicture(f"it is a {name} picture with more than {most:,} {parts}")


def _refuse_more(content: bytes, end: int, name: str) -> None:
    """Refuse what stands behind the end of a picture, unless it is padding or further JPEGs.

    Cameras add a preview or a depth map as another JPEG, and some pad their files, with zeros or
    with the ones of erased memory. No other format is written by cameras.
    """
    if name == "JPEG":
        end = _end_of_further(content, end)
    if content[end:].lstrip(b"\0\xff" if name == "JPEG" else b"\0"):
        raise UnusablePicture(f"it is a {name} picture with something else behind its end")


def _end_of_further(content: bytes, end: int) -> int:
    """Return where the last of the whole JPEGs ends that stand behind a first one."""
    for _ in range(_MOST_FURTHER):
        start = len(content) - len(content[end:].lstrip(b"\0"))
        if not content.startswith(_JPEG_START, start):
            break
        try:
            *_, (_, end) = jpeg_segments(content, start)
        except (UnusablePicture, struct.error, IndexError):
            break
    return end
