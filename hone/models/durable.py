"""File operations that survive a power cut: every write is on disk before the next step."""

import os
import secrets
from pathlib import Path


def fsync_file(path: Path) -> None:
    """Flush a file's bytes to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_folder(path: Path) -> None:
    """Flush a folder's entries (names, renames) to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, unless they are there."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        fsync_folder(path.parent)


def rename(source: Path, target: Path) -> None:
    """Rename within one file system, atomically, and make it last."""
    source.rename(target)
    fsync_folder(target.parent)
    if source.parent != target.parent:
        fsync_folder(source.parent)


def umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file's content: readers see the old bytes or the new ones, never a part."""
    # Drawn, and opened only if it is new: containers that share a folder share their process ids.
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}.new")
    file = beside.open("xb")
    try:
        with file:
            file.write(content)
        fsync_file(beside)
        rename(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
