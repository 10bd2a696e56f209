"""PNGs whose data is not as long as their header says, and those that are as long in odd ways."""

import io
import itertools
import struct
import subprocess
import sys
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hone.models.imaging.decoding import check_picture, decode_picture
from hone.models.imaging.headers import MOST_PARTS, UnusablePicture
from hone.models.imaging.png_data import check_png_data
from tests.pictures import encoded, grey_png, picture, png_chunk, png_file

SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
DEPTHS = [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (3, 1), (3, 2), (3, 4), (3, 8),
          (4, 8), (4, 16), (6, 8), (6, 16)]  # fmt: skip
PALETTE = png_chunk(b"PLTE", bytes(range(12)))


def rows_of(width: int, height: int, colour: int, depth: int) -> bytes:
    return bytes((1 + -(-width * SAMPLES[colour] * depth // 8)) * height)


def test_data_as_long_as_the_header_says_is_decoded() -> None:
    assert decode_picture(grey_png(bytes(65 * 64))).size == (64, 64)


@pytest.mark.parametrize("rows", [0, 1, 10, 63])
def test_missing_rows_are_told(rows: int) -> None:
    with pytest.raises(UnusablePicture, match="less data than its header says"):
        decode_picture(grey_png(bytes(65 * rows)))
    with pytest.raises(UnusablePicture, match="less data than its header says"):
        decode_picture(grey_png(bytes(65 * 64 - 1)))


@pytest.mark.parametrize("wanted", ["", "a byte of data in each"])
def test_a_chunk_too_many_is_refused_and_one_less_is_not(wanted: str) -> None:
    packed = zlib.compress(bytes(65 * 64), 0)
    room = MOST_PARTS - 2  # besides the header and the end mark
    parts = [packed[at : at + 1] for at in range(len(packed))] if wanted else [packed]
    parts += [b""] * (room - len(parts))
    chunks = b"".join(png_chunk(b"IDAT", part) for part in parts)
    assert decode_picture(png_file(64, 64, 0, 8, chunks)).size == (64, 64)
    for look in (check_picture, decode_picture):
        with pytest.raises(UnusablePicture, match="with more than 16,384 chunks") as refused:
            look(png_file(64, 64, 0, 8, chunks, png_chunk(b"IDAT", b"")))
        assert refused.value.code == "unusable_picture"


def test_very_many_chunks_are_refused_with_little_memory() -> None:
    """Of 300,000 chunks: a view kept of each takes 70 MB."""
    content = png_file(64, 64, 0, 8, png_chunk(b"IDAT", b"") * 300_000)
    tracemalloc.start()
    try:
        with pytest.raises(UnusablePicture, match="with more than 16,384 chunks"):
            decode_picture(content)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**20


def test_chunks_up_to_the_bound_are_walked_with_little_memory() -> None:
    rows = png_chunk(b"IDAT", zlib.compress(bytes(65 * 64)))
    content = png_file(64, 64, 0, 8, rows, png_chunk(b"IDAT", b"") * (MOST_PARTS - 3))
    tracemalloc.start()
    try:
        check_png_data(content)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**20


def test_zeros_behind_the_end_mark_are_no_chunks() -> None:
    assert decode_picture(grey_png(bytes(65 * 64)) + bytes(12 * MOST_PARTS)).size == (64, 64)


def test_rows_too_many_are_told() -> None:
    for more in (1, 65, 10**6):
        with pytest.raises(UnusablePicture, match="more data than its header says"):
            decode_picture(grey_png(bytes(65 * 64 + more)))


def test_what_unpacks_to_200_mb_is_not_unpacked_further_than_the_header_says() -> None:
    code = (
        "import resource, sys, time\n"
        "from hone.models.errors import InvalidInput\n"
        "from hone.models.imaging.decoding import decode_picture\n"
        "from tests.pictures import grey_png\n"
        "bomb = grey_png(bytes(200_000_000))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "used = time.process_time()\n"
        "try:\n    decode_picture(bomb)\n    sys.exit('was decoded')\n"
        "except InvalidInput:\n    pass\n"
        "assert time.process_time() - used < 0.1  # measured: below a millisecond\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    grown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert int(grown.stdout) < 16 * 1024


@given(
    st.sampled_from(DEPTHS), st.integers(1, 40), st.integers(1, 40),
    st.sampled_from([-1, 0, 1]), st.integers(1, 5),
)  # fmt: skip
@settings(max_examples=150)
def test_each_colour_type_and_depth_has_its_length(
    kind: tuple[int, int], width: int, height: int, wrong: int, pieces: int
) -> None:
    colour, depth = kind
    data = rows_of(width, height, colour, depth)
    data = data[:wrong] if wrong < 0 else data + bytes(wrong)
    packed = zlib.compress(data)
    cuts = [len(packed) * n // pieces for n in range(pieces + 1)]
    parts = [png_chunk(b"IDAT", packed[a:b]) for a, b in itertools.pairwise(cuts)]
    content = png_file(width, height, colour, depth, PALETTE if colour == 3 else b"", *parts)
    if wrong:
        with pytest.raises(UnusablePicture, match="data than its header says"):
            decode_picture(content)
    else:
        assert decode_picture(content).size == (width, height)


@given(st.integers(1, 20), st.integers(1, 20), st.sampled_from(DEPTHS))
@settings(max_examples=100)
def test_interlaced_pictures_have_theirs(width: int, height: int, kind: tuple[int, int]) -> None:
    """The passes of Adam7 are counted here pixel by pixel, as the specification draws them."""
    colour, depth = kind
    pattern = ["16462646", "77777777", "56565656", "77777777",
               "36463646", "77777777", "56565656", "77777777"]  # fmt: skip
    data = b""
    for which in "1234567":
        counts = [sum(pattern[y % 8][x % 8] == which for x in range(width)) for y in range(height)]
        for count in filter(None, counts):
            data += bytes(1 + -(-count * SAMPLES[colour] * depth // 8))
    for wrong in (b"", b"\0"):
        packed = png_chunk(b"IDAT", zlib.compress(data + wrong))
        parts = (PALETTE, packed) if colour == 3 else (packed,)
        content = png_file(width, height, colour, depth, *parts, interlace=1)
        if wrong:
            with pytest.raises(UnusablePicture, match="more data"):
                decode_picture(content)
        else:
            assert decode_picture(content).size == (width, height)


def test_large_pictures_that_others_wrote_are_whole() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (700, 900, 3), dtype=np.uint8)
    flat = Image.new("RGBA", (3000, 1000), (1, 2, 3, 4))
    for image in (Image.fromarray(noise), flat, flat.convert("P"), flat.convert("1")):
        for level in (0, 1, 9):
            assert decode_picture(encoded(image, "PNG", compress_level=level)).size == image.size


def test_a_palette_that_is_missing_late_or_malformed_is_told() -> None:
    data = png_chunk(b"IDAT", zlib.compress(rows_of(8, 8, 3, 8)))
    for parts, said in (
        ((data,), "without its palette"),
        ((data, PALETTE), "without its palette"),
        ((png_chunk(b"PLTE", b""), data), "malformed palette"),
        ((png_chunk(b"PLTE", bytes(10)), data), "malformed palette"),
        ((png_chunk(b"PLTE", bytes(771)), data), "malformed palette"),
    ):
        with pytest.raises(UnusablePicture, match=said):
            decode_picture(png_file(8, 8, 3, 8, *parts))
    assert decode_picture(png_file(8, 8, 3, 8, PALETTE, data)).size == (8, 8)


@pytest.mark.parametrize(
    ("colour", "depth", "more"),
    [(1, 8, {}), (5, 8, {}), (2, 4, {}), (3, 16, {}), (0, 3, {}), (0, 8, {"interlace": 2}),
     (0, 8, {"compression": 1}), (0, 8, {"filtering": 1})],
)  # fmt: skip
def test_headers_that_no_png_may_have_are_told(
    colour: int, depth: int, more: dict[str, int]
) -> None:
    data = png_chunk(b"IDAT", zlib.compress(bytes(9 * 8)))
    with pytest.raises(UnusablePicture, match="a header that none may have"):
        decode_picture(png_file(8, 8, colour, depth, PALETTE, data, **more))


def test_a_second_header_and_data_in_parts_are_told() -> None:
    whole = zlib.compress(bytes(9 * 8))
    first, second = png_chunk(b"IDAT", whole[:5]), png_chunk(b"IDAT", whole[5:])
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0))
    between = png_chunk(b"tEXt", b"a\0b")
    for parts, said in (
        ((header, first, second), "a header that none may have"),
        ((first, between, second), "whose data is in parts"),
        ((), "without data"),
    ):
        with pytest.raises(UnusablePicture, match=said) as refused:
            decode_picture(png_file(8, 8, 0, 8, *parts))
        assert refused.value.code == "unusable_picture"


def test_a_stream_without_its_end_mark_but_with_all_rows_is_a_picture() -> None:
    packed = zlib.compress(bytes(9 * 8))[:-4]
    assert decode_picture(png_file(8, 8, 0, 8, png_chunk(b"IDAT", packed))).size == (8, 8)


def test_what_pillow_writes_of_any_mode_is_taken() -> None:
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        image = picture((10, 200, 30), size=(33, 17))
        if mode == "I;16":
            image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
        else:
            image = image.convert(mode)
        assert decode_picture(encoded(image, "PNG")).size == (33, 17)
        again = Image.open(io.BytesIO(encoded(image, "PNG", optimize=True)))
        assert again.size == (33, 17)
