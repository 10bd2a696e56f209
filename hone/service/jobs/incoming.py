"""Content on its way to the disk: written in chunks, hashed on the way, never held in memory.

    <folder>/.incoming/<name>   what is being written; each file is locked by its writer

A file that nobody locks there was left by a process that was killed; `sweep` removes it.
"""

import contextlib
import fcntl
import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hone.models import durable
from hone.service.errors import TooLarge
from hone.service.jobs.errors import StoreFailed, disk_errors

FOLDER = ".incoming"


class Incoming:
    """A file that is being written. One thread at a time."""

    def __init__(self, path: Path, descriptor: int, most_bytes: int) -> None:
        self.path = path
        self.size = 0
        self._descriptor = descriptor
        self._most_bytes = most_bytes
        self._sha256 = hashlib.sha256()
        self._placed = False

    @property
    def sha256(self) -> str:
        """The hash of what was written so far, as hexadecimal digits."""
        return self._sha256.hexdigest()

    def write(self, chunk: bytes) -> None:
        """Append a chunk. TooLarge beyond the limit; DiskFull or StoreFailed as the disk says."""
        if self.size + len(chunk) > self._most_bytes:
            raise TooLarge(f"the file has more than {self._most_bytes} bytes", param="file")
        rest = memoryview(chunk)
        with disk_errors():
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        self._sha256.update(chunk)
        self.size += len(chunk)

    def flush(self) -> None:
        """Put what was written on the disk."""
        with disk_errors():
            os.fsync(self._descriptor)

    def place(self, target: Path) -> None:
        """Rename the flushed file to where it stays. Only once."""
        if self._placed:
            raise StoreFailed("this content already has its place")
        with disk_errors():
            durable.rename(self.path, target)
        self._placed = True

    def close(self) -> None:
        """Remove what was not placed, and give the lock back."""
        if not self._placed:
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            os.close(self._descriptor)


@contextmanager
def incoming(folder: Path, most_bytes: int) -> Iterator[Incoming]:
    """Give a file to write; it is gone after the block unless it was placed."""
    parent = folder / FOLDER
    path = parent / uuid.uuid4().hex
    with disk_errors():
        durable.make_folder(parent)
        with _locked_folder(parent):  # no sweep between the two calls
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    file = Incoming(path, descriptor, most_bytes)
    try:
        yield file
    finally:
        file.close()


def sweep(folder: Path) -> int:
    """Remove what killed writers left, and return how many files that were."""
    parent = folder / FOLDER
    if not parent.is_dir():
        return 0
    with disk_errors(), _locked_folder(parent):
        return sum(_remove_if_left(path) for path in parent.iterdir())


def _remove_if_left(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


@contextmanager
def _locked_folder(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
