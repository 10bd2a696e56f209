"""Looking at one picture: whether it can be used, what it looks like, and which file it is."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from hone.models.imaging.decoding import MOST_PIXELS, check_picture, decode_picture
from hone.models.imaging.files import read_picture_file
from hone.models.imaging.headers import SUFFIXES, UnusablePicture
from hone.training.preparation.pictures.items import PictureItem, spoken_name
from hone.training.preparation.pictures.prints import Print, difference_hash
from hone.training.preparation.rows import unreadable_reason
from hone.training.preparation.spool import Origin, SpooledRow

SMALLEST_SIDE = 16
"""Pixels. A picture with a shorter side shows nothing that a model could learn."""


@dataclass(frozen=True, slots=True)
class Look:
    """What is known of one item after it was looked at; `row` is what the spool gets."""

    row: SpooledRow
    print: Print | None = None
    shorter_side: int = 0
    suffix: str = ""


def look_at(origin: Origin, items: list[PictureItem]) -> Iterator[Look]:
    """Decode each item's picture and say what it is, or why it is left out."""
    for item in items:
        yield _look(origin, item)


class _LeftOut(Exception):
    """Why a picture is not taken: the reason's name, and what there is to say about it."""

    def __init__(self, reason: str, detail: str | None) -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


def _look(origin: Origin, item: PictureItem) -> Look:
    try:
        return _usable(origin, item)
    except _LeftOut as out:
        reason, detail = out.reason, out.detail
    except UnusablePicture as error:
        reason, detail = "unreadable", str(error)
    name, label = spoken_name(item.name) or None, item.label and spoken_name(item.label)
    return Look(SpooledRow(origin, item.number, name, label, reason=reason, detail=detail))


def _usable(origin: Origin, item: PictureItem) -> Look:
    if item.path is None:
        raise _LeftOut("unreadable", item.reason)
    if broken := unreadable_reason(item.name) or unreadable_reason(item.label or ""):
        raise _LeftOut("unreadable", broken)
    if item.label is None:
        raise _LeftOut("missing_label", None)
    content = read_picture_file(item.path)
    # Of any size: what is too large is told apart from what is broken.
    header = check_picture(content, most_pixels=2**63)
    size = f"{header.width} x {header.height} pixels"
    if header.width * header.height > MOST_PIXELS:
        raise _LeftOut("too_large", size)
    if min(header.width, header.height) < SMALLEST_SIDE:
        raise _LeftOut("too_small", size)
    picture = decode_picture(content)
    digest = hashlib.sha256(content).digest()
    row = SpooledRow(origin, item.number, item.name, item.label, words=digest, bag=digest)
    shorter = min(header.width, header.height)
    return Look(row, difference_hash(picture), shorter, SUFFIXES[header.format])
