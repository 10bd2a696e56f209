"""Weights in huge pages: fewer page walks where every step reads all of them.

A decoder's step for one sequence reads each weight once, and waits for memory. In pages of 4 KiB
the processor must also look up where each page lies. Linux gives larger ones unasked only where it
is set up to (`/sys/kernel/mm/transparent_hugepage/enabled`: `always`), and most distributions are
not. `MADV_COLLAPSE` (madvise(2), Linux 6.1) moves what is already in memory. Only blocks that are
in memory whole are moved, so that the process grows by nothing. Where the kernel has no such call,
or does not let us, everything stays as it is.
"""

import contextlib
import ctypes
import mmap
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

HUGE_PAGE = 2 << 20
"""Bytes of a huge page on x86-64, and on ARM with pages of 4 KiB."""

_MADV_COLLAPSE = 25
_BYTES_PER_ENTRY = 8
_BLOCKS_AT_ONCE = 256
_PRESENT = np.uint64(1 << 63)
_ANONYMOUS = re.compile(rb"([0-9a-f]+)-([0-9a-f]+) rw-p 00000000 00:00 0 *(?:\[heap\])?$")
Blocks = npt.NDArray[np.int64]
"""Addresses of blocks of the size of a huge page, sorted."""


@contextlib.contextmanager
def in_huge_pages() -> Iterator[None]:
    """Move to huge pages what is allocated and written within, in this process.

    Also what other threads allocate meanwhile: it does them no harm. Never raises on its own.
    """
    before = _resident_blocks()
    yield
    if before is not None:
        after = _resident_blocks()
        if after is not None:
            _collapse(np.setdiff1d(after, before, assume_unique=True))


def _resident_blocks() -> Blocks | None:
    """Return the blocks of private memory that are in memory whole; None where nobody says."""
    found = [np.empty(0, dtype=np.int64)]
    try:
        maps = Path("/proc/self/maps").read_bytes()  # names of files are bytes
        with Path("/proc/self/pagemap").open("rb", buffering=0) as pagemap:
            for line in maps.splitlines():
                if match := _ANONYMOUS.match(line):
                    start = -(-int(match[1], 16) // HUGE_PAGE) * HUGE_PAGE
                    found += _whole(pagemap.fileno(), start, int(match[2], 16))
    except OSError:
        return None
    return np.sort(np.concatenate(found))


def _whole(pagemap: int, start: int, end: int) -> Iterator[Blocks]:
    """Yield the blocks between two addresses of which every page is in memory.

    Read piece by piece, as what is reserved may be far larger than what is used.
    """
    per_block = HUGE_PAGE // mmap.PAGESIZE
    for piece in range(start, end - HUGE_PAGE + 1, _BLOCKS_AT_ONCE * HUGE_PAGE):
        blocks = min(_BLOCKS_AT_ONCE, (end - piece) // HUGE_PAGE)
        size = blocks * per_block * _BYTES_PER_ENTRY
        read = os.pread(pagemap, size, piece // mmap.PAGESIZE * _BYTES_PER_ENTRY)
        if len(read) == size:  # less, where the mapping is gone by now
            entries = np.frombuffer(read, dtype=np.uint64).reshape(blocks, per_block)
            whole = ((entries & _PRESENT) != 0).all(axis=1)
            yield piece + np.flatnonzero(whole) * HUGE_PAGE


def _collapse(blocks: Blocks) -> None:
    """Move these blocks, as far as the kernel does it."""
    try:
        madvise = ctypes.CDLL(None, use_errno=True).madvise
    except (OSError, AttributeError):
        return
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    edges = np.flatnonzero(np.diff(blocks) != HUGE_PAGE) + 1
    for run in np.split(blocks, edges):
        if len(run):
            madvise(int(run[0]), len(run) * HUGE_PAGE, _MADV_COLLAPSE)
