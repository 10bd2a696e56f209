"""What a base sees in pictures: features, by which pictures that look alike are found.

    python -m hone.training.images.features BASE PICTURES OUT
    python -m hone.training.images.features BASE

PICTURES has a `PictureFile` a line, as JSON. OUT gets a float32 vector of length 1 for each, one
after another: what the base's head reads, by cosine. With BASE alone nothing is computed: the base
is fetched, and told with its commit. How it tells, and its exit statuses, are in
`hone.models.imaging.feature_messages`. `hone compare` runs it, which itself does without torch.
"""

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from hone.models.catalogue import HUB_PREFIX
from hone.models.engines import FloatArray
from hone.models.errors import HoneError, InvalidInput
from hone.models.imaging.decoding import decode_picture
from hone.models.imaging.feature_messages import BROKE, DONE, REFUSED, FeatureMessage
from hone.models.imaging.headers import UnusablePicture
from hone.models.imaging.pictures import PictureFile
from hone.models.imaging.preprocessing import Pixels, Preprocessing, crop_picture, normalize
from hone.training.bases import obtain_base
from hone.training.images.backbones import (
    ImageClassifier,
    build_image_classifier,
    obtain_picture_base,
)
from hone.training.images.recipe import PictureModelGroup

_BATCH = 32
_NO_MATTER = 2
"""Labels of a head that is not used."""


def write_features(base: str, pictures: Sequence[PictureFile], out: Path) -> Iterator[int]:
    """Write the features of pictures, and yield how many each batch had.

    InvalidInput for a base that is no image classifier, or a picture that cannot be decoded.
    """
    group = PictureModelGroup(task="image-classification", base=base)
    if group.scratch:
        raise InvalidInput(f"the base {base} has random weights, which see nothing in pictures")
    found = obtain_picture_base(group)
    model = build_image_classifier(found, group, labels=_NO_MATTER).eval()
    with out.open("wb") as file:
        for start in range(0, len(pictures), _BATCH):
            batch = pictures[start : start + _BATCH]
            crops = np.stack([_crop(picture, found.rule) for picture in batch])
            file.write(_features(model, crops, found.rule).astype("<f4").tobytes())
            yield len(batch)
        os.fsync(file.fileno())


def _crop(picture: PictureFile, rule: Preprocessing) -> Pixels:
    content = picture.read()
    try:
        return crop_picture(decode_picture(content), rule)
    except UnusablePicture as error:
        raise InvalidInput(f"the picture {picture.called} cannot be used: {error}") from None


def _features(model: ImageClassifier, crops: Pixels, rule: Preprocessing) -> FloatArray:
    with torch.inference_mode():
        found = model.features(torch.from_numpy(normalize(crops, rule))).float().numpy()
    unit: FloatArray = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
    return unit


def pinned(base: str) -> str:
    """Return the name that stands for a base as it is now: one of a hub with its commit.

    Raises as `obtain_base` does.
    """
    found = obtain_base(base, "image-classification")
    return f"{HUB_PREFIX}{found.id}" if base.startswith(HUB_PREFIX) else base


def _tell(message: FeatureMessage) -> None:
    sys.stdout.buffer.write(message.line())
    sys.stdout.buffer.flush()


def main(arguments: Sequence[str]) -> int:
    """Run the command of the module's description, and return its exit status."""
    base, *files = arguments
    try:
        if not files:
            _tell(FeatureMessage(base=pinned(base)))
            return DONE
        listed, out = map(Path, files)
        lines = listed.read_bytes().splitlines()
        pictures = [PictureFile.model_validate_json(line) for line in lines]
        for count in write_features(base, pictures, out):
            _tell(FeatureMessage(pictures=count))
    except HoneError as error:
        _tell(FeatureMessage(error=str(error)))
        return REFUSED
    except Exception as error:  # the boundary: whoever started this reads sentences
        logging.getLogger(__name__).exception("computing features failed")
        _tell(FeatureMessage(error=f"computing features failed inside ({type(error).__name__})"))
        return BROKE
    return DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
