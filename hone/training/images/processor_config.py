"""What a base's preprocessor_config.json says about its pictures, as our own rule."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
from PIL import Image
from pydantic import ValidationError

from hone.models.errors import InvalidInput
from hone.models.imaging.preprocessing import Preprocessing

CONFIG_FILE = "preprocessor_config.json"

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CROP_SHARE = 224 / 256
_WARPED_FROM = 384
"""ConvNeXt's processor crops below this size and stretches from it on."""


def read_processor_config(folder: Path, *, size: int = 224) -> Preprocessing:
    """Return the rule of a base's folder; ImageNet's usual one where the base says nothing.

    InvalidInput for a processor whose steps are not resize, centre crop, scale and normalise.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        return Preprocessing(
            height=size,
            width=size,
            shortest_edge=int(size / _CROP_SHARE),
            resample="bicubic",
            mean=_IMAGENET_MEAN,
            std=_IMAGENET_STD,
        )
    try:
        config = orjson.loads(path.read_bytes())
        return _rule(config)
    except (ValueError, KeyError, TypeError, AttributeError, ValidationError):
        raise InvalidInput(
            f"the base {folder.name}: its {CONFIG_FILE} cannot be followed"
        ) from None


def _rule(config: Mapping[str, Any]) -> Preprocessing:
    if not config.get("do_resize", True):
        raise ValueError("pictures of all sizes")
    resize = Image.Resampling(config.get("resample", 2)).name.lower()
    normal = config.get("do_normalize", True)
    values = {
        "resample": resize,
        "rescale": config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0,
        "mean": tuple(config.get("image_mean", _IMAGENET_MEAN)) if normal else (0.0,) * 3,
        "std": tuple(config.get("image_std", _IMAGENET_STD)) if normal else (1.0,) * 3,
        "channels": "BGR" if config.get("do_flip_channel_order") else "RGB",
    }
    return Preprocessing.model_validate({**_sizes(config), **values})


def _sizes(config: Mapping[str, Any]) -> dict[str, int | None]:
    size = config.get("size", 224)
    if isinstance(size, int):
        size = {"height": size, "width": size}
    crop = config.get("crop_size")
    if isinstance(crop, int):
        crop = {"height": crop, "width": crop}
    shortest = size.get("shortest_edge")
    if "ConvNext" in str(config.get("image_processor_type", config.get("feature_extractor_type"))):
        return _convnext(int(shortest), float(config.get("crop_pct") or _CROP_SHARE))
    if config.get("do_center_crop") and crop and shortest:
        return {"height": crop["height"], "width": crop["width"], "shortest_edge": shortest}
    if shortest or config.get("do_center_crop"):
        raise ValueError("pictures of different sizes")
    return {"height": size["height"], "width": size["width"], "shortest_edge": None}


def _convnext(shortest: int, crop_share: float) -> dict[str, int | None]:
    edge = int(shortest / crop_share) if shortest < _WARPED_FROM else None
    return {"height": shortest, "width": shortest, "shortest_edge": edge}
