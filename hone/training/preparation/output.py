"""Writing the prepared folder: all of it at once, or nothing."""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import orjson

from hone.models.durable import fsync_file, fsync_folder, rename
from hone.models.errors import Conflict, InvalidInput
from hone.models.examples import SPLITS, sha256_of_file, write_examples
from hone.training.preparation.report import KIND, PAGE_NAME, REPORT_NAME, PrepareReport, Split
from hone.training.preparation.spool import Spool

Written = TypeVar("Written")

PICTURES_FOLDER = "pictures"
"""Where the pictures of a prepared folder lie, each named for the SHA-256 of its bytes."""

_OWN_FILES = frozenset(
    {*(f"{split}.jsonl" for split in SPLITS), REPORT_NAME, PAGE_NAME, PICTURES_FOLDER}
)
_PICTURE_NAME = re.compile(r"[0-9a-f]{64}\.(jpg|png|webp)")


def check_folder(folder: Path) -> None:
    """Raise Conflict unless `folder` is absent, empty, or an earlier output and nothing else."""
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir() or folder.is_symlink():
        raise Conflict(f"{folder} is there and is not a folder: give another --out")
    names = {entry.name for entry in folder.iterdir()}
    if names and not _is_earlier_output(folder):
        raise Conflict(
            f"{folder} is not an earlier output of hone prepare, and is left alone: "
            "give another --out"
        )
    if foreign := sorted(names - _OWN_FILES) or _foreign_pictures(folder / PICTURES_FOLDER):
        raise Conflict(
            f"{folder} also holds {foreign[0]!r}, which would be lost: move it, "
            "or give another --out"
        )


def _foreign_pictures(folder: Path) -> list[str]:
    """Return what lies among the pictures and was not put there by this module."""
    if not folder.exists():
        return []
    if not folder.is_dir() or folder.is_symlink():
        return [folder.name]
    strange = (p.name for p in folder.iterdir() if not _PICTURE_NAME.fullmatch(p.name))
    return sorted(strange)


def _is_earlier_output(folder: Path) -> bool:
    try:
        report = orjson.loads((folder / REPORT_NAME).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return False
    return isinstance(report, dict) and report.get("kind") == KIND


Write = Callable[[Spool, Path], dict[str, Split]]
"""Writes all splits into a folder."""


def write_texts(spool: Spool, folder: Path) -> dict[str, Split]:
    """Write one file of texts and labels for each split."""
    splits = {}
    for split in SPLITS:
        path = folder / f"{split}.jsonl"
        splits[split] = Split(write_examples(path, spool.examples(split)), sha256_of_file(path))
    return splits


def write_folder(
    spool: Spool,
    report: PrepareReport,
    page: Callable[[PrepareReport], str],
    write: Write = write_texts,
) -> PrepareReport:
    """Write the splits and the report; return the report with the splits' hashes.

    The files are written beside the folder and moved into place together, so that a run that is
    killed never leaves a part of an output. An old output is moved aside before, and removed
    after the new one is in place. InvalidInput where nothing can be written.
    """

    def fill(beside: Path) -> PrepareReport:
        splits = write(spool, beside)
        written = replace(report, written=True, splits=splits)
        (beside / PAGE_NAME).write_text(page(written), encoding="utf-8")
        write_report(beside, written.as_json())
        return written

    return write_all(report.folder, fill)


def write_report(folder: Path, content: Mapping[str, object]) -> None:
    """Write `report.json`."""
    written = orjson.dumps(content, option=orjson.OPT_INDENT_2)
    (folder / REPORT_NAME).write_bytes(written + b"\n")


def write_all(folder: Path, fill: Callable[[Path], Written]) -> Written:
    """Let `fill` write files into a folder beside `folder`, which then takes its place at once.

    Returns what `fill` does. InvalidInput where nothing can be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.new-", dir=folder.parent))
    except OSError as error:
        raise InvalidInput(
            f"nothing can be written into {folder.parent}: {error.strerror}"
        ) from None
    try:
        written = fill(beside)
        _make_durable(beside)
        _put_in_place(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return written


def _make_durable(folder: Path) -> None:
    folder.chmod(0o777 & ~_umask())
    for path in folder.rglob("*"):
        (fsync_folder if path.is_dir() else fsync_file)(path)
    fsync_folder(folder)


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _put_in_place(new: Path, folder: Path) -> None:
    check_folder(folder)
    if not folder.exists() or not any(folder.iterdir()):
        rename(new, folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old-", dir=folder.parent))
    rename(folder, old)
    rename(new, folder)
    shutil.rmtree(old)


def label_table(spool: Spool) -> Mapping[str, tuple[int, ...]]:
    """Return (total, train, validation, test) for every label, the commonest first."""
    query = (
        "SELECT label, count(*), sum(split = 'train'), sum(split = 'validation'),"
        " sum(split = 'test') FROM kept GROUP BY label ORDER BY count(*) DESC, label"
    )
    return {
        str(label): tuple(int(str(count)) for count in counts)
        for label, *counts in spool.select(query)
    }
