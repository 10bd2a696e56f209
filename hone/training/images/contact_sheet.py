"""The most confident mistakes of a classifier of pictures, as one picture."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont, ImageOps

from hone.models.document import Png
from hone.models.engines import FloatArray
from hone.models.imaging.decoding import decode_picture
from hone.models.page import DARK_SURFACE, LIGHT_SURFACE
from hone.models.predictor import softmax
from hone.training.images.loading import PictureFiles

MOST_SHOWN = 24
_COLUMNS, _SIDE, _GAP, _CAPTION = 4, 168, 12, 48
_FONT_PIXELS = 16
_LONGEST_CAPTION = 15


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


def contact_sheet(mistakes: Sequence[Mistake], files: PictureFiles, *, dark: bool, dpi: int) -> Png:
    """Draw the first mistakes in rows of four, with truth, answer and confidence below each."""
    shown = mistakes[:MOST_SHOWN]
    columns = min(_COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    width, height = columns * (_SIDE + _GAP) + _GAP, rows * (_SIDE + _CAPTION + _GAP) + _GAP
    scale = dpi / 96
    surface, ink = (DARK_SURFACE, "#e8e8e8") if dark else (LIGHT_SURFACE, "#1a1a1a")
    sheet = Image.new("RGB", (round(width * scale), round(height * scale)), surface)
    drawing, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT_PIXELS * scale)
    side = round(_SIDE * scale)
    for place, mistake in enumerate(shown):
        left = round((_GAP + place % columns * (_SIDE + _GAP)) * scale)
        top = round((_GAP + place // columns * (_SIDE + _CAPTION + _GAP)) * scale)
        small = ImageOps.contain(decode_picture(files[mistake.row]), (side, side))
        sheet.paste(small, (left + (side - small.width) // 2, top + (side - small.height) // 2))
        caption = f"{_short(mistake.truth)}\n→ {_short(mistake.answer)} {mistake.confidence:.2f}"
        drawing.multiline_text((left, top + side + 2 * scale), caption, ink, font, spacing=2)
    file = io.BytesIO()
    sheet.quantize(128).save(file, "PNG", optimize=True)
    return Png(file.getvalue(), width, height)


def _short(label: str) -> str:
    return label if len(label) <= _LONGEST_CAPTION else label[: _LONGEST_CAPTION - 1] + "…"
