"""Break an operation on a store at its Nth step, for N = 1, 2, 3 ... until it completes.

    python -m tests.models.crash_driver publish kill /tmp/somewhere

A step is a line of the store's own modules, a call that reaches the file system (as the
interpreter's audit events tell), or half of a write. Each attempt runs in a fork on a fresh copy
of the same store. What it leaves is then opened, compared with the states before and after, and
published to. Prints one JSON object: how the attempts ended, and every complaint.

Flushes are counted and may fail, but nothing is flushed: a kill loses no page of the kernel's.
"""

import errno
import gc
import json
import os
import re
import resource
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TypedDict
from unittest.mock import patch

from hone.models import bundle, durable, registry
from hone.models.names import ModelReference
from hone.models.registry import Registry
from tests.models.bodies import publish

MODEL = "support"
TRACED = {str(bundle.__file__), str(durable.__file__), str(registry.__file__)}
DISK_CALLS = ("open", "os.mkdir", "os.rename")
"""Audit events of calls that a full or failing disk refuses; deleting still works."""

MOST_STEPS = 600

ENDS = {
    -signal.SIGKILL: "killed",
    0: "done",  # there was no Nth step any more
    3: "refused",
    4: "wrong error",
    5: "done anyway",
    6: "not flushed",  # the caller is told, and the change may have been made or not
}


class State(TypedDict):
    """What a reader sees of the model."""

    versions: list[int]
    aliases: dict[str, int]


@dataclass(frozen=True)
class Operation:
    """What is broken off: how many versions there are before, and what is done then."""

    versions: int
    act: Callable[[Registry], object]


OPERATIONS = {
    "publish-first": Operation(0, lambda store: publish(store, size=100)),
    "publish": Operation(2, lambda store: publish(store, size=100)),
    "promote": Operation(2, lambda store: store.promote(ModelReference(MODEL, version=2))),
    "remove": Operation(3, lambda store: store.remove(MODEL, 2)),
    "remove-highest": Operation(3, lambda store: store.remove(MODEL, 3)),
}


def prepare(store: Path, versions: int) -> None:
    """Make the store that every attempt starts from; version 1 is in production."""
    for _ in range(versions):
        publish(Registry(store))
    if versions:
        Registry(store).promote(ModelReference(MODEL, version=1))


def describe(store: Path) -> State:
    """Return versions and aliases; every version must open and every alias lead to one."""
    found = Registry(store)
    if not found.models():
        return {"versions": [], "aliases": {}}
    listing = found.listing(MODEL)
    for version in listing.versions:
        found.open(ModelReference(MODEL, version=version))
    for alias in listing.aliases:
        found.open(ModelReference(MODEL, alias=alias))
    return {"versions": listing.versions, "aliases": listing.aliases}


class Steps:
    """Counts steps and, at the one given, kills the process or fails the call."""

    def __init__(self, mode: str, at: int) -> None:
        self.mode, self.at, self.seen = mode, at, 0

    def take(self, event: str) -> None:
        self.seen += 1
        due = self.seen == self.at or (self.mode == "broken-disk" and self.seen > self.at)
        if not due:
            return
        if self.mode == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(errno.EIO, f"step {self.seen}", event)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.mode == "kill" and event.startswith(("open", "os.", "shutil.", "fcntl.")):
            self.take(event)
        if self.mode != "kill" and event in DISK_CALLS and not _only_reads(event, arguments):
            self.take(event)

    def trace(self, frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename not in TRACED:
            return None
        if event == "line":
            self.take("line")
        return self.trace

    def flush(self, _: int) -> None:
        self.take("flush")


def _in_halves(steps: Steps) -> Callable[[Path, bytes], int]:
    def write_bytes(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            half = file.write(content[: len(content) // 2])
            file.flush()
            steps.take("half a write")
            return half + file.write(content[half:])

    return write_bytes


def _only_reads(event: str, arguments: tuple[Any, ...]) -> bool:
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT
    return event == "open" and not int(arguments[2]) & writing


def attempt(store: Path, act: Callable[[Registry], object], mode: str, at: int) -> str:
    """Run an operation in a fork and say how it ended."""
    child = os.fork()
    if child == 0:
        os._exit(_in_fork(store, act, mode, at))
    return ENDS[os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]


def _in_fork(store: Path, act: Callable[[Registry], object], mode: str, at: int) -> int:
    steps = Steps(mode, at)
    if mode == "full-disk":
        resource.setrlimit(resource.RLIMIT_FSIZE, (at * 37, at * 37))
    else:
        patch.object(Path, "write_bytes", _in_halves(steps)).start()
        patch("os.fsync", steps.flush).start()
        sys.addaudithook(steps.audit)
    if mode == "kill":
        sys.settrace(steps.trace)
    try:
        act(Registry(store))
    except OSError as error:
        return 6 if error.filename == "flush" else 3
    except Exception as error:  # noqa: BLE001 - a fork must not return into its parent's work
        os.write(2, f"{mode} {at}: {error!r}\n".encode())
        return 4
    return 5 if at <= steps.seen else 0


def complaints_about(store: Path, before: State, after: State, ended: str) -> Iterator[str]:
    """Say what is wrong with the store that an attempt left."""
    try:
        state = describe(store)
        if state not in ([before] if ended == "refused" else [before, after]):
            yield f"is neither as before nor as after: {state}"
        if ended.startswith("done") and state != after:
            yield f"is done and yet not as after: {state}"
        number = publish(Registry(store)).version
        if number != max([0, *before["versions"], *state["versions"]]) + 1:
            yield f"gives the number {number} after {before} and {state}"
        if number not in describe(store)["versions"]:
            yield "has no next version"
        yield from (f"keeps {path}" for path in leftovers(store))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        yield repr(error)


def leftovers(store: Path) -> Iterator[str]:
    """Name what nobody will sweep; a half-written state file beside the real one is harmless."""
    for name in (".staging", ".trash"):
        yield from (str(path) for path in (store / name).glob("[!.]*"))
    for path in (store / MODEL).iterdir():
        if not re.fullmatch(r"[0-9]+|state\.json|\.lock|\.state\.json\.[0-9a-f]+\.new", path.name):
            yield str(path)


def run(name: str, mode: str, folder: Path) -> dict[str, object]:
    """Break the operation at every step and return how the attempts ended and all complaints."""
    operation = OPERATIONS[name]
    template, store = folder / "template", folder / "store"
    template.mkdir()
    prepare(template, operation.versions)
    before = describe(template)
    shutil.copytree(template, store)
    operation.act(Registry(store))
    after = describe(store)
    ends: Counter[str] = Counter()
    complaints: list[str] = []
    for at in range(1, MOST_STEPS):
        shutil.rmtree(store)
        shutil.copytree(template, store)
        ended = attempt(store, operation.act, mode, at)
        ends[ended] += 1
        complaints += [
            f"step {at} ({ended}): {c}" for c in complaints_about(store, before, after, ended)
        ]
        if ended == "done":
            return {"ends": ends, "complaints": complaints}
    return {"ends": ends, "complaints": [*complaints, "there was no end to the steps"]}


if __name__ == "__main__":
    gc.freeze()  # so that a fork does not copy what it never uses
    with patch("os.fsync"):
        print(json.dumps(run(sys.argv[1], sys.argv[2], Path(sys.argv[3]))))
