"""Whether the data of a JPEG ends before its last row, though an end mark follows.

A decoder that meets the end mark too early (ITU T.81, annex E.2) fills what is missing with blocks
of zeros, which are mid-grey, and says so in a warning that Pillow does not pass on. So a picture
whose last pixel is mid-grey is decoded once more with no mark behind its data: a whole picture
needs none for its rows, and of one that was cut the decoder then waits in vain for more.
"""

import io

from PIL import Image

from hone.models.imaging.headers import FRAME_MARKERS, START_OF_SCAN, jpeg_segments

_MID_GREY = frozenset({127, 128})
"""128 of 256, and what becomes of it where a file's colours are inverted."""

_SEQUENTIAL = frozenset({0xC0, 0xC1})
"""Frames whose rows come as the data does; of others the decoder wants the whole first."""

_READ_AHEAD = b"\xff\x00" * 16
"""Data, not a mark: decoders look some bytes ahead of the code that they read."""


def is_jpeg_cut_inside(content: bytes, picture: Image.Image) -> bool:
    """Tell whether rows are missing; `picture` is what was decoded of `content`, not turned yet.

    Only of a sequential JPEG with one scan: a progressive one that was cut is blurred and not
    grey. A second decoding is made only if the last pixel is mid-grey.
    """
    corner = picture.getpixel((picture.width - 1, picture.height - 1))
    values = corner if isinstance(corner, tuple) else (corner,)
    if not _MID_GREY.issuperset(values):
        return False
    segments = list(jpeg_segments(content))
    frames = [marker for marker, _ in segments if marker in FRAME_MARKERS]
    scans = sum(marker == START_OF_SCAN for marker, _ in segments)
    if scans != 1 or not _SEQUENTIAL.issuperset(frames):
        return False
    end = segments[-1][1]
    open_ended = io.BytesIO(content[: end - 2] + _READ_AHEAD)
    try:
        Image.open(open_ended, formats=("JPEG",)).load()
    except OSError:
        return True
    return False
