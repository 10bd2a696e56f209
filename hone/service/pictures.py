"""Pictures in requests: embedded in JSON as data URLs, or files of a form. Nothing is fetched.

Every guard that needs no decoding stands here, so that what cannot be used is refused with its
place before anything is queued. Decoding is the batcher's workers' part.
"""

from typing import Any

from hone.models.imaging.decoding import check_picture
from hone.models.imaging.embedded import decode_data_url, stated_type
from hone.models.imaging.headers import UnusablePicture
from hone.service.errors import InvalidRequest


def embedded_picture(value: Any, place: str) -> bytes:  # noqa: ANN401 - any JSON
    """Return the bytes of `data:image/...;base64,...`; InvalidRequest for anything else."""
    try:
        content, media_type = decode_data_url(value)
    except UnusablePicture as error:
        raise InvalidRequest(f"'{place}' {error}.", param=place, code=error.code) from None
    return checked_picture(content, place, media_type)


def checked_picture(content: bytes, place: str, media_type: str | None) -> bytes:
    """Return the bytes of a picture that may be decoded; InvalidRequest with why otherwise.

    `media_type` is what the client calls it, None or octets for nothing.
    """
    try:
        check_picture(content, media_type=stated_type(media_type))
    except UnusablePicture as error:
        raise InvalidRequest(f"'{place}': {error}.", param=place, code=error.code) from None
    return content
