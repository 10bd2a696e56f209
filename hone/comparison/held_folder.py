"""The folder of a run: what was asked, what came back, and the record of how.

experiment.toml    the experiment as it was given
items.jsonl        the items that were asked
outcomes.jsonl     what each contender did with each of them
question.json      what the judge is asked
run.json           versions, times, prices, contamination, hashes, and what was left out
unfinished/        the same of a run that is not whole, with the state it is in
answers.db         every call that was made, and every answer
embeddings-*.f32   embeddings of the texts, if examples were retrieved

A run writes into `unfinished`, so that the folder always holds one whole run or none: a run that
fails leaves the one before as it was. Once it is whole, one rename decides: `unfinished` becomes
`.arriving`, and its files take the places of the old ones. A kill in between is made good by
whoever holds the folder next.
"""

import errno
import fcntl
import hashlib
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel

import hone
from hone.comparison.experiment_file import ExperimentFile, look_at_file
from hone.comparison.outcomes import Item, Outcome
from hone.comparison.question import ITEMS_FILE, OUTCOMES_FILE, RUN_FILE
from hone.models.durable import fsync_folder, make_folder, rename, write_atomically
from hone.models.errors import BundleCorrupt, Conflict, HoneError, InvalidInput

EXPERIMENT_FILE = "experiment.toml"
QUESTION_FILE = "question.json"
JUNIT_FILE = "junit.xml"
REPORT_FILES = ("report.html", "report.md", "report.json")
UNFINISHED = "unfinished"
_ARRIVING = ".arriving"
_LIBRARIES = ("aiohttp", "numpy", "onnxruntime", "pydantic", "scipy", "tokenizers")


class RunFolder:
    """One run's folder, held by one process at a time; made by `hold`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def unfinished(self) -> Path:
        """Where a run writes until it is whole."""
        return self.path / UNFINISHED

    def earlier(self) -> dict[str, Any]:
        """Return what is recorded of the last run here, whole or not; empty if there was none."""
        return _record(self.unfinished / RUN_FILE) or _record(self.path / RUN_FILE)

    def is_whole(self) -> bool:
        """Whether the folder holds a whole run, besides what is unfinished."""
        return bool(_record(self.path / RUN_FILE).get("complete"))

    def check_decision(
        self, file: ExperimentFile, *, decision_changed: bool
    ) -> list[dict[str, str]]:
        """Return how the decision's settings changed before and now; nothing is written.

        Conflict if they are not those of the last run here, unless `decision_changed` says that
        this is meant: settings that are chosen once answers are known prove nothing.
        """
        earlier = self.earlier()
        changes: list[dict[str, str]] = list(earlier.get("decision_changes", []))
        before, now = earlier.get("decision_sha256"), file.experiment.decision_sha256()
        if before is not None and before != now:
            what = self._changed_in_decision(file, before)
            if not decision_changed:
                told = f" ({what})" if what else ""
                raise Conflict(
                    f"[decision] is not what it was when the last run in {self.path} began{told}: "
                    "answers are known by now. Give another --out to begin anew, or "
                    "--decision-changed to go on, which the report will say"
                )
            changes.append({"at": now_text(), "from": before, "to": now, "what": what})
        return changes

    def _changed_in_decision(self, file: ExperimentFile, before: str) -> str:
        """Return which settings changed since the decision had this hash; empty if unknown."""
        for folder in (self.unfinished, self.path):
            try:
                earlier = look_at_file(folder / EXPERIMENT_FILE).experiment
                if earlier.decision_sha256() == before:
                    break
            except (HoneError, OSError, AttributeError):  # not there, or not of this version
                continue
        else:
            return ""
        now = file.experiment.decision.model_dump(mode="json")
        then = earlier.decision.model_dump(mode="json")
        return ", ".join(f"{k} from {then[k]} to {now[k]}" for k in now if now[k] != then.get(k))

    def begin(
        self, file: ExperimentFile, items: Sequence[Item], *, decision_changed: bool
    ) -> list[dict[str, str]]:
        """Write down what is asked, and return how the decision's settings changed.

        Conflict as `check_decision` raises it.
        """
        changes = self.check_decision(file, decision_changed=decision_changed)
        make_folder(self.unfinished.resolve())
        (self.unfinished / OUTCOMES_FILE).unlink(missing_ok=True)
        write_atomically(self.unfinished / EXPERIMENT_FILE, file.content)
        write_atomically(self.unfinished / ITEMS_FILE, _lines(items))
        return changes

    def write_record(self, record: dict[str, Any]) -> None:
        """Replace the unfinished run's record."""
        content = orjson.dumps(record, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        write_atomically(self.unfinished / RUN_FILE, content)

    def finish(
        self, outcomes: Sequence[Outcome], question: BaseModel, record: dict[str, Any]
    ) -> None:
        """Let a whole run take the place of the one before, whose report goes.

        The record gets the hashes of what it belongs to.
        """
        written = {
            OUTCOMES_FILE: _lines(outcomes),
            QUESTION_FILE: question.model_dump_json(indent=2).encode() + b"\n",
        }
        for name, content in written.items():
            write_atomically(self.unfinished / name, content)
        items = (self.unfinished / ITEMS_FILE).read_bytes()
        hashes = {
            name: hashlib.sha256(content).hexdigest()
            for name, content in ({ITEMS_FILE: items} | written).items()
        }
        self.write_record(record | {"results_sha256": hashes})
        rename(self.unfinished, self.path / _ARRIVING)
        self.arrive()

    def arrive(self) -> None:
        """Put the files of a whole run in their places, or the rest of them after a kill."""
        arriving = self.path / _ARRIVING
        if not arriving.is_dir():
            return
        for name in (*REPORT_FILES, JUNIT_FILE):
            (self.path / name).unlink(missing_ok=True)
        for file in sorted(arriving.iterdir()):  # run.json, which has the hashes, as the last
            if file.name.startswith("."):
                file.unlink()  # what a killed run was writing
            else:
                file.replace(self.path / file.name)
        fsync_folder(self.path)
        arriving.rmdir()


def _record(path: Path) -> dict[str, Any]:
    """Return a record; empty if there is none."""
    try:
        found = orjson.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise BundleCorrupt(f"{path} is no record of a run")
    return found


def check_place(path: Path) -> None:
    """Raise InvalidInput where `hold` could not make the folder or write in it; make nothing."""
    there = path.resolve()
    try:
        while not there.exists() and there != there.parent:
            there = there.parent
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        raise _unusable(path, error) from None
    if not there.is_dir():
        raise _unusable(path, NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)))
    if not os.access(there, os.W_OK | os.X_OK):
        raise _unusable(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def _unusable(path: Path, error: OSError) -> InvalidInput:
    said = (error.strerror or "no reason was given").lower()
    return InvalidInput(f"{path} cannot be a run's folder: {said}; give another --out")


@contextmanager
def hold(path: Path) -> Iterator[RunFolder]:
    """Make a run folder and hold it; Conflict while another process does.

    The kernel lets go when the holder dies. InvalidInput where there can be no folder to write in.
    """
    try:
        make_folder(path.resolve())
        descriptor = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise _unusable(path, error) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"another comparison is running in {path}") from None
        folder = RunFolder(path)
        folder.arrive()
        yield folder
    finally:
        os.close(descriptor)


def versions() -> dict[str, str]:
    """Return the versions of what a run rests on."""
    found = {"hone": hone.__version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def now_text() -> str:
    """Return the time now, in ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _lines(records: Sequence[BaseModel]) -> bytes:
    return b"".join(record.model_dump_json().encode() + b"\n" for record in records)
