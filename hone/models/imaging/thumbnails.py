"""Pictures made small, for pages that are to stay small."""

import io

from PIL import Image

from hone.models.imaging.decoding import decode_picture
from hone.models.imaging.headers import UnusablePicture
from hone.models.imaging.pictures import Picture

THUMBNAIL_SIDE = 144
"""Pixels of the longer side: half as many again as a page shows."""

_QUALITY = 80


def thumbnail(picture: Picture) -> bytes | None:
    """Return a picture as a small JPEG of some kilobytes; None for one that cannot be read."""
    try:
        content, _ = shrink(picture.read(), THUMBNAIL_SIDE)
    except UnusablePicture:
        return None
    return content


def shrink(content: bytes, side: int) -> tuple[bytes, tuple[int, int]]:
    """Return a picture as a JPEG whose longer side has `side` pixels at most, and its size.

    The size is width and height in pixels. One that is smaller stays as large as it is.
    UnusablePicture for one that cannot be decoded.
    """
    small = decode_picture(content)
    small.thumbnail((side, side), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue(), small.size
