"""Whether a PNG's pixel data is as long as its header says; it is unpacked and not kept.

Decoders stop at the last row, and leave rows that are missing black, without a word. The rules are
those of the PNG specification, third edition: sections 7.2 (scanlines), 8 (interlacing), 11.2.1
(IHDR), 11.2.2 (PLTE) and 11.2.3 (IDAT).
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from hone.models.imaging.headers import UnusablePicture, png_chunks

_PACKED_AT_ONCE, _UNPACKED_AT_ONCE = 16 * 2**10, 64 * 2**10
"""Bytes: what is held of the data."""

_HEADER_BYTES = 13
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_PALETTE = 3
_ADAM7 = ((0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4), (0, 2, 2, 4), (1, 2, 0, 2),
          (0, 1, 1, 2))  # fmt: skip
"""Of each pass: the first column and the step to the next, the first row and the step."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """What IHDR says, with the bits of one pixel in place of the depth."""

    width: int
    height: int
    bits: int
    colour: int
    interlaced: bool

    def data_bytes(self) -> int:
        """Return the length of the unpacked data: of each row its pixels and a byte before them."""
        passes = _ADAM7 if self.interlaced else ((0, 1, 0, 1),)
        total = 0
        for left, across, top, down in passes:
            columns = -(-(self.width - left) // across) if self.width > left else 0
            rows = -(-(self.height - top) // down) if self.height > top else 0
            total += rows * (1 + -(-columns * self.bits // 8)) if columns else 0
        return total


def check_png_data(content: bytes) -> None:
    """Raise UnusablePicture for pixel data that is shorter or longer than a PNG's header says.

    Also for a header that no PNG may have, a palette that is missing or malformed, and data in
    pieces with something in between. `content` is a file whose outline was read. Work is bounded
    by what the header says; memory by 64 KiB.
    """
    expected = _outline(content).data_bytes()
    unpacked = 0
    try:
        for size in _unpacked_sizes(_packed(content)):
            unpacked += size
            if unpacked > expected:
                raise UnusablePicture("it is a PNG picture with more data than its header says")
    except zlib.error:
        raise UnusablePicture("it is a PNG picture that is broken inside") from None
    if unpacked < expected:
        raise UnusablePicture("it is a PNG picture with less data than its header says")


def _outline(content: bytes) -> _Shape:
    """Return what the header says, where the chunks stand as they may."""
    shape: _Shape | None = None
    before, data, palette = b"", False, False
    for kind, start, length in png_chunks(content):
        if kind == b"IHDR":
            header = content[start : start + length] if length == _HEADER_BYTES else b""
            shape = _shape(header, first=not before)
        elif kind == b"PLTE" and (length % 3 or not 0 < length <= 3 * 256):
            raise UnusablePicture("it is a PNG picture with a malformed palette")
        elif kind == b"PLTE":
            palette = palette or not data
        elif kind == b"IDAT":
            if data and before != b"IDAT":
                raise UnusablePicture("it is a PNG picture whose data is in parts")
            data = True
        before = kind
    if shape is None or not data:
        raise UnusablePicture("it is a PNG picture without data")
    if shape.colour == _PALETTE and not palette:
        raise UnusablePicture("it is a PNG picture without its palette")
    return shape


def _packed(content: bytes) -> Iterator[memoryview]:
    """Yield the packed data in slices, none of which is copied."""
    view = memoryview(content)
    for kind, start, length in png_chunks(content):
        if kind == b"IDAT":
            for at in range(start, start + length, _PACKED_AT_ONCE):
                yield view[at : min(at + _PACKED_AT_ONCE, start + length)]


def _shape(header: bytes, *, first: bool) -> _Shape:
    if len(header) == _HEADER_BYTES and first:
        width, height, depth, colour, compression, filtering, interlace = struct.unpack(
            ">IIBBBBB", header
        )
        if depth in _DEPTHS.get(colour, ()) and not compression | filtering and interlace <= 1:
            return _Shape(width, height, depth * _SAMPLES[colour], colour, interlace == 1)
    raise UnusablePicture("it is a PNG picture with a header that none may have")


def _unpacked_sizes(packed: Iterator[memoryview]) -> Iterator[int]:
    """Unpack a zlib stream in pieces and yield the length of each, as far as it goes.

    What is packed goes in by slices, since the stream copies what it could not take yet.
    """
    stream = zlib.decompressobj()
    for rest in packed:
        given: bytes | memoryview = rest
        while not stream.eof:
            size = len(stream.decompress(given, _UNPACKED_AT_ONCE))
            yield size
            given = stream.unconsumed_tail
            if not given and size < _UNPACKED_AT_ONCE:
                break
