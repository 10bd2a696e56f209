"""Workers that are killed or stopped past their lease lose no job and finish none twice."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from hone.service.jobs.database import Database
from hone.service.jobs.events import Events
from hone.service.jobs.fine_tuned import FineTunedModels
from hone.service.jobs.pages import Cursor
from hone.service.jobs.records import Records
from tests.service.jobs.jobs import new_job

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

JOBS, WORKERS = 120, 4
LEASE_S = 1.5
ATTACKS = 12


class Workers:
    """Processes that work, of which any may be killed (and replaced) or stopped for a while."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.live: list[subprocess.Popen[bytes]] = []
        self.started = 0

    def start(self) -> None:
        self.started += 1
        name = f"worker-{self.started}"
        with (self.folder / f"{name}.txt").open("wb") as said:
            arguments = [self.url, name, str(LEASE_S)]
            program = [sys.executable, "-m", "tests.service.jobs.nemesis_driver", *arguments]
            self.live.append(subprocess.Popen(program, stdout=said))

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        worker.kill()
        worker.wait()
        self.live.remove(worker)

    def said(self) -> Sequence[list[str]]:
        texts = (path.read_text() for path in self.folder.glob("worker-*.txt"))
        return [line.split() for content in texts for line in content.splitlines()]


@contextmanager
def working(url: str, folder: Path) -> Iterator[Workers]:
    workers = Workers(url, folder)
    try:
        for _ in range(WORKERS):
            workers.start()
        yield workers
    finally:
        for worker in list(workers.live):
            os.kill(worker.pid, signal.SIGCONT)
            workers.kill(worker)


def attack(workers: Workers, chance: random.Random) -> None:
    victim = chance.choice(workers.live)
    if chance.random() < 0.6:
        workers.kill(victim)
        workers.start()
    else:
        os.kill(victim.pid, signal.SIGSTOP)
        time.sleep(LEASE_S * 1.5)
        os.kill(victim.pid, signal.SIGCONT)


def unfinished(records: Records) -> int:
    page = records.list_all(statuses=("queued", "running"), cursor=Cursor(limit=JOBS))
    return len(page.items)


def test_no_job_is_lost_and_none_is_done_twice(
    database: Database, url: str, tmp_path: Path
) -> None:
    records, chance = Records(database), random.Random(7)
    made = [records.create(new_job()).id for _ in range(JOBS)]
    with working(url, tmp_path) as workers:
        while not any(line[0] == "done" for line in workers.said()):
            time.sleep(0.1)  # a slow machine takes seconds to start them
        for _ in range(ATTACKS):
            attack(workers, chance)
            time.sleep(chance.random() * 0.5)
        deadline = time.monotonic() + 600
        while unfinished(records):
            assert time.monotonic() < deadline, "the jobs did not come to their end"
            time.sleep(0.2)
        said = workers.said()
    jobs = {job.id: job for job in records.list_all(cursor=Cursor(limit=1000)).items}
    assert set(jobs) == set(made)
    assert Counter(job.status for job in jobs.values()) == {"succeeded": JOBS}
    models = FineTunedModels(database).all()
    assert sorted(model.job_id for model in models) == sorted(made)
    acknowledged = Counter(line[1] for line in said if line[0] == "done")
    assert max(acknowledged.values()) == 1
    assert all(jobs[line[1]].token == int(line[2]) for line in said if line[0] == "done")
    for job in jobs.values():
        check_events(Events(database), job.id)
    assert any(job.token > 1 for job in jobs.values())
    if database.is_sqlite:
        with database.reading() as connection:
            assert connection.execute(text("PRAGMA integrity_check")).scalar() == "ok"


def check_events(events: Events, job_id: str) -> None:
    """Each event once, none of an older claim after one of a newer, and success at the end."""
    found = events.after("acme", job_id, 0)
    assert [event.number for event in found] == list(range(1, len(found) + 1))
    assert [event.message for event in found].count("succeeded") == 1
    assert found[-1].message == "succeeded"
    tokens = [int(event.message.split()[0]) for event in found[:-1]]
    assert tokens == sorted(tokens)
