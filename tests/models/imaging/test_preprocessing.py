import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hone.models.imaging import preprocessing
from hone.models.imaging.decoding import decode_picture
from hone.models.imaging.preprocessing import Preprocessing, crop_picture, normalize
from tests.pictures import CATS_DOGS, MOBILENET, encoded, picture, shared

RULE = Preprocessing(
    height=24, width=20, shortest_edge=26, mean=(0.5, 0.4, 0.3), std=(0.5, 0.2, 0.3)
)


@given(st.integers(1, 90), st.integers(1, 90), st.booleans())
@settings(max_examples=60)
def test_every_picture_gets_the_model_s_shape(width: int, height: int, exact: bool) -> None:
    rule = RULE.model_copy(update={"shortest_edge": None if exact else 18})
    pixels = crop_picture(Image.new("RGB", (width, height), (9, 9, 9)), rule)
    assert pixels.shape == (24, 20, 3)
    assert pixels.dtype == np.uint8
    assert pixels.max() == 9


def test_values_are_scaled_and_normalised_channel_by_channel() -> None:
    pixels = np.array([[[[255, 0, 51]]]], dtype=np.uint8)
    found = normalize(pixels, RULE)
    assert found.shape == (1, 3, 1, 1)
    np.testing.assert_allclose(
        found[0, :, 0, 0], [(1 - 0.5) / 0.5, -0.4 / 0.2, (0.2 - 0.3) / 0.3], rtol=1e-5
    )
    flipped = normalize(pixels, RULE.model_copy(update={"channels": "BGR"}))
    np.testing.assert_allclose(flipped[0, 0, 0, 0], (0.2 - 0.5) / 0.5, rtol=1e-5)


@pytest.mark.parametrize("upright", [True, False])
@pytest.mark.parametrize("shorter", [1, 7])
def test_of_a_picture_like_a_thread_the_middle_is_read(shorter: int, upright: bool) -> None:
    length = 2_400_000
    thread = Image.new("RGB", (shorter, length), (0, 0, 255))
    thread.paste((255, 0, 0), (0, length // 2 - 50, shorter, length // 2 + 50))
    thread = thread if upright else thread.transpose(Image.Transpose.ROTATE_90)
    large = RULE.model_copy(update={"shortest_edge": 400})
    pixels = crop_picture(thread, large)
    assert pixels.shape == (24, 20, 3)
    assert (pixels == (255, 0, 0)).all()


@pytest.mark.parametrize("upright", [True, False])
@pytest.mark.parametrize(("shorter", "lengths"), [(1, range(1000, 1004)), (7, range(1000, 1014))])
def test_the_middle_is_cut_where_the_whole_picture_s_crop_is(
    shorter: int, lengths: range, upright: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for length in lengths:
        waves = 127 + 120 * np.sin(np.arange(length) / 3)
        pixels = np.broadcast_to(waves[:, None, None], (length, shorter, 3)).astype(np.uint8)
        thread = Image.fromarray(pixels if upright else pixels.transpose(1, 0, 2).copy())
        whole = crop_picture(thread, RULE).astype(int)
        with monkeypatch.context() as patch:
            patch.setattr(preprocessing, "_MOST_STRETCHED", 1000)
            middle = crop_picture(thread, RULE).astype(int)
        # Of 7 pixels the resized length is rounded, and the scale with it: by less than 1 in 500.
        assert abs(whole - middle).max() <= (0 if shorter == 1 else 3)


def photos() -> list[bytes]:
    folder = shared(CATS_DOGS)
    if not folder.is_dir():
        return [
            encoded(picture((90, 120, 30), size=size, seed=size[0]))
            for size in ((300, 200), (257, 611), (64, 64), (256, 256))
        ]
    return [path.read_bytes() for path in sorted(folder.glob("*/*.jpg"))[::70]]


def test_the_pixels_are_those_of_the_base_s_own_image_processor() -> None:
    transformers = pytest.importorskip("transformers")
    folder = shared(MOBILENET)
    if not folder.is_dir():
        pytest.skip("the base is not here")
    theirs = transformers.AutoImageProcessor.from_pretrained(folder)
    half = (0.5, 0.5, 0.5)
    rule = Preprocessing(height=224, width=224, shortest_edge=256, mean=half, std=half)
    for content in photos():
        image = decode_picture(content)
        wanted = theirs(image, return_tensors="np")["pixel_values"]
        found = normalize(crop_picture(image, rule)[None], rule)
        np.testing.assert_array_equal(found, wanted)
