"""Every picture that a comparison will show is decoded once, before anybody is asked about one.

A header says little of what follows it. What breaks inside would be a failed call in the middle of
a run, after others were paid for, or be sent to somebody who bills for it.
"""

import os
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from hone.comparison.listener import Listener
from hone.models.examples import unusable_lines
from hone.models.imaging.decoding import decode_picture
from hone.models.imaging.headers import UnusablePicture
from hone.models.imaging.pictures import PictureFile
from hone.models.prompting.inputs import Input

_MOST_AT_ONCE = 4
"""Threads; one holds up to 75 MB of pixels."""


def undecodable(
    inputs: Iterable[Input], table: Path, listener: Listener | None = None
) -> str | None:
    """Return what is wrong with the lines of a table whose pictures cannot be decoded, if any.

    The first 100 are named, each by its line and its path as the line has it. Texts are passed
    over, and pictures of the same bytes are decoded once. The listener is told of each, under the
    table's name; it may raise, which ends this.
    """
    pictures = [each for each in inputs if isinstance(each, PictureFile)]
    distinct = {picture.sha256: picture for picture in pictures}
    if listener is not None and distinct:
        listener.begun(table.name, len(distinct), "pictures decoded")
    found = dict[str, str | None]()
    with closing(_faults(list(distinct.values()))) as faults:
        for sha256, fault in zip(distinct, faults, strict=True):
            found[sha256] = fault
            if listener is not None:
                listener.advanced(table.name, 1)
    bad = [_line(picture, fault) for picture in pictures if (fault := found[picture.sha256])]
    return unusable_lines(table, bad) if bad else None


def _line(picture: PictureFile, fault: str) -> str:
    path = "" if picture.written is None else f"{picture.written[:200]}: "
    return f"line {picture.line}: {path}{fault}"


def _fault(picture: PictureFile) -> str | None:
    """Return why a picture cannot be decoded; None if it can."""
    try:
        decode_picture(picture.read_unnamed())
    except UnusablePicture as error:
        return str(error)
    return None


def _faults(pictures: Sequence[PictureFile]) -> Generator[str | None]:
    """Look at pictures in some threads: decoders let go of the interpreter's lock."""
    pool = ThreadPoolExecutor(min(_MOST_AT_ONCE, os.cpu_count() or 1))
    try:
        yield from pool.map(_fault, pictures)
    finally:
        pool.shutdown(
            cancel_futures=True
        )  # all of them are done, but after Ctrl-C or a listener's stop
