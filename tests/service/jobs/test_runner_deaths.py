"""Services and trainings that are killed or stopped: no job is lost, none is published twice."""

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hone.service.jobs.database import open_database
from hone.service.jobs.fine_tuned import FineTunedModels
from hone.service.jobs.records import Job
from tests.service.jobs.running_jobs import Yard, use_fake
from tests.service.jobs.services import Services, kill, services
from tests.service.running import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

JOBS, ATTACKS = 20, 16


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'hone.db'}"


@pytest.fixture
def yard(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Yard]:
    database = open_database(url)
    yard = Yard(database, tmp_path)
    use_fake(yard, monkeypatch, steps=12, step_s=0.05)
    yield yard
    database.close()


def check_whole(yard: Yard, jobs: list[Job]) -> None:
    """Every job has its one model, one end and one result, and nothing is left behind."""
    models = FineTunedModels(yard.database).all()
    assert sorted(model.job_id for model in models) == sorted(job.id for job in jobs)
    for job in jobs:
        assert yard.versions(job) == [1]
        assert yard.said(job).count("The job has successfully completed") == 1
        assert yard.said(job)[-1] == "The job has successfully completed"
        steps = [line.split(",")[0] for line in yard.result(job).splitlines()[1:]]
        assert steps == [str(n) for n in range(1, 13)]


def attack(found: Services, chance: random.Random) -> None:
    victim = chance.choice(["service", "training", "both"])
    trainers = found.trainers()
    if victim != "service" and trainers:
        kill(chance.choice(trainers))
    if victim != "training":
        found.end(chance.choice(found.live))
        found.start()


def test_killed_at_random_moments_all_jobs_come_to_their_one_end(yard: Yard, url: str) -> None:
    chance = random.Random(11)
    jobs = [yard.job() for _ in range(JOBS)]
    with services(yard, url, fake=True, at_once=3, most_attempts=50, most_kills=50) as found:
        for _ in range(2):
            found.start()
        for _ in range(ATTACKS):
            time.sleep(chance.random())
            attack(found, chance)
        for job in jobs:
            yard.wait(job, "succeeded", "failed", timeout_s=300)
        assert {yard.find(job).error for job in jobs} == {None}
        wait_until(lambda: not found.trainers())
    check_whole(yard, jobs)
    assert any(yard.find(job).token > 1 for job in jobs)


def test_a_service_that_was_stopped_past_its_lease_changes_nothing(yard: Yard, url: str) -> None:
    job = yard.job()
    with services(yard, url, fake=True, lease_s=1.0) as found:
        stale = found.start()
        yard.wait_for_step(job, 1)
        with yard.database.writing():  # it must not take the store's lock with it
            stale.send_signal(signal.SIGSTOP)
            os.waitpid(stale.pid, os.WUNTRACED)
        found.start()
        done = yard.wait(job, "succeeded", "failed")
        told = yard.said(job)
        stale.send_signal(signal.SIGCONT)
        time.sleep(2)
        assert yard.find(job) == done
        assert yard.said(job) == told
        assert len(yard.starts(job)) == 1, "the training of the stale service went on to its end"
    check_whole(yard, [job])


def test_a_service_that_is_killed_goes_on_at_once_when_it_is_back(yard: Yard, url: str) -> None:
    """Its lock in the state folder is free: nobody waits for its lease to end."""
    job = yard.job()
    with services(yard, url, fake=True, lease_s=600.0) as found:
        first = found.start()
        yard.wait_for_step(job, 3)
        found.end(first)
        found.start()
        yard.wait(job, "succeeded", timeout_s=60)
    first_step, second_step = (int(start[1]) for start in yard.starts(job))
    assert (first_step, second_step >= 3) == (0, True)
    check_whole(yard, [job])


def test_a_service_that_is_told_to_end_leaves_no_process(yard: Yard, url: str) -> None:
    job = yard.job()
    with services(yard, url, fake=True) as found:
        service = found.start()
        yard.wait_for_step(job, 2)
        assert found.trainers()
        assert found.end(service, signal.SIGTERM) == 0
        assert found.trainers() == []
    assert yard.find(job).status == "queued"
