"""From the bytes of pictures to labels with calibrated confidence."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from hone.models.bundle import Bundle
from hone.models.engines import Device, FloatArray, OnnxPictureEngine, PictureEngine
from hone.models.errors import BundleCorrupt
from hone.models.imaging.decoding import decode_picture
from hone.models.imaging.headers import read_header
from hone.models.imaging.preprocessing import Pixels, Preprocessing, crop_picture, normalize
from hone.models.imaging.tokens import picture_tokens
from hone.models.manifest import Variant
from hone.models.predictor import choose_variant, softmax


@dataclass(frozen=True, slots=True)
class PreparedPicture:
    """A picture as the model's crop, uint8 (height, width, 3), and its tokens in a prompt."""

    pixels: Pixels
    tokens: int

    @property
    def length(self) -> int:
        """What the picture costs in a batch: all cost the same."""
        return 1


@dataclass(frozen=True, slots=True)
class PicturePredictor:
    """A loaded classifier of pictures. Thread-safe.

    `lone_engine`, the same model, may use all cores: it is for pictures that have the machine for
    themselves.
    """

    rule: Preprocessing
    engine: PictureEngine
    labels: tuple[str, ...]
    temperature: float
    lone_engine: PictureEngine | None = None

    def encode(self, pictures: Sequence[bytes]) -> list[PreparedPicture]:
        """Return each file's picture as the model reads it; UnusablePicture if one is none."""
        return [self._prepared(content) for content in pictures]

    def logits(self, pictures: Sequence[PreparedPicture], *, alone: bool = False) -> FloatArray:
        """Return float32 logits of shape (pictures, labels); the pictures are run as one batch.

        `alone` says that nothing else runs meanwhile.
        """
        engine = (self.lone_engine if alone else None) or self.engine
        return engine.run(normalize(np.stack([p.pixels for p in pictures]), self.rule))

    def probabilities(
        self, pictures: Sequence[PreparedPicture], *, alone: bool = False
    ) -> FloatArray:
        """Return calibrated probabilities, float32 of shape (pictures, labels)."""
        return softmax(self.logits(pictures, alone=alone), self.temperature)

    def _prepared(self, content: bytes) -> PreparedPicture:
        picture = decode_picture(content)
        tokens = picture_tokens(picture.width, picture.height)
        return PreparedPicture(crop_picture(picture, self.rule), tokens)


def count_picture_tokens(content: bytes) -> int:
    """Return the estimated tokens of a picture file by its header alone."""
    header = read_header(content)
    return picture_tokens(header.width, header.height)


def blank_picture() -> bytes:
    """Return a small grey PNG, to warm and to probe a model with."""
    file = io.BytesIO()
    Image.new("RGB", (32, 32), (128, 128, 128)).save(file, "PNG")
    return file.getvalue()


def load_picture_predictor(
    bundle: Bundle,
    *,
    variant: Variant | None = None,
    device: Device = "auto",
    intra_threads: int = 1,
) -> PicturePredictor:
    """Load a verified picture classifier onto a device.

    BundleCorrupt unless a first picture gets one logit for each label.
    """
    manifest = bundle.manifest
    chosen = choose_variant(bundle, variant, device)
    engine = OnnxPictureEngine(
        bundle.variant_file(chosen), intra_threads=intra_threads, device=device
    )
    temperature = manifest.calibration.temperature
    labels = tuple(manifest.labels)
    predictor = PicturePredictor(manifest.picture_rule, engine, labels, temperature)
    shape = predictor.logits(predictor.encode([blank_picture()])).shape
    if shape != (1, len(labels)):
        raise BundleCorrupt(
            f"{bundle.folder} has {len(labels)} labels and a model that answers {shape}"
        )
    return predictor
