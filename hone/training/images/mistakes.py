"""The most confident mistakes of a classifier of pictures, as small photos."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hone.models.engines import FloatArray
from hone.models.gallery import Photo
from hone.models.imaging.thumbnails import shrink
from hone.models.predictor import softmax
from hone.training.images.loading import PictureFiles

MOST_SHOWN = 24
_SIDE, _SHARPNESS = 176, 2
"""CSS pixels of the longer side, and dots in each."""

_LONGEST_CAPTION = 60


@dataclass(frozen=True, slots=True)
class Mistake:
    """A row that was answered wrongly: its place, its label, the answer and its probability."""

    row: int
    truth: str
    answer: str
    confidence: float


def confident_mistakes(
    logits: FloatArray,
    classes: npt.NDArray[np.int64],
    labels: Sequence[str],
    temperature: float,
) -> list[Mistake]:
    """Return the wrong answers, the most confident first."""
    probabilities = softmax(logits, temperature)
    answers = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(answers != classes)
    order = wrong[np.argsort(-probabilities[wrong, answers[wrong]], kind="stable")]
    return [
        Mistake(
            int(row),
            labels[int(classes[row])],
            labels[int(answers[row])],
            float(probabilities[row, answers[row]]),
        )
        for row in order
    ]


def contact_sheet(mistakes: Sequence[Mistake], files: PictureFiles) -> list[Photo]:
    """Return the first mistakes as small photos, with label, answer and confidence below each."""
    return [_photo(mistake, files[mistake.row]) for mistake in mistakes[:MOST_SHOWN]]


def _photo(mistake: Mistake, content: bytes) -> Photo:
    small, size = shrink(content, _SIDE * _SHARPNESS)
    shrunk = min(1.0, _SIDE / max(size))
    width, height = (max(1, round(side * shrunk)) for side in size)
    said = f"→ {_short(mistake.answer)} {mistake.confidence:.2f}"
    return Photo(small, width, height, (_short(mistake.truth), said))


def _short(label: str) -> str:
    return label if len(label) <= _LONGEST_CAPTION else label[: _LONGEST_CAPTION - 1] + "…"
