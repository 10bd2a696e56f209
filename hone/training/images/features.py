"""What a base sees in pictures: features, by which pictures that look alike are found.

    python -m hone.training.images.features BASE PICTURES OUT

PICTURES has a `PictureFile` a line, as JSON. OUT gets a float32 vector of length 1 for each, one
after another: what the base's head reads, by cosine. Each line on standard output says how many
more pictures are done; the last on standard error why there is no OUT. `hone compare` runs it,
which itself does without torch.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from hone.models.engines import FloatArray
from hone.models.errors import HoneError, InvalidInput
from hone.models.imaging.decoding import decode_picture
from hone.models.imaging.headers import UnusablePicture
from hone.models.imaging.pictures import PictureFile
from hone.models.imaging.preprocessing import Pixels, Preprocessing, crop_picture, normalize
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
    try:
        return crop_picture(decode_picture(picture.read()), rule)
    except UnusablePicture as error:
        raise InvalidInput(f"the picture {picture.name} cannot be used: {error}") from None


def _features(model: ImageClassifier, crops: Pixels, rule: Preprocessing) -> FloatArray:
    with torch.inference_mode():
        found = model.features(torch.from_numpy(normalize(crops, rule))).float().numpy()
    unit: FloatArray = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
    return unit


def main(arguments: Sequence[str]) -> int:
    """Run the command of the module's description, and return its exit status."""
    base, listed, out = arguments
    lines = Path(listed).read_bytes().splitlines()
    try:
        for count in write_features(
            base, [PictureFile.model_validate_json(line) for line in lines], Path(out)
        ):
            print(count, flush=True)
    except HoneError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
