"""Pictures in requests: embedded in JSON as data URLs, or files of a form. Nothing is fetched.

Every guard that needs no decoding stands here, so that what cannot be used is refused with its
place before anything is queued. Decoding is the batcher's workers' part.
"""

import base64
import binascii
import re
from typing import Any

from hone.models.imaging.decoding import check_picture
from hone.models.imaging.headers import UnusablePicture
from hone.service.errors import InvalidRequest

_DATA_URL = re.compile(r"data:(?P<type>[a-z]+/[a-z0-9.+-]+);base64,", re.IGNORECASE)
_LONGEST_HEAD = 100
_ALIASES = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png"}
_ANY_TYPE = "application/octet-stream"


def embedded_picture(value: Any, place: str) -> bytes:  # noqa: ANN401 - any JSON
    """Return the bytes of `data:image/...;base64,...`; InvalidRequest for anything else."""
    head = _DATA_URL.match(value[:_LONGEST_HEAD]) if type(value) is str else None
    if head is None:
        raise InvalidRequest(
            f"'{place}' must be a picture as data:image/jpeg;base64,… (or png, webp); addresses "
            "are not fetched.",
            param=place,
            code="picture_not_embedded",
        )
    try:
        content = base64.b64decode(value[head.end() :].encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise InvalidRequest(
            f"'{place}' is not valid base64.", param=place, code="invalid_base64"
        ) from None
    return checked_picture(content, place, head["type"])


def checked_picture(content: bytes, place: str, media_type: str | None) -> bytes:
    """Return the bytes of a picture that may be decoded; InvalidRequest with why otherwise.

    `media_type` is what the client calls it, None or octets for nothing.
    """
    called = (media_type or _ANY_TYPE).strip().lower()
    named = None if called == _ANY_TYPE else _ALIASES.get(called, called)
    try:
        check_picture(content, media_type=named)
    except UnusablePicture as error:
        raise InvalidRequest(f"'{place}': {error}.", param=place, code=error.code) from None
    return content
