"""Files that are small or well-formed, and would hold a decoder for minutes, or end it."""

import zlib

import pytest
from PIL import Image

from hone.models.imaging.decoding import check_picture, decode_picture
from hone.models.imaging.headers import MOST_PARTS, UnusablePicture
from tests.pictures import encoded, picture, png_chunk, png_file

END = b"\xff\xd9"
RED = picture((200, 40, 40))
GREY_ROWS = png_chunk(b"IDAT", zlib.compress(bytes(65 * 64)))


NO_SEGMENTS = [0x00, 0x02, 0xBF, 0xC8, 0xD8, 0xDE, 0xDF, 0xF0, 0xFD]
"""Markers behind which decoders read on, or give up; 0x01 and 0xD0 to 0xD7 stand alone."""


def last_scan(side: int) -> tuple[bytes, bytes]:
    """Return a flat progressive JPEG up to its last scan, and that scan."""
    content = encoded(Image.new("RGB", (side, side), (200, 30, 30)), progressive=True)
    last = content.rfind(b"\xff\xda")
    return content[:last], content[last:-2]


def scanned(times: int, *, side: int) -> bytes:
    """Return a flat progressive JPEG whose last scan stands in it so often."""
    before, scan = last_scan(side)
    return before + scan * times + END


def segment(marker: int, data: bytes) -> bytes:
    """Return a JPEG's segment."""
    return bytes([0xFF, marker]) + (len(data) + 2).to_bytes(2, "big") + data


def test_a_large_jpeg_of_many_scans_is_refused_before_it_is_decoded() -> None:
    bomb = scanned(100, side=4990)
    assert len(bomb) < 160_000
    with pytest.raises(UnusablePicture, match="too many scans: 109 of 4990 x 4990 pixels"):
        check_picture(bomb)


def test_usual_scans_of_a_large_jpeg_and_many_of_a_small_one_are_taken() -> None:
    assert check_picture(scanned(1, side=4990)).width == 4990
    assert check_picture(scanned(11, side=4990)).width == 4990
    assert decode_picture(scanned(200, side=64)).size == (64, 64)


def test_a_jpeg_of_segments_without_end_is_refused() -> None:
    content = encoded(RED)
    few, many = (content[:2] + b"\xff\xfe\0\x02" * n + content[2:] for n in (1000, 10**6))
    assert decode_picture(few).size == RED.size
    with pytest.raises(UnusablePicture, match="more than 16,384 segments"):
        check_picture(many)


def test_a_jpeg_of_fill_bytes_without_end_is_refused() -> None:
    content = encoded(RED)
    few, many = (content[:2] + b"\xff" * n + content[2:] for n in (1000, 10**6))
    assert decode_picture(few).size == RED.size
    with pytest.raises(UnusablePicture, match="more than 65,536 fill bytes"):
        check_picture(many)


@pytest.mark.parametrize("marker", [*NO_SEGMENTS, 0x01, 0xD0])
def test_scans_that_hide_behind_a_marker_without_a_segment_are_found(marker: int) -> None:
    before, scan = last_scan(1024)
    with pytest.raises(UnusablePicture, match="parts do not fit together"):
        check_picture(before + segment(marker, scan * 1000) + scan + END)


def test_what_stands_in_a_comment_is_no_scan() -> None:
    before, scan = last_scan(64)
    assert decode_picture(before + segment(0xFE, scan * 1000) + scan + END).size == (64, 64)


@pytest.mark.parametrize("marker", [*NO_SEGMENTS, 0x01, 0xD0])
def test_fill_bytes_that_hide_behind_a_marker_without_a_segment_are_found(marker: int) -> None:
    content = encoded(RED)
    hidden = segment(marker, b"\xff" * 65_533) * 4
    with pytest.raises(UnusablePicture, match=r"do not fit together|fill bytes"):
        check_picture(content[:2] + hidden + content[2:])


@pytest.mark.parametrize("padding", [bytes(1000), b"\xff" * 1000, encoded(RED)])
def test_a_jpeg_that_ends_before_its_first_scan_is_refused(padding: bytes) -> None:
    content = encoded(RED)
    tables = content[: content.index(b"\xff\xda")] + END
    with pytest.raises(UnusablePicture, match="without a scan"):
        check_picture(tables + padding)


@pytest.mark.parametrize("kind", [b"IDAT", b"tEXt"])
def test_a_png_of_chunks_without_end_is_refused(kind: bytes) -> None:
    data = b"" if kind == b"IDAT" else b"k\0v"
    few, many = (
        png_file(64, 64, 0, 8, png_chunk(kind, data) * n, GREY_ROWS) for n in (1000, MOST_PARTS)
    )
    assert decode_picture(few).size == (64, 64)
    with pytest.raises(UnusablePicture, match="more than 16,384 chunks"):
        check_picture(many)


@pytest.mark.parametrize("entries", [257, 300])
def test_more_transparencies_than_a_palette_has_colours_break_only_the_picture(
    entries: int,
) -> None:
    palette = png_chunk(b"PLTE", bytes(3 * 256)) + png_chunk(b"tRNS", bytes(entries))
    with pytest.raises(UnusablePicture, match="broken inside"):
        decode_picture(png_file(64, 64, 3, 8, palette, GREY_ROWS))
