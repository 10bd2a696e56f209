"""JPEGs that were cut and closed with an end mark; and grey ones that only look as if."""

import io

import numpy as np
import pytest
from PIL import Image

from hone.models.imaging.decoding import check_picture, decode_picture
from hone.models.imaging.headers import MOST_PARTS, UnusablePicture, jpeg_segments
from tests.pictures import CATS_DOGS, encoded, picture, shared

END = b"\xff\xd9"
WAYS = [
    {},
    {"quality": 95, "subsampling": 0},
    {"subsampling": 1},
    {"subsampling": 2},
    {"restart_marker_blocks": 3},
    {"optimize": True},
]


def scene(mode: str = "RGB", size: tuple[int, int] = (150, 110)) -> Image.Image:
    image: Image.Image = picture((60, 120, 190), size=size, seed=3).convert(mode)
    return image


def closed(content: bytes, share: float) -> bytes:
    """Cut a JPEG after this share of its entropy-coded data, and give it an end mark."""
    begins = content.index(b"\xff\xda") + 14
    cut = content[: begins + int((len(content) - begins) * share)]
    return cut.rstrip(b"\xff") + END


@pytest.mark.parametrize("options", WAYS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_cut_and_closed_jpegs_are_told(mode: str, options: dict[str, int]) -> None:
    content = encoded(scene(mode), "JPEG", **options)
    assert decode_picture(content).size == (150, 110)
    for share in (0.02, 0.1, 0.5, 0.8, 0.93):
        cut = closed(content, share)
        check_picture(cut)  # its outline is whole
        with pytest.raises(UnusablePicture, match="cut off and closed again"):
            decode_picture(cut)


@pytest.mark.parametrize("options", [*WAYS, {"progressive": True}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_pictures_that_end_in_mid_grey_are_whole(mode: str, options: dict[str, int]) -> None:
    for size in ((8, 8), (16, 16), (17, 33), (64, 3), (200, 120)):
        for level in (127, 128):
            grey = Image.new("L", size, level).convert(mode)
            half = scene(mode, size)
            half.paste(grey.crop((0, 0, size[0], size[1] // 2)), (0, size[1] - size[1] // 2))
            for image in (grey, half):
                assert decode_picture(encoded(image, "JPEG", **options)).size == size


def test_a_grey_picture_that_was_cut_is_told_from_a_whole_one() -> None:
    grey = scene("L", (300, 300))
    grey.paste(128, (0, 150, 300, 300))
    content = encoded(grey, "JPEG")
    assert decode_picture(content).size == (300, 300)
    with pytest.raises(UnusablePicture, match="cut off"):
        decode_picture(closed(content, 0.5))


def test_a_camera_s_second_jpeg_behind_a_grey_one_is_left_alone() -> None:
    content = encoded(Image.new("RGB", (40, 40), (128, 128, 128)))
    assert decode_picture(content + encoded(scene())).size == (40, 40)
    with pytest.raises(UnusablePicture, match="cut off"):
        decode_picture(closed(encoded(scene()), 0.5) + encoded(scene()))


def test_a_segment_too_many_is_refused_and_one_less_is_not() -> None:
    content = encoded(scene())
    empty = b"\xff\xe5\0\2"
    least = len(list(jpeg_segments(content)))

    def with_segments(count: int) -> bytes:
        return content[:2] + empty * (count - least) + content[2:]

    assert decode_picture(with_segments(MOST_PARTS)).size == (150, 110)
    with pytest.raises(UnusablePicture, match="with more than 16,384 segments") as refused:
        check_picture(with_segments(MOST_PARTS + 1))
    assert refused.value.code == "unusable_picture"


@pytest.mark.skipif(not shared(CATS_DOGS).is_dir(), reason="needs the photos of cats and dogs")
def test_photos_are_whole_and_their_halves_are_not() -> None:
    paths = sorted(shared(CATS_DOGS).glob("*/*.jpg"))[::120]
    assert len(paths) > 5
    for path in paths:
        content = path.read_bytes()
        assert decode_picture(content).width > 16
        again = io.BytesIO()
        Image.fromarray(np.asarray(decode_picture(content))).save(again, "JPEG")
        with pytest.raises(UnusablePicture, match="cut off and closed again"):
            decode_picture(closed(again.getvalue(), 0.5))
