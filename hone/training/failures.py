"""What ended a command, told by its exit status too: a full disk may take no event any more.

The words of libraries are read here, at one place, and go no further.
"""

import errno
import re
import sqlite3
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from hone.models.errors import HoneError

OUT_OF_MEMORY, DISK_FULL, CRASHED = "out_of_memory", "disk_full", "crashed"

EXIT_STATUSES = {OUT_OF_MEMORY: 71, DISK_FULL: 74}
"""sysexits' EX_OSERR and EX_IOERR. Every other error is status 1, as everywhere."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_SQLITE_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE}
_DISK_WORDS = re.compile(r"no space left|file too large|\bos error (28|27)\b", re.IGNORECASE)
_MEMORY_WORDS = re.compile(
    r"out of memory|can(no|')t allocate|bad_?alloc|failed to allocate|\bos error 12\b",
    re.IGNORECASE,
)
_LONGEST_READ = 10_000


def failure_code(error: BaseException) -> str:
    """Return `out_of_memory`, `disk_full`, else an error's own code, else `crashed`."""
    for one in _causes(error):
        if _is_full_disk(one):
            return DISK_FULL
        if _is_lack_of_memory(one):
            return OUT_OF_MEMORY
    return error.code if isinstance(error, HoneError) else CRASHED


@contextmanager
def told_by_status() -> Iterator[None]:
    """End the command with a status of its own where memory or the disk was too small."""
    try:
        yield
    except Exception as error:  # whatever a library makes of it; all others go on as they are
        status = EXIT_STATUSES.get(failure_code(error))
        if status is None:
            raise
        traceback.print_exc()
        raise typer.Exit(status) from None


def _is_full_disk(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in _FULL
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", 0) in _SQLITE_FULL
    return not isinstance(error, HoneError) and bool(_DISK_WORDS.search(_said(error)))


def _is_lack_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    return not isinstance(error, HoneError) and bool(_MEMORY_WORDS.search(_said(error)))


def _said(error: BaseException) -> str:
    return str(error)[:_LONGEST_READ]


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that it came from, the last one first."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__
