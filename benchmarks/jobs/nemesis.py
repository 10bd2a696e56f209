"""Jobs under a random killer: workers are killed, or stopped past their lease, until all is done.

    python -m benchmarks.jobs.nemesis --jobs 1000
    python -m benchmarks.jobs.nemesis --jobs 1000 --url postgresql://hone@/hone

No job may be lost, none may be finished twice, and no worker whose lease has ended may write
another word: `Broken` is raised, with what went wrong, where one of these does not hold. Prints
one JSON line. The job store must be empty; without a URL it is a file of SQLite's that goes with
the experiment.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlalchemy import text

from benchmarks.jobs.worker import LAST
from benchmarks.machine import describe_machine, now
from hone.service.jobs.database import Database, open_database
from hone.service.jobs.events import Event, Events
from hone.service.jobs.fine_tuned import FineTunedModels
from hone.service.jobs.pages import Cursor
from hone.service.jobs.records import Job, NewJob, Records

WORKERS = 4
LEASE_S = 1.5
OWNER = "acme"
_KILLED = 0.6
"""The share of attacks that kill a worker; the others stop it past its lease."""

_MOST_S = 3600.0


class Broken(AssertionError):
    """A promise of the job store does not hold."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an experiment was, and how often it hit."""

    database: str
    jobs: int
    kills: int
    stops: int
    claimed_again: int
    leases_lost: int
    seconds: float


class Workers:
    """Processes that work, of which any may be killed (and replaced) or stopped for a while."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.live: list[subprocess.Popen[bytes]] = []
        self.started = self.kills = self.stops = 0

    def start(self) -> None:
        """Start one more."""
        self.started += 1
        name = f"worker-{self.started}"
        with (self.folder / f"{name}.txt").open("wb") as said:
            arguments = [self.url, name, str(LEASE_S)]
            program = [sys.executable, "-m", "benchmarks.jobs.worker", *arguments]
            self.live.append(subprocess.Popen(program, stdout=said))

    def attack(self, chance: random.Random) -> None:
        """Kill one and start another, or stop one until its lease has ended."""
        victim = chance.choice(self.live)
        if chance.random() < _KILLED:
            self.kills += 1
            self.end(victim)
            self.start()
            return
        self.stops += 1
        os.kill(victim.pid, signal.SIGSTOP)
        time.sleep(LEASE_S * 1.5)
        os.kill(victim.pid, signal.SIGCONT)

    def end(self, worker: subprocess.Popen[bytes]) -> None:
        """Kill one."""
        worker.kill()
        worker.wait()
        self.live.remove(worker)

    def said(self) -> Sequence[list[str]]:
        """Return the words of every whole line that any of them ever printed."""
        texts = (path.read_text() for path in self.folder.glob("worker-*.txt"))
        return [line.split() for content in texts for line in content.splitlines()]


@contextmanager
def _working(url: str, folder: Path) -> Iterator[Workers]:
    workers = Workers(url, folder)
    try:
        for _ in range(WORKERS):
            workers.start()
        yield workers
    finally:
        for worker in list(workers.live):
            os.kill(worker.pid, signal.SIGCONT)
            workers.end(worker)


def experiment(
    database: Database,
    url: str,
    folder: Path,
    *,
    jobs: int,
    attacks: int | None = None,
    seed: int = 7,
) -> Outcome:
    """Make jobs, let workers do them under attack, and check what became of them.

    `folder` takes the workers' output. `attacks` is how many there are at most; None means for as
    long as there are jobs. Raises Broken.
    """
    records, chance, started = Records(database), random.Random(seed), time.monotonic()
    made = [records.create(_new_job()).id for _ in range(jobs)]
    with _working(url, folder) as workers:
        while not any(line[0] == "done" for line in workers.said()):
            _go_on(started)  # a slow machine takes seconds to start them
            time.sleep(0.1)
        while _unfinished(records):
            _go_on(started)
            if attacks is None or workers.kills + workers.stops < attacks:
                workers.attack(chance)
            time.sleep(chance.random() * 0.5)
        said = workers.said()
    found = _all(records, jobs)
    _check_jobs(database, made, found)
    _check_acknowledged(said, found)
    for job in found.values():
        check_events(Events(database), job.id)
    return Outcome(
        database="SQLite" if database.is_sqlite else "PostgreSQL",
        jobs=jobs,
        kills=workers.kills,
        stops=workers.stops,
        claimed_again=sum(job.token > 1 for job in found.values()),
        leases_lost=sum(line == ["lost"] for line in said),
        seconds=round(time.monotonic() - started, 1),
    )


def _new_job() -> NewJob:
    return NewJob(owner=OWNER, flavour="modern", model="ada", training_file="file-x", seed=1)


def _go_on(started: float) -> None:
    _insist(time.monotonic() - started < _MOST_S, "the jobs did not come to their end")


def _unfinished(records: Records) -> bool:
    page = records.list_all(statuses=("queued", "running"), cursor=Cursor(limit=1))
    return bool(page.items)


def _all(records: Records, jobs: int) -> dict[str, Job]:
    return {job.id: job for job in records.list_all(cursor=Cursor(limit=jobs + 1)).items}


def _check_jobs(database: Database, made: Sequence[str], found: dict[str, Job]) -> None:
    _insist(set(found) == set(made), "jobs were lost or added")
    statuses = Counter(job.status for job in found.values())
    _insist(statuses == {"succeeded": len(made)}, f"jobs ended as {dict(statuses)}")
    models = sorted(model.job_id for model in FineTunedModels(database).all())
    _insist(models == sorted(made), "not exactly one model for each job")
    if database.is_sqlite:
        with database.reading() as connection:
            whole = connection.execute(text("PRAGMA integrity_check")).scalar()
        _insist(whole == "ok", f"the file is damaged: {whole}")


def _check_acknowledged(said: Sequence[list[str]], found: dict[str, Job]) -> None:
    """Check that a job was acknowledged once at most, and by the claim that stands in the store."""
    done = [line for line in said if line[0] == "done" and len(line) == 3]
    twice = [job for job, times in Counter(line[1] for line in done).items() if times > 1]
    _insist(not twice, f"acknowledged twice: {twice}")
    strangers = [line[1] for line in done if found[line[1]].token != int(line[2])]
    _insist(not strangers, f"acknowledged by a claim that had ended: {strangers}")


def check_events(events: Events, job_id: str) -> None:
    """Check a job's events: each once, none of an older claim after a newer one, success last."""
    found: list[Event] = list(events.after(OWNER, job_id, 0))
    numbers = [event.number for event in found]
    _insist(numbers == list(range(1, len(found) + 1)), f"{job_id}: events {numbers}")
    messages = [event.message for event in found]
    _insist(messages.count(LAST) == 1 and messages[-1] == LAST, f"{job_id}: {messages}")
    tokens = [int(message.split()[0]) for message in messages[:-1]]
    _insist(tokens == sorted(tokens), f"{job_id}: claims wrote in the order {tokens}")


def _insist(holds: bool, message: str) -> None:
    if not holds:
        raise Broken(message)


def main() -> None:
    """Run one experiment and print its outcome."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--url", help="of an empty job store")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = options.url or f"sqlite:///{folder}/hone.db"
        database = open_database(url)
        outcome = experiment(database, url, Path(folder), jobs=options.jobs, seed=options.seed)
        database.close()
    print(json.dumps({"date": now(), "machine": describe_machine(), **asdict(outcome)}))


if __name__ == "__main__":
    main()
