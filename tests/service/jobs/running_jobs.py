"""A runner with a job store, a state folder and a store of bundles; jobs and files for it."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hone.models.registry import Registry
from hone.service.jobs import plan
from hone.service.jobs.checkpoints import Checkpoint, Checkpoints
from hone.service.jobs.database import Database
from hone.service.jobs.events import Event, Events
from hone.service.jobs.files import Files, NewFile
from hone.service.jobs.pages import Cursor
from hone.service.jobs.records import Job, NewJob, Records
from hone.service.jobs.runner import Runner, Surroundings
from hone.service.jobs.settings import RunnerSettings
from tests.service.running import wait_until

OWNER = "acme"
QUICK = {"heartbeat_s": 0.05, "poll_s": 0.02, "lease_s": 5.0, "stop_grace_s": 1.0, "nice": 5}
FAKE = Path(__file__).with_name("fake_hone.py")


@dataclass
class Yard:
    """All that a runner works with."""

    database: Database
    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.records, self.events = Records(self.database), Events(self.database)
        self.checkpoints = Checkpoints(self.database)
        self.state, self.store = self.folder / "state", self.folder / "store"
        self.files = Files(self.database, self.state / "files")
        self.registry = Registry(self.store)
        self.log = self.folder / "starts.txt"
        self.published: list[tuple[str, int]] = []

    def around(self, **settings: Any) -> Surroundings:
        chosen = RunnerSettings(**{**QUICK, **self.settings, **settings})
        return Surroundings(self.database, self.files, self.state, self.store, chosen)

    def runner(self, **settings: Any) -> Runner:
        return Runner(
            self.around(**settings), on_published=lambda *what: self.published.append(what)
        )

    @contextmanager
    def running(self, **settings: Any) -> Iterator[Runner]:
        runner = self.runner(**settings)
        runner.start()
        try:
            yield runner
        finally:
            runner.stop()

    def file(self, lines: Sequence[Any], owner: str = OWNER) -> str:
        content = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
        return self.files.create([content], NewFile(owner, "fine-tune", "train.jsonl")).id

    def job(self, **values: Any) -> Job:
        """Create a job; by default modern and queued, on twenty examples of two labels."""
        given = {"owner": OWNER, "flavour": "modern", "model": "curie", "seed": 7, **values}
        if "training_file" not in given:
            given["training_file"] = self.file(examples(20))
        return self.records.create(NewJob(**given))

    def find(self, job: Job) -> Job:
        return self.records.find(job.id)

    def wait(self, job: Job, *statuses: str, timeout_s: float = 60) -> Job:
        try:
            wait_until(lambda: self.find(job).status in statuses, timeout_s=timeout_s)
        except AssertionError:
            raise AssertionError(f"{self.find(job)} {self.said(job)}") from None
        return self.find(job)

    def wait_for_step(self, job: Job, step: int) -> None:
        path = self.state / "work" / job.id / "runs" / "step"
        wait_until(lambda: path.exists() and int(path.read_text()) >= step)

    def told(self, job: Job) -> Sequence[Event]:
        return self.events.after(job.owner, job.id, 0)

    def said(self, job: Job) -> list[str]:
        return [event.message for event in self.told(job)]

    def kept(self, job: Job) -> Sequence[Checkpoint]:
        return self.checkpoints.list(job.owner, job.id, Cursor(limit=100)).items

    def starts(self, job: Job | None = None) -> list[list[str]]:
        """Return model, first step, process, parent and act of each start of a training."""
        lines = [line.split() for line in self.log.read_text().splitlines()]
        return [line for line in lines if job is None or line[0] == job.id]

    def versions(self, job: Job) -> list[int]:
        return self.registry.listing(job.id).versions if job.id in self.registry.models() else []

    def result(self, job: Job) -> str:
        (id_,) = self.find(job).result_files
        return self.files.path(job.owner, id_).read_text()


def examples(count: int, labels: Sequence[str] = ("yes", "no")) -> list[dict[str, str]]:
    return [
        {"prompt": f"text {number} ->", "completion": f" {labels[number % len(labels)]}"}
        for number in range(count)
    ]


def use_fake(yard: Yard, monkeypatch: pytest.MonkeyPatch, **settings: object) -> None:
    """Let the stand-in be run instead of `hone`; settings become FAKE_<NAME>."""
    for name, value in {"log": yard.log, **settings}.items():
        monkeypatch.setenv(f"FAKE_{name.upper()}", str(value))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[3]))
    monkeypatch.setattr(plan, "hone_command", fake_command)


def fake_command(*arguments: str) -> list[str]:
    return [sys.executable, str(FAKE), *arguments]


def sleep_until_ended(pid: int, *, timeout_s: float = 20) -> None:
    """Wait until a process that is not our child is gone."""
    deadline = time.monotonic() + timeout_s
    while alive(pid):
        assert time.monotonic() < deadline, f"process {pid} goes on"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except FileNotFoundError:
        return False
    return fields[0] != "Z"
