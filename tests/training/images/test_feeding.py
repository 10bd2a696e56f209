from pathlib import Path

import numpy as np
import pytest
import torch

from hone.models.errors import InvalidExamples
from hone.models.imaging.preprocessing import Preprocessing, normalize
from hone.training.images.feeding import PictureFeed
from hone.training.images.loading import PictureFiles, PictureSplit
from hone.training.images.recipe import AugmentationGroup

RULE = Preprocessing(height=12, width=10, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
PLAIN = AugmentationGroup(mirror=False, smallest_crop=1.0, colour=0.0)
CPU = torch.device("cpu")


def split(rows: int = 6, height: int = 12, width: int = 10) -> PictureSplit:
    pixels = np.random.default_rng(0).integers(0, 255, (rows, height, width, 3)).astype(np.uint8)
    return PictureSplit(pixels, np.zeros(rows, dtype=np.int64))


def test_outside_of_training_pictures_are_as_the_service_reads_them() -> None:
    rows = split()
    (found,) = PictureFeed(RULE, AugmentationGroup())(rows, [4, 1], CPU, training=False)
    np.testing.assert_array_equal(found.numpy(), normalize(rows.pixels[[4, 1]], RULE))


def test_augmentation_that_is_turned_off_changes_nothing() -> None:
    rows = split()
    (found,) = PictureFeed(RULE, PLAIN)(rows, [0, 1, 2], CPU, training=True)
    np.testing.assert_allclose(found.numpy(), normalize(rows.pixels[:3], RULE), atol=1e-4)


def test_mirrored_pictures_are_exact_mirrors() -> None:
    rows, mirrored = split(), PLAIN.model_copy(update={"mirror": True})
    torch.manual_seed(1)
    (found,) = PictureFeed(RULE, mirrored)(rows, list(range(6)), CPU, training=True)
    plain = torch.from_numpy(normalize(rows.pixels, RULE))
    straight = [torch.allclose(a, b, atol=1e-4) for a, b in zip(found, plain, strict=True)]
    flipped = [torch.allclose(a, b.flip(2), atol=1e-4) for a, b in zip(found, plain, strict=True)]
    assert [a != b for a, b in zip(straight, flipped, strict=True)] == [True] * 6
    assert any(straight)
    assert any(flipped)


def test_what_is_drawn_follows_from_torch_s_generator_and_differs_each_time() -> None:
    rows, feed = split(height=16, width=14), PictureFeed(RULE, AugmentationGroup())
    torch.manual_seed(3)
    (first,) = feed(rows, [0, 1], CPU, training=True)
    (second,) = feed(rows, [0, 1], CPU, training=True)
    torch.manual_seed(3)
    (again,) = feed(rows, [0, 1], CPU, training=True)
    assert first.shape == (2, 3, 12, 10)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_brightness_scales_from_black_whatever_the_normalisation() -> None:
    black = PictureSplit(np.zeros((3, 12, 10, 3), dtype=np.uint8), np.zeros(3, dtype=np.int64))
    bright = PLAIN.model_copy(update={"colour": 0.9})
    (found,) = PictureFeed(RULE.model_copy(update={"mean": (0.5,) * 3, "std": (0.5,) * 3}), bright)(
        black, [0, 1, 2], CPU, training=True
    )
    torch.testing.assert_close(found, torch.full_like(found, -1.0))


def test_pictures_are_files_and_are_called_as_they_were_written(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    files = PictureFiles(["folder", "../nowhere.png"], tmp_path)
    with pytest.raises(InvalidExamples, match=r"^the picture folder cannot be read: it is a fold"):
        files[0]
    with pytest.raises(InvalidExamples, match=r"^the picture \.\./nowhere\.png cannot be read: "):
        files[1:][0]
    assert [len(files), len(files[1:])] == [2, 1]
