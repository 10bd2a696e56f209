"""Weights in huge pages, as the kernel itself tells it."""

import mmap
import os
import re
from pathlib import Path

import numpy as np
import pytest

from hone.models import huge_pages
from hone.models.huge_pages import HUGE_PAGE, in_huge_pages

COLLAPSE = 25


def collapses() -> bool:
    """Whether this kernel moves memory when asked."""
    try:
        with mmap.mmap(-1, 2 * HUGE_PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:
            block.write(b"x" * len(block))
            block.madvise(COLLAPSE)
    except OSError:
        return False
    return True


needs_kernel = pytest.mark.skipif(not collapses(), reason="the kernel has no MADV_COLLAPSE")


def kilobytes(address: int, kind: str) -> int:
    """Return what the kernel says of the mapping with this address (proc_pid_smaps(5))."""
    inside = False
    for line in Path("/proc/self/smaps").read_text(errors="replace").splitlines():
        if borders := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(borders[1], 16) <= address < int(borders[2], 16)
        elif inside and line.startswith(f"{kind}:"):
            return int(line.split()[1])
    raise AssertionError(f"nothing is mapped at {address:x}")


def own_mapping(size: int) -> np.ndarray:
    """Return memory that is no mapping with its neighbours, as it has a flag they have not."""
    block = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    block.madvise(mmap.MADV_DONTDUMP)
    return np.frombuffer(block, dtype=np.uint8)


@needs_kernel
def test_what_is_written_within_lies_in_huge_pages_and_is_the_same() -> None:
    rng = np.random.default_rng(3)
    wanted = rng.integers(0, 256, 8 * HUGE_PAGE, dtype=np.uint8)
    with in_huge_pages():
        held = own_mapping(len(wanted))
        held[:] = wanted
    assert kilobytes(held.ctypes.data + 4 * HUGE_PAGE, "AnonHugePages") >= 7 * HUGE_PAGE // 1024
    assert np.array_equal(held, wanted)


@needs_kernel
def test_memory_that_nobody_wrote_to_stays_away() -> None:
    with in_huge_pages():
        held = own_mapping(8 * HUGE_PAGE)
        held[:: 2 * HUGE_PAGE] = 1
    middle = held.ctypes.data + 4 * HUGE_PAGE
    blocks = huge_pages._resident_blocks()
    assert blocks is not None
    inside = (blocks > held.ctypes.data) & (blocks < held.ctypes.data + len(held))
    assert not inside.any()
    assert kilobytes(middle, "AnonHugePages") == 0


@needs_kernel
def test_what_was_there_before_is_left_alone() -> None:
    held = own_mapping(4 * HUGE_PAGE)
    held[:] = 1
    with in_huge_pages():
        pass
    assert kilobytes(held.ctypes.data + 2 * HUGE_PAGE, "AnonHugePages") == 0


def test_without_the_kernels_tables_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huge_pages, "Path", lambda _: Path("/nowhere/at/all"))
    with in_huge_pages():
        held = own_mapping(4 * HUGE_PAGE)
        held[:] = 7
    assert (held == 7).all()
    assert huge_pages._resident_blocks() is None


@needs_kernel
def test_names_of_mapped_files_may_be_any_bytes(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9"
    try:
        with Path(os.fsdecode(name)).open("w+b") as file:
            file.truncate(mmap.PAGESIZE)
            mapped = mmap.mmap(file.fileno(), mmap.PAGESIZE)
    except OSError:
        pytest.skip("this file system takes no such names")
    with mapped, in_huge_pages():
        held = own_mapping(4 * HUGE_PAGE)
        held[:] = 1
    assert kilobytes(held.ctypes.data + 2 * HUGE_PAGE, "AnonHugePages") > 0


def test_an_error_within_goes_on() -> None:
    with pytest.raises(ZeroDivisionError), in_huge_pages():
        _ = 1 / 0
