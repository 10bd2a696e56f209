import io
import subprocess
import sys
import time
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from hone.models.imaging.decoding import check_picture, decode_picture
from hone.models.imaging.headers import UnusablePicture, read_header
from tests.pictures import encoded, picture, png_bomb, png_chunk

RED = picture((200, 40, 40))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_three_formats_are_decoded_and_their_headers_tell_the_size(kind: str) -> None:
    content = encoded(RED, kind)
    decoded = decode_picture(content)
    assert (decoded.mode, decoded.size) == ("RGB", RED.size)
    assert (read_header(content).width, read_header(content).height) == RED.size
    assert np.asarray(decoded).reshape(-1, 3).mean(axis=0).argmax() == 0


@pytest.mark.parametrize("options", [{"lossless": True}, {"exact": True}, {"lossless": False}])
def test_each_kind_of_webp_header_is_read(options: dict[str, bool]) -> None:
    wide = RED.resize((300, 17))
    alpha = wide.convert("RGBA")
    for image in (wide, alpha):
        assert check_picture(encoded(image, "WEBP", **options)).width == 300


@pytest.mark.parametrize("options", [{"progressive": True}, {"restart_marker_blocks": 1}])
def test_jpegs_of_several_scans_and_with_restart_markers_are_walked_to_their_end(
    options: dict[str, int],
) -> None:
    content = encoded(RED, "JPEG", **options)
    assert decode_picture(content).size == RED.size
    with pytest.raises(UnusablePicture, match="behind its end"):
        check_picture(content + b"PK\x03\x04 and so on")


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM", "ICO", "TGA"])
def test_other_formats_are_refused_whatever_they_are_called(kind: str) -> None:
    with pytest.raises(UnusablePicture, match="no JPEG, PNG or WebP"):
        decode_picture(encoded(RED, kind), media_type="image/png")


def test_a_mislabelled_file_is_refused_with_both_names() -> None:
    with pytest.raises(UnusablePicture, match="is called image/png and is JPEG"):
        decode_picture(encoded(RED), media_type="image/png")
    assert decode_picture(encoded(RED), media_type="image/jpeg").size == RED.size


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_animated_files_are_refused(kind: str) -> None:
    frames = [picture((0, 0, 200), seed=seed) for seed in range(3)]
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=40)
    with pytest.raises(UnusablePicture, match="animated"):
        decode_picture(content)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_every_truncation_is_refused(kind: str) -> None:
    content = encoded(RED, kind)
    for length in range(0, len(content) - 1, 7):
        with pytest.raises(UnusablePicture) as refused:
            decode_picture(content[:length])
        assert refused.value.code == "unusable_picture"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_polyglot_with_an_archive_behind_the_picture_is_refused(kind: str) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("run.sh", "echo")
    with pytest.raises(UnusablePicture, match="something else behind its end"):
        decode_picture(encoded(RED, kind) + archive.getvalue())


def test_a_camera_s_second_jpeg_behind_the_first_is_left_alone() -> None:
    assert decode_picture(encoded(RED) + encoded(picture((0, 0, 0)))).size == RED.size


def test_what_only_begins_like_a_second_jpeg_is_something_else() -> None:
    whole, preview = encoded(RED), encoded(RED.resize((16, 16)))
    for behind in (
        b"\xff\xd8\xffPK\x03\x04 and so on",
        preview + b"PK",
        preview[:-20],
        preview * 17,
    ):
        with pytest.raises(UnusablePicture, match="behind its end"):
            check_picture(whole + behind)
    padded = whole + bytes(7) + preview + bytes(9) + preview + b"\xff\0"
    assert decode_picture(padded).size == RED.size


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_padding_is_zeros_and_behind_a_jpeg_ones_too(kind: str) -> None:
    content = encoded(RED, kind)
    assert decode_picture(content + bytes(300)).size == RED.size
    if kind == "JPEG":
        assert decode_picture(content + bytes(3) + b"\xff" * 300).size == RED.size
    else:
        with pytest.raises(UnusablePicture, match="something else behind its end"):
            check_picture(content + b"\xff")


@given(st.binary(max_size=400), st.sampled_from(["JPEG", "PNG", "WEBP"]), st.integers(0, 400))
@settings(max_examples=150)
def test_damaged_files_are_decoded_or_refused_and_nothing_else(
    noise: bytes, kind: str, at: int
) -> None:
    content = bytearray(encoded(RED, kind))
    content[at : at + len(noise)] = noise
    for damaged in (bytes(content), noise):
        try:
            assert decode_picture(damaged).mode == "RGB"
        except UnusablePicture as error:
            assert len(str(error)) < 120  # noqa: PT017 - either outcome is right


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    bomb = png_bomb(13_000)
    assert len(bomb) < 40_000
    started = time.perf_counter()
    with pytest.raises(UnusablePicture, match="13000 x 13000 pixels, and 25 million"):
        decode_picture(bomb)
    assert time.perf_counter() - started < 2  # measured: below a millisecond; it would be seconds


def test_refusing_a_bomb_takes_no_memory_worth_naming() -> None:
    code = (
        "import resource, sys\n"
        "from hone.models.imaging.decoding import decode_picture\n"
        "from hone.models.errors import InvalidInput\n"
        "from tests.pictures import png_bomb\n"
        "bomb = png_bomb(13_000)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    decode_picture(bomb)\n    sys.exit('was decoded')\n"
        "except InvalidInput:\n    pass\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    grown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert int(grown.stdout) < 64 * 1024


def test_a_header_that_lies_about_the_size_is_refused() -> None:
    content = encoded(RED, "PNG")
    lying = content.replace(content[16:24], (2).to_bytes(4, "big") + (2).to_bytes(4, "big"), 1)
    with pytest.raises(UnusablePicture, match="more data than its header says") as refused:
        decode_picture(lying)
    assert refused.value.code == "unusable_picture"


def test_a_compressed_text_bomb_in_a_png_is_refused() -> None:
    content = encoded(RED, "PNG")
    text = png_chunk(b"zTXt", b"c\0\0" + zlib.compress(bytes(80 * 2**20), 9))
    with pytest.raises(UnusablePicture, match="broken inside") as refused:
        decode_picture(content[:33] + text + content[33:])
    assert refused.value.code == "unusable_picture"


@pytest.mark.parametrize(
    ("orientation", "corner"),
    [(1, (0, 0)), (2, (7, 0)), (3, (7, 3)), (4, (0, 3)), (6, (3, 0)), (8, (0, 7)), (5, (0, 0))],
)
def test_exif_orientation_is_obeyed(orientation: int, corner: tuple[int, int]) -> None:
    image = Image.new("RGB", (8, 4), (0, 0, 0))
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = decode_picture(encoded(image, "PNG", exif=exif.tobytes()))
    assert upright.size == ((4, 8) if orientation >= 5 else (8, 4))
    assert upright.getpixel(corner) == (255, 255, 255)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_data_does_not_lose_the_picture() -> None:
    content = encoded(RED, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff\x00\x01")
    assert decode_picture(content).size == RED.size


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "RGBA", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    grey = RED.convert("L")
    if mode == "I;16":
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    else:
        image = (grey if mode in {"L", "1", "LA"} else RED).convert(mode)
    kind = "JPEG" if mode == "CMYK" else "PNG"
    found = np.asarray(decode_picture(encoded(image, kind))).astype(int)
    wanted = np.asarray(image.convert("RGB") if mode != "I;16" else grey.convert("RGB")).astype(int)
    assert abs(found - wanted).mean() < (12 if mode in {"CMYK", "1"} else 1)


def test_transparency_is_laid_over_white() -> None:
    clear = Image.new("RGBA", (5, 5), (255, 0, 0, 0))
    assert decode_picture(encoded(clear, "PNG")).getpixel((2, 2)) == (255, 255, 255)
    half = Image.new("RGBA", (5, 5), (0, 0, 0, 128))
    assert decode_picture(encoded(half, "WEBP", lossless=True)).getpixel((2, 2)) == (127, 127, 127)


def test_a_colour_profile_does_no_harm() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert decode_picture(encoded(RED, "JPEG", icc_profile=profile)).size == RED.size
