"""One training process: niced, thread-capped, in a session of its own, tied to its parent's life.

    <folder>/events.jsonl   what it tells, tailed as it grows
    <folder>/stderr.txt     what it says besides; only the end is kept
    <folder>/lock           held by the process itself: free means that none is left

Both are files and no pipes, so that a process whose parent died can write its checkpoint and end
in order.
"""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import orjson

from hone.models import leash
from hone.service.jobs.errors import disk_errors
from hone.service.jobs.settings import trainer_environment

EVENTS_FILE = "events.jsonl"
ERRORS_FILE = "stderr.txt"
LOCK_FILE = "lock"

KEPT_ERRORS_BYTES = 8 * 1024
_MOST_ERRORS_BYTES = 2**20

TrainingEvent = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Command:
    """What to run in which folder. `argv[0]` is the path of a program."""

    argv: Sequence[str]
    folder: Path
    threads: int
    nice: int


class Trainer:
    """A started process. `start` must be called by a thread that lives as long as it may."""

    def __init__(self, process: "subprocess.Popen[bytes]", folder: Path) -> None:
        self.folder = folder
        self.stop_asked = False
        self._process = process
        self._kill_at: float | None = None

    @classmethod
    def start(cls, command: Command, lock: int) -> "Trainer":
        """Start a process, which takes the lock of its folder over from its caller.

        DiskFull or StoreFailed when the folder cannot be written.
        """
        with disk_errors():
            return cls(_spawn(command, lock), command.folder)

    @property
    def pid(self) -> int:
        """The process's id, which is also its group's and its session's."""
        return self._process.pid

    def poll(self) -> int | None:
        """Return the exit status (a signal's as a negative number), or None while it runs.

        Also sees to it that a stop comes to its end and that what it says stays small.
        """
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            self._signal(signal.SIGKILL)
        with suppress(OSError):
            errors = self.folder / ERRORS_FILE
            if errors.stat().st_size > _MOST_ERRORS_BYTES:
                os.truncate(errors, 0)
        return self._process.poll()

    def stop(self, grace_s: float) -> None:
        """Ask the process to write its checkpoint and end; kill it after `grace_s` seconds.

        Returns at once: `poll` tells when it has ended. A second call may shorten the time.
        """
        deadline = time.monotonic() + grace_s
        self._kill_at = deadline if self._kill_at is None else min(self._kill_at, deadline)
        if not self.stop_asked:
            self.stop_asked = True
            self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the process and whatever it started, at once, and wait for it."""
        self.stop_asked = True
        self._signal(signal.SIGKILL)
        self._process.wait()

    def errors(self) -> str:
        """Return the end of what it said on standard error."""
        return _tail(self.folder / ERRORS_FILE)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


class EventTail:
    """Reads the events of a file as it grows; a line that is not whole yet waits."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._rest = b""

    def read(self) -> list[TrainingEvent]:
        """Return the events written since the last call; none while there is no file."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                read = file.read()
        except FileNotFoundError:
            return []
        self._offset += len(read)
        *lines, self._rest = (self._rest + read).split(b"\n")
        return [event for line in lines if (event := _parsed(line)) is not None]


@contextmanager
def folder_lock(folder: Path) -> Iterator[int | None]:
    """Give the lock of a folder, or None while a process that was started there still runs.

    What is found true under the lock stays true: nobody else is at this job on this machine.
    """
    with disk_errors():
        lock = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield lock if _try_lock(lock) else None
    finally:
        os.close(lock)  # a started process has it still


def python_module(module: str, *arguments: str) -> list[str]:
    """Return the command of a module of ours, run by the interpreter that runs us."""
    return [sys.executable, "-m", module, *arguments]


def _spawn(command: Command, lock: int) -> "subprocess.Popen[bytes]":
    scratch = command.folder / "tmp"
    scratch.mkdir(exist_ok=True, mode=0o700)
    leashed = leash.command(signal.SIGTERM, nice=command.nice, program=command.argv)
    with _emptied(command.folder / ERRORS_FILE) as errors:
        return subprocess.Popen(  # noqa: S603 - our own program, no shell
            leashed,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=trainer_environment(command.threads, scratch),
            pass_fds=(lock,),
            start_new_session=True,
        )


def _emptied(path: Path) -> FileIO:
    """Open an empty file for appending: when it is cut shorter later, no hole is left in it."""
    file = path.open("ab", buffering=0)
    file.truncate(0)
    return file


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - KEPT_ERRORS_BYTES))
            return file.read(KEPT_ERRORS_BYTES).decode(errors="replace")
    except FileNotFoundError:
        return ""


def _parsed(line: bytes) -> TrainingEvent | None:
    """Return an event, or None for a line that a kill cut short."""
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("event"), str) else None
