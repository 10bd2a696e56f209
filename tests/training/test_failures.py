"""What ended a command: lack of memory, a full disk, an error of ours, or anything else."""

import errno
import resource
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import typer
from safetensors import SafetensorError
from safetensors.torch import save_file

from hone.models.errors import HoneError, InvalidInput, InvalidRecipe
from hone.training.failures import EXIT_STATUSES, failure_code, told_by_status


def wrapped(cause: OSError) -> HoneError:
    """Return what `raise ... from None` leaves in an `except`."""
    error = InvalidInput("the store cannot be written to")
    error.__context__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), "out_of_memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out_of_memory"),
        (RuntimeError("std::bad_alloc"), "out_of_memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "out_of_memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full"),
        (OSError(errno.EFBIG, "File too large"), "disk_full"),
        (wrapped(OSError(errno.ENOSPC, "No space left on device")), "disk_full"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "disk_full"),
        (wrapped(PermissionError(errno.EACCES, "denied")), "invalid_input"),
        (InvalidRecipe(["a problem: out of memory is a label"]), "invalid_recipe"),
        (ValueError("a bug"), "crashed"),
    ],
)
def test_an_error_has_one_code(error: Exception, code: str) -> None:
    assert failure_code(error) == code


def test_an_allocation_that_torch_cannot_make_is_lack_of_memory() -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**50)
    assert failure_code(refused.value) == "out_of_memory"


@pytest.fixture
def small_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_files")
def test_files_that_cannot_grow_are_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(SafetensorError) as refused:
        save_file({"a": torch.zeros(10_000)}, tmp_path / "a.safetensors")
    assert failure_code(refused.value) == "disk_full"
    database = sqlite3.connect(tmp_path / "a.sqlite")
    with pytest.raises(sqlite3.OperationalError) as full:
        database.executescript(
            "CREATE TABLE t (x);"
            "INSERT INTO t SELECT zeroblob(4000) FROM (VALUES (1), (2), (3), (4));"
        )
    database.close()
    assert failure_code(full.value) == "disk_full"


def test_the_status_tells_what_no_event_can(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, told_by_status():
        raise OSError(errno.ENOSPC, "No space left on device")
    assert ended.value.exit_code == EXIT_STATUSES["disk_full"]
    assert "No space left" in capfd.readouterr().err
    with pytest.raises(InvalidInput), told_by_status():
        raise InvalidInput("the file is wrong")
