"""A real training of a causal model by the runner: killed, it publishes no checkpoint twice."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hone.models.errors import NotFound
from hone.models.names import ModelReference, checkpoints_of
from hone.service.jobs.database import open_database
from hone.service.jobs.records import Job
from tests.service.jobs.running_jobs import Yard
from tests.service.jobs.services import kill, services
from tests.service.running import ROOT, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

LONG = 900


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'hone.db'}"


@pytest.fixture
def yard(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Yard]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    database = open_database(url)
    yield Yard(database, tmp_path, {"stop_grace_s": 60, "threads": 1, "checkpoints": 2, "nice": 0})
    database.close()


def steps(yard: Yard, job: Job) -> list[int]:
    try:
        return yard.registry.listing(checkpoints_of(job.store_model)).versions
    except NotFound:
        return []


def test_killed_between_and_in_its_checkpoints_it_leaves_only_whole_ones(
    yard: Yard, url: str
) -> None:
    lines = [{"prompt": f"{n} then", "completion": f" {n} {n % 3}"} for n in range(48)]
    job = yard.job(
        model="scratch:llama-1m",
        training_file=yard.file(lines),
        given={"n_epochs": 4, "batch_size": 16, "task": "generation"},
    )
    staging = yard.store / ".staging"
    with services(yard, url, fake=False, most_kills=20) as found:
        found.start()
        wait_until(lambda: len(steps(yard, job)) == 1, timeout_s=LONG)
        for pid in found.trainers():  # it has published, and not yet told so
            kill(pid)
        wait_until(lambda: len(steps(yard, job)) == 2, timeout_s=LONG)
        wait_until(
            lambda: (
                any(path.suffix == ".onnx" for path in staging.glob("*/*")) or yard.versions(job)
            ),
            timeout_s=LONG,
        )
        time.sleep(0.5)
        for pid in found.trainers():  # in the middle of an export
            kill(pid)
        done = yard.wait(job, "succeeded", "failed", timeout_s=LONG)
    assert done.error is None, yard.said(job)
    assert yard.versions(job) == [1]
    kept = steps(yard, job)
    assert len(kept) == 2
    for step in kept:
        yard.registry.open(ModelReference(checkpoints_of(job.store_model), version=step))
    told = [checkpoint.step for checkpoint in yard.kept(job)]
    assert sorted(told) == sorted(set(told))
    assert set(kept) <= set(told)
    assert not [path for path in staging.iterdir() if path.is_dir()]
