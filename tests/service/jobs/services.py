"""Runners in processes of their own, over one job store, to be killed and started again."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.service.jobs.running_jobs import Yard
from tests.service.running import ROOT

Process = subprocess.Popen[bytes]


class Services:
    """The processes of a test."""

    def __init__(self, yard: Yard, url: str, *, fake: bool, **settings: Any) -> None:
        self.yard = yard
        mode = ["fake"] if fake else []
        self._arguments = [url, str(yard.folder), json.dumps({**yard.settings, **settings}), *mode]
        self.live: list[Process] = []

    def start(self) -> Process:
        program = [sys.executable, "-m", "tests.service.jobs.runner_driver", *self._arguments]
        process = subprocess.Popen(program, stdout=subprocess.PIPE, cwd=ROOT)
        self.live.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"works\n"
        return process

    def end(self, process: Process, number: signal.Signals = signal.SIGKILL) -> int:
        process.send_signal(number)
        status = process.wait(60)
        if process.stdout is not None:
            process.stdout.close()
        self.live.remove(process)
        return status

    def trainers(self) -> list[int]:
        """Return the processes that work in the yard's folders, but for the services."""
        services = {process.pid for process in self.live}
        return [pid for pid in _naming(str(self.yard.state / "work")) if pid not in services]


@contextmanager
def services(yard: Yard, url: str, *, fake: bool, **settings: Any) -> Iterator[Services]:
    """Let a test start services; whatever they leave behind is ended."""
    found = Services(yard, url, fake=fake, **settings)
    try:
        yield found
    finally:
        for process in list(found.live):
            process.send_signal(signal.SIGCONT)
            found.end(process)
        for pid in found.trainers():
            kill(pid)


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _naming(folder: str) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if folder.encode() in path.read_bytes():
                yield int(path.parent.name)
