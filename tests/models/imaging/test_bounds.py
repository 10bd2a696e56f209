"""Files that are small or well-formed, and would hold a decoder for minutes, or end it."""

import zlib

import pytest
from PIL import Image

from hone.models.imaging.decoding import check_picture, decode_picture
from hone.models.imaging.headers import MOST_PARTS, UnusablePicture
from tests.pictures import encoded, picture, png_chunk, png_file

RED = picture((200, 40, 40))
GREY_ROWS = png_chunk(b"IDAT", zlib.compress(bytes(65 * 64)))


def scanned(times: int, *, side: int) -> bytes:
    """Return a flat progressive JPEG whose last scan stands in it so often."""
    content = encoded(Image.new("RGB", (side, side), (200, 30, 30)), progressive=True)
    last = content.rfind(b"\xff\xda")
    return content[:last] + content[last:-2] * times + content[-2:]


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
