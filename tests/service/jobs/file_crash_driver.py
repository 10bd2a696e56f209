"""Break the creation of a file at its Nth step, for N = 1, 2, 3 ... until it completes.

    python -m tests.service.jobs.file_crash_driver kill sqlite:////somewhere/hone.db /somewhere

A step is a call that reaches the file system (as the interpreter's audit events tell), a flush, or
a line of the store's own modules. Each attempt runs in a fork. Afterwards the file is whole, with
a row, or absent; nothing that was there before is touched; a sweep leaves nothing that no row has;
and the next file can be created. Prints one JSON object: how attempts ended, and every complaint.
"""

import errno
import hashlib
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

from hone.models import durable
from hone.models.errors import HoneError
from hone.service.jobs import files as files_module
from hone.service.jobs import incoming as incoming_module
from hone.service.jobs.database import open_database
from hone.service.jobs.files import Files, NewFile
from hone.service.jobs.pages import Cursor

TRACED = {str(durable.__file__), str(files_module.__file__), str(incoming_module.__file__)}
MOST_STEPS = 400
CONTENT = [b"x" * 1000, b"y" * 1000]
ENDS = {-signal.SIGKILL: "killed", 0: "done", 3: "refused", 4: "wrong error", 5: "done anyway"}


class Steps:
    """Counts steps and, at the one given, kills the process or fails the call."""

    def __init__(self, mode: str, at: int) -> None:
        self.mode, self.at, self.seen = mode, at, 0

    def take(self) -> None:
        self.seen += 1
        due = self.seen == self.at or (self.mode == "broken-disk" and self.seen > self.at)
        if due and self.mode == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if due:
            raise OSError(errno.EIO, f"step {self.seen}")

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.mode == "kill" and event.startswith(("open", "os.", "fcntl.", "sqlite3.")):
            self.take()
        if self.mode != "kill" and event in {"os.mkdir", "os.rename"}:
            self.take()

    def trace(self, frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename not in TRACED:
            return None
        if event == "line":
            self.take()
        return self.trace

    def flush(self, _: int) -> None:
        self.take()


def attempt(url: str, folder: Path, mode: str, at: int) -> str:
    """Create a file in a fork and say how that ended."""
    child = os.fork()
    if child == 0:
        os._exit(_in_fork(url, folder, mode, at))
    return ENDS[os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]


def _in_fork(url: str, folder: Path, mode: str, at: int) -> int:
    steps = Steps(mode, at)
    store = Files(open_database(url), folder)
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        half = real(descriptor, data[: max(1, len(data) // 2)])
        if descriptor > 2:
            steps.take()
        return half

    patch("os.fsync", steps.flush).start()
    patch("os.write", write).start()
    sys.addaudithook(steps.audit)
    if mode == "kill":
        sys.settrace(steps.trace)
    try:
        store.create(CONTENT, NewFile("acme", "fine-tune", f"{mode}-{at}"))
    except HoneError:
        return 3
    except BaseException as error:  # noqa: BLE001 - a fork must not return into its parent's work
        real(2, f"{mode} {at}: {error!r}\n".encode())
        return 4
    return 5 if at <= steps.seen else 0


def complaints(store: Files, ended: str, name: str) -> Iterator[str]:
    """Say what is wrong with what an attempt left."""
    rows = store.list("acme", cursor=Cursor(limit=1000)).items
    made = [row for row in rows if row.filename == name]
    if len(made) > 1 or (ended == "refused" and made) or (ended.startswith("done") and not made):
        yield f"has {len(made)} rows"
    for row in rows:
        content = (store.folder / row.sha256).read_bytes()
        if hashlib.sha256(content).hexdigest() != row.sha256 or len(content) != row.bytes:
            yield f"broke {row.filename}"
    for row in made:
        store.delete("acme", row.id)
    store.sweep()
    kept = {row.sha256 for row in rows if row.filename == "before"}
    found = {path.name for path in store.folder.glob("[!.]*")}
    if found != kept or list((store.folder / ".incoming").iterdir()):
        yield f"leaves {sorted(found - kept)}"


def run(mode: str, url: str, folder: Path) -> dict[str, object]:
    """Break it at every step; return how the attempts ended, and all complaints."""
    database = open_database(url)
    Files(database, folder).create([b"before"], NewFile("acme", "fine-tune", "before"))
    database.close()
    ends: Counter[str] = Counter()
    found: list[str] = []
    for at in range(1, MOST_STEPS):
        ended = attempt(url, folder, mode, at)
        ends[ended] += 1
        database = open_database(url)
        store = Files(database, folder)
        found += [f"step {at} ({ended}): {c}" for c in complaints(store, ended, f"{mode}-{at}")]
        database.close()
        if ended == "done":
            return {"ends": ends, "complaints": found}
    return {"ends": ends, "complaints": [*found, "there was no end to the steps"]}


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], sys.argv[2], Path(sys.argv[3]))))
