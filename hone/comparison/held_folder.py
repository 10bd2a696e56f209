"""The folder of a run: what was asked, what came back, and the record of how.

experiment.toml    the experiment as it was given
items.jsonl        the items that were asked
outcomes.jsonl     what each contender did with each of them; there once the run is whole
run.json           versions, times, prices, contamination, and what was left out
answers.db         every call that was made, and every answer
embeddings-*.f32   embeddings of the texts, if examples were retrieved
"""

import fcntl
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
from hone.comparison.experiment_file import ExperimentFile
from hone.comparison.outcomes import Item, Outcome
from hone.comparison.question import ITEMS_FILE, OUTCOMES_FILE, RUN_FILE
from hone.models.durable import make_folder, write_atomically
from hone.models.errors import BundleCorrupt, Conflict

EXPERIMENT_FILE = "experiment.toml"
QUESTION_FILE = "question.json"
_LIBRARIES = ("aiohttp", "numpy", "onnxruntime", "pydantic", "scipy", "tokenizers")


class RunFolder:
    """One run's folder, held by one process at a time; made by `hold`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def earlier(self) -> dict[str, Any]:
        """Return what run.json says of the last run here; empty if there was none."""
        try:
            found = orjson.loads((self.path / RUN_FILE).read_bytes())
        except FileNotFoundError:
            return {}
        except orjson.JSONDecodeError:
            found = None
        if not isinstance(found, dict):
            raise BundleCorrupt(f"{self.path / RUN_FILE} is no record of a run")
        return found

    def begin(
        self, file: ExperimentFile, items: Sequence[Item], *, decision_changed: bool
    ) -> list[dict[str, str]]:
        """Write down what is asked, and return how the decision's settings changed before.

        Conflict if they are not those of the last run here, unless `decision_changed` says that
        this is meant: settings that are chosen once answers are known prove nothing.
        """
        earlier = self.earlier()
        changes: list[dict[str, str]] = list(earlier.get("decision_changes", []))
        before, now = earlier.get("decision_sha256"), file.experiment.decision_sha256()
        if before is not None and before != now:
            if not decision_changed:
                raise Conflict(
                    f"[decision] is not what it was when {self.path} was begun: answers are known "
                    "by now. Give another --out to begin anew, or --decision-changed to go on, "
                    "which the report will say"
                )
            changes.append({"at": now_text(), "from": before, "to": now})
        (self.path / OUTCOMES_FILE).unlink(missing_ok=True)
        write_atomically(self.path / EXPERIMENT_FILE, file.content)
        write_atomically(self.path / ITEMS_FILE, _lines(items))
        return changes

    def write_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        """Write all outcomes at once."""
        write_atomically(self.path / OUTCOMES_FILE, _lines(outcomes))

    def write_question(self, question: BaseModel) -> None:
        """Write what the judge is asked, for judging the same run again."""
        content = question.model_dump_json(indent=2).encode() + b"\n"
        write_atomically(self.path / QUESTION_FILE, content)

    def write_record(self, record: dict[str, Any]) -> None:
        """Replace run.json."""
        content = orjson.dumps(record, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        write_atomically(self.path / RUN_FILE, content)


@contextmanager
def hold(path: Path) -> Iterator[RunFolder]:
    """Make a run folder and hold it; Conflict while another process does.

    The kernel lets go when the holder dies.
    """
    make_folder(path.resolve())
    descriptor = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"another comparison is running in {path}") from None
        yield RunFolder(path)
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
