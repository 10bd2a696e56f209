"""`hone train` as a process of its own, which can be broken off where a test wants it."""

import fcntl
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from hone.training.events import Event
from tests.training.runs import ONE_THREAD, ROOT

_SMALLEST_PIPE = 4096
_TIME_LIMIT_S = 240


@dataclass
class Process:
    """A running command. It stands still when some 60 of its events have not been read."""

    popen: subprocess.Popen[bytes]
    errors_file: Path
    marker: str
    events: list[Event] = field(default_factory=list)

    def read_until(self, name: str, *, step: int = 0) -> Event:
        """Read events up to one of that name and at least that step."""
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            event: Event = orjson.loads(line)
            self.events.append(event)
            if event["event"] == name and event.get("step", 0) >= step:
                return event
        raise AssertionError(f"no event {name!r}: {self.errors}")

    def end(self, number: signal.Signals | None = None) -> int:
        """Send a signal, read the other events, and return the exit status."""
        if number is not None:
            self.popen.send_signal(number)
        rest, _ = self.popen.communicate(timeout=_TIME_LIMIT_S)
        for line in rest.splitlines():
            with suppress(orjson.JSONDecodeError):  # a line that a kill cut short
                self.events.append(orjson.loads(line))
        return self.popen.returncode

    @property
    def errors(self) -> str:
        return self.errors_file.read_text(encoding="utf-8")

    def family(self) -> list[int]:
        """Return the processes that are left of it and of those that it started."""
        left = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if self.marker.encode() in path.read_bytes():
                    left.append(int(path.parent.name))
        return left


@contextmanager
def hone_train(
    words: Sequence[str], folder: Path, module: Sequence[str] = ("hone",)
) -> Iterator[Process]:
    """Run `hone train classifier WORDS --events -` while the block runs."""
    marker = f"HONE_TEST={uuid.uuid4().hex}"
    errors = folder / f"stderr-{marker[-8:]}.txt"
    command = [sys.executable, "-m", *module, "train", "classifier", *words, "--events", "-"]
    with errors.open("wb") as file:
        popen = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**ONE_THREAD, "HONE_TEST": marker.partition("=")[2]},
            stdout=subprocess.PIPE,
            stderr=file,
        )
    process = Process(popen, errors, marker)
    assert popen.stdout is not None
    fcntl.fcntl(popen.stdout, fcntl.F_SETPIPE_SZ, _SMALLEST_PIPE)
    try:
        yield process
    finally:
        for number in process.family():
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        popen.stdout.close()
        popen.wait()
