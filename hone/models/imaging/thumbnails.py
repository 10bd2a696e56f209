"""Pictures made small, for pages that are to stay small."""

import io

from PIL import Image

from hone.models.imaging.decoding import decode_picture
from hone.models.imaging.headers import UnusablePicture
from hone.models.imaging.pictures import Picture

THUMBNAIL_SIDE = 144
"""Pixels of the longer side: half as many again as a page shows."""

_QUALITY = 75


def thumbnail(picture: Picture) -> bytes | None:
    """Return a picture as a small JPEG of some kilobytes; None for one that cannot be read."""
    try:
        decoded = decode_picture(picture.read())
    except UnusablePicture:
        return None
    decoded.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    decoded.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
