"""The one way in which a picture's file is opened: a regular one, and no more of it than is served.

A path from somebody's table may name anything: a pipe that nobody writes to, a device without an
end, a folder, a file of another folder. Messages are ends of sentences: whoever asks puts the path
before them, as the user wrote it.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import BinaryIO

from hone.models.imaging.headers import UnusablePicture

LARGEST_FILE = 32 * 2**20
"""Bytes of a picture's file that are read at most: what a service takes as one request's body."""

_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP})
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def read_picture_file(path: Path) -> bytes:
    """Return the bytes of a picture's file.

    UnusablePicture if it is not there, is no regular file, or has more than `LARGEST_FILE` bytes.
    """
    with open_regular(path) as file:
        try:
            content = file.read(LARGEST_FILE + 1)
        except OSError:
            raise UnusablePicture("it cannot be read") from None
    refuse_large(content)
    return content


def refuse_large(content: bytes) -> None:
    """Raise UnusablePicture for a picture of more than `LARGEST_FILE` bytes, wherever it stood."""
    if len(content) > LARGEST_FILE:
        raise UnusablePicture(f"it has more than {LARGEST_FILE:,} bytes")


@contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file to be read; UnusablePicture for anything else, without waiting for it."""
    try:
        # Without O_NONBLOCK a pipe would be waited for until somebody writes to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError:  # a path with a zero in it
        raise UnusablePicture("there is no such file") from None
    except OSError as error:
        raise UnusablePicture(_why_not(error)) from None
    try:
        _check_regular(os.fstat(descriptor).st_mode)
        file = os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise
    with file:
        yield file


def _why_not(error: OSError) -> str:
    if error.errno in _NOT_THERE:
        return "there is no such file"
    if error.errno == errno.ENXIO:
        return "it is a socket or a device, and no file with a picture"
    return "it cannot be read"


def _check_regular(mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = next((name for tells, name in _KINDS if tells(mode)), "something else")
        raise UnusablePicture(f"it is {kind}, and no file with a picture")


def leads_out(path: Path, folder: Path) -> bool:
    """Tell whether a path is one of something outside of a folder, however it leads there.

    By `..`, by a link, or by being absolute: an absolute path of something inside does not.

    Links are followed as far as they go. What no file can be called, and links in a circle, lead
    nowhere: whoever opens them is told that nothing is there.
    """
    end = _end(path)
    return end is not None and not end.is_relative_to(folder.resolve())


def path_within(folder: Path, written: str) -> Path:
    """Return where a relative path leads from a folder.

    UnusablePicture for an absolute path, and for one that leads out of the folder, by `..` or by a
    symbolic link.
    """
    if PurePath(written).is_absolute():
        raise UnusablePicture("it is an absolute path, and pictures lie beside the file with lines")
    path = folder / written
    end = _end(path)
    if end is None:
        raise UnusablePicture("there is no such file")
    if not end.is_relative_to(folder.resolve()):
        raise UnusablePicture("it leads out of the folder with the file of lines")
    return path


def _end(path: Path) -> Path | None:
    """Return where a path leads over all links; None where no file can be."""
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):  # links in a circle; a zero in the path
        return None
