"""From RGB pixels to what a model reads, the same in training, in the gate and in serving.

The steps are those of transformers' image processors on Pillow: resize, crop the centre, scale
to floats, normalise. Tests compare the two on photos.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

Pixels = npt.NDArray[np.uint8]
FloatPixels = npt.NDArray[np.float32]

Resample = Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]

_Triple = tuple[float, float, float]
_MOST_STRETCHED = 50_000_000
"""Pixels that a picture is resized to: one of 1 x 20,000 would become 256 x 5,120,000."""


class Preprocessing(BaseModel):
    """How pictures are made alike for one model.

    With `shortest_edge` the shorter side is resized to it, keeping the proportions, and the centre
    of `height` x `width` is cut out (black where the picture is smaller); without it the picture is
    resized to exactly `height` x `width`. Then each channel becomes
    `(value * rescale - mean) / std`. Means and deviations stand in the order of `channels`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    height: int = Field(ge=1, le=4096)
    width: int = Field(ge=1, le=4096)
    shortest_edge: int | None = Field(None, ge=1, le=4096)
    resample: Resample = "bilinear"
    rescale: float = Field(1 / 255, gt=0)
    mean: _Triple = (0.0, 0.0, 0.0)
    std: _Triple = (1.0, 1.0, 1.0)
    channels: Literal["RGB", "BGR"] = "RGB"


def crop_picture(picture: Image.Image, rule: Preprocessing) -> Pixels:
    """Return an RGB picture resized and cropped, uint8 of shape (height, width, 3).

    Of a picture so narrow that resizing it would fill the memory only the middle is resized, which
    is all that the crop shows.
    """
    filter_ = Image.Resampling[rule.resample.upper()]
    if rule.shortest_edge is None:
        return np.asarray(picture.resize((rule.width, rule.height), filter_))
    picture = _middle(picture, rule, rule.shortest_edge)
    width, height = _fitted(picture.size, rule.shortest_edge)
    return _centre(np.asarray(picture.resize((width, height), filter_)), rule)


def normalize(pixels: Pixels, rule: Preprocessing) -> FloatPixels:
    """Return cropped pictures as the model reads them, float32 (pictures, 3, height, width).

    `pixels` is uint8 of shape (pictures, height, width, 3). There are 256 values a channel, so
    each is computed once and looked up.
    """
    table = _table(rule)
    result = np.empty((len(pixels), 3, *pixels.shape[1:3]), dtype=np.float32)
    for place in range(3):
        source = place if rule.channels == "RGB" else 2 - place
        np.take(table[place], pixels[..., source], out=result[:, place])
    return result


def _table(rule: Preprocessing) -> FloatPixels:
    """Return the normalised value of each channel and byte, float32 (3, 256)."""
    scaled = (np.arange(256) * rule.rescale).astype(np.float32)
    mean = np.array(rule.mean, dtype=np.float32)[:, None]
    std = np.array(rule.std, dtype=np.float32)[:, None]
    table: FloatPixels = (scaled[None] - mean) / std
    return table


def _middle(picture: Image.Image, rule: Preprocessing, shortest: int) -> Image.Image:
    """Return a picture, of one that is too narrow the middle: twice what the crop shows."""
    shorter, longer = sorted(picture.size)
    if shortest**2 * longer <= _MOST_STRETCHED * shorter:
        return picture
    kept = 2 * max(rule.height, rule.width, shortest) * shorter // shortest + 2
    # By whole pixels at each end before resizing and after: the middle stays where it was.
    kept += (longer - kept) % (2 * shorter)
    left, top = (max(0, side - kept) // 2 for side in picture.size)
    width, height = (min(side, kept) for side in picture.size)
    return picture.crop((left, top, left + width, top + height))


def _fitted(size: tuple[int, int], shortest: int) -> tuple[int, int]:
    """Return width and height whose shorter one is `shortest`, rounded down as transformers do."""
    width, height = size
    if width <= height:
        return shortest, int(shortest * height / width)
    return int(shortest * width / height), shortest


def _centre(pixels: Pixels, rule: Preprocessing) -> Pixels:
    """Cut the centre out; where the picture is smaller, it stands in the middle of black."""
    height, width = pixels.shape[:2]
    top, left = (height - rule.height) // 2, (width - rule.width) // 2
    if top >= 0 and left >= 0:
        return pixels[top : top + rule.height, left : left + rule.width]
    framed = np.zeros((max(height, rule.height), max(width, rule.width), 3), dtype=np.uint8)
    above, before = -(-(framed.shape[0] - height) // 2), -(-(framed.shape[1] - width) // 2)
    framed[above : above + height, before : before + width] = pixels
    top, left = (framed.shape[0] - rule.height) // 2, (framed.shape[1] - rule.width) // 2
    return framed[top : top + rule.height, left : left + rule.width]
