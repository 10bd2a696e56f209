"""A job's folder on this machine: what its processes read, write, and go on from.

    <state>/work/<job>/training.jsonl     the stored file's content under another name; `.zip`
                                          if it is an archive
                       validation.jsonl   likewise, where one was given
                       data/              what `hone prepare` made
                       runs/              checkpoints
                       events.jsonl  stderr.txt  lock  tmp/      of its processes

It outlives processes, services and pauses, and goes with the end of the job.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from hone.models import durable
from hone.models.imaging.archives import begins_as_archive
from hone.service.jobs.errors import StoreFailed, disk_errors
from hone.service.jobs.trainer import EVENTS_FILE

_REPORT = "report.json"


@dataclass(frozen=True, slots=True)
class Workplace:
    """The paths within one job's folder."""

    folder: Path

    @property
    def training(self) -> Path:
        """The training file."""
        return self._placed("training")

    @property
    def validation(self) -> Path:
        """The validation file, if there is one."""
        return self._placed("validation")

    @property
    def data(self) -> Path:
        """The prepared splits and their report."""
        return self.folder / "data"

    @property
    def runs(self) -> Path:
        """The checkpoints."""
        return self.folder / "runs"

    @property
    def events(self) -> Path:
        """What the training has told so far, over all its processes."""
        return self.folder / EVENTS_FILE

    @property
    def is_prepared(self) -> bool:
        """Whether `hone prepare` has finished: its folder comes into being all at once."""
        return (self.data / _REPORT).is_file()

    def make(self, training: Path, validation: Path | None) -> None:
        """Make the folder, with the files' content; what is there already stays."""
        with disk_errors():
            durable.make_folder(self.folder)
            self.folder.chmod(0o700)
            if validation is not None:
                _place(validation, self.folder / f"validation{_suffix(validation)}")
            _place(
                training, self.folder / f"training{_suffix(training)}"
            )  # the last: with it, all are there

    def report(self) -> dict[str, Any]:
        """Return the report of `hone prepare`."""
        try:
            with disk_errors():
                content = (self.data / _REPORT).read_bytes()
            found: dict[str, Any] = orjson.loads(content)
        except orjson.JSONDecodeError:
            raise StoreFailed("the prepared data of a job cannot be read") from None
        return found

    def _placed(self, name: str) -> Path:
        archive = self.folder / f"{name}.zip"
        return archive if archive.exists() else self.folder / f"{name}.jsonl"

    def forget(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)


def workplaces(state: Path) -> Iterator[Workplace]:
    """Yield all that are there."""
    folder = state / "work"
    if folder.is_dir():
        yield from (Workplace(path) for path in folder.iterdir() if path.is_dir())


def workplace(state: Path, job: str) -> Workplace:
    """Return a job's; it need not be there."""
    return Workplace(state / "work" / job)


def _suffix(content: Path) -> str:
    """Return what a file must be called, so that its kind is known; `.jsonl` for one not there."""
    with suppress(FileNotFoundError):
        if begins_as_archive(content):
            return ".zip"
    return ".jsonl"


def _place(content: Path, target: Path) -> None:
    """Give content another name: it stays although the stored file may be deleted meanwhile."""
    if target.exists():
        return
    with suppress(FileNotFoundError):
        try:
            os.link(content, target)
        except OSError:  # another file system, or one without links
            beside = target.with_suffix(".new")
            shutil.copyfile(content, beside)
            beside.rename(target)
    if not target.exists():
        raise StoreFailed("the content of a stored file is not there")
