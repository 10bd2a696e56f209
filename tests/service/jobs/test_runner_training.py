"""Real trainings of a tiny base by the runner: killed, out of memory, without room on the disk."""

import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hone.models.names import ModelReference
from hone.models.predictor import load_predictor
from hone.service.jobs import plan
from hone.service.jobs.database import open_database
from hone.service.jobs.records import Job
from hone.service.jobs.trainer import python_module
from tests.service.jobs.running_jobs import OWNER, Yard
from tests.service.jobs.services import kill, services
from tests.service.running import ROOT, wait_until
from tests.training.tiny import LABELS, make_base, make_examples

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

LONG = 900
"""Seconds: a busy machine needs half a minute to import what training needs."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base") / "tiny-bert")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'hone.db'}"


def open_yard(url: str, base: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Yard:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # Grace: a process that imports torch hears SIGTERM, one that exports hears it late.
    settings = {"bases": {"tiny": str(base)}, "stop_grace_s": 60, "threads": 1}
    return Yard(open_database(url), folder, settings)


@pytest.fixture
def yard(url: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Yard]:
    opened = open_yard(url, base, tmp_path, monkeypatch)
    yield opened
    opened.database.close()


def train(yard: Yard, *, epochs: int = 30, rows: int = 160, **values: object) -> Job:
    lines = [
        {"prompt": f"{example.text}\n\n###\n\n", "completion": f" {example.label}"}
        for example in make_examples(rows, seed=3)
    ]
    given = {"n_epochs": epochs, "learning_rate_multiplier": 5}
    file = yard.file(lines)
    return yard.job(model="tiny", training_file=file, given=given, **values)


def evaluations(yard: Yard, job: Job) -> int:
    return len(yard.kept(job))


def test_a_job_is_trained_paused_and_resumed_and_answers(yard: Yard) -> None:
    job = train(yard, epochs=40, status="validating_files")
    with yard.running():
        wait_until(lambda: evaluations(yard, job) >= 2, timeout_s=LONG)
        yard.records.pause(OWNER, job.id)
        asked = time.monotonic()
        yard.wait(job, "paused", "failed", timeout_s=60)
        assert time.monotonic() - asked < 30
        yard.records.resume(OWNER, job.id)
        done = yard.wait(job, "succeeded", "failed", timeout_s=LONG)
    assert done.error is None, yard.said(job)
    assert done.settled is not None
    assert done.settled["n_epochs"] == 40
    bundle = yard.registry.open(ModelReference(job.id))
    assert list(bundle.manifest.labels) == sorted(LABELS)
    assert bundle.manifest.prompt_form is not None
    rows = yard.result(job).splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == [str(n) for n in range(1, len(rows))]
    examples = make_examples(40, seed=9)
    predictor = load_predictor(bundle)
    best = predictor.probabilities(predictor.encode([e.text for e in examples])).argmax(axis=1)
    answers = [predictor.labels[index] for index in best]
    assert sum(a == e.label for a, e in zip(answers, examples, strict=True)) > 32

    continued = yard.job(
        model=done.fine_tuned_model, training_file=job.training_file, given={"n_epochs": 1}
    )
    with yard.running():
        after = yard.wait(continued, "succeeded", "failed", timeout_s=LONG)
    assert after.error is None, yard.said(continued)
    (checkpoint,) = yard.kept(continued)
    assert checkpoint.metrics["valid_mean_token_accuracy"] > 0.8, "it began from what was learned"


def test_killed_at_random_moments_it_resumes_and_publishes_once(yard: Yard, url: str) -> None:
    chance = random.Random(5)
    job = train(yard, epochs=60)
    with services(yard, url, fake=False, most_kills=20) as found:
        service = found.start()
        for victim in ("training", "service", "both", "training"):
            seen = evaluations(yard, job)
            wait_until(
                lambda seen=seen: evaluations(yard, job) > seen or yard.versions(job),
                timeout_s=LONG,
            )
            time.sleep(chance.random())
            if victim != "service":
                for pid in found.trainers():
                    kill(pid)
            if victim != "training":
                found.end(service)
                service = found.start()
        done = yard.wait(job, "succeeded", "failed", timeout_s=LONG)
        assert done.error is None, yard.said(job)
        assert found.end(service, signal.SIGTERM) == 0
        assert found.trainers() == []
    assert yard.versions(job) == [1]
    assert yard.said(job).count("The job has successfully completed") == 1
    assert "Fine-tuning job resumed" in yard.said(job)
    steps = [int(row.split(",")[0]) for row in yard.result(job).splitlines()[1:]]
    assert steps == sorted(set(steps))


SHORT = {
    "out_of_memory": [sys.executable, "-m", "tests.service.jobs.limited_memory"],
    "disk_full": ["/usr/bin/prlimit", "--fsize=100000", *python_module("hone")],
}
"""The command of a training for which memory, or the disk, is too small."""


@pytest.mark.parametrize("code", SHORT)
def test_lack_of_memory_and_of_disk_have_their_own_errors(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    def short(*arguments: str) -> list[str]:
        start = SHORT[code] if arguments[0] == "train" else python_module("hone")
        return [*start, *arguments]

    if not Path("/usr/bin/prlimit").exists():
        pytest.skip("prlimit is not installed")
    large = make_base(tmp_path / "large", positions=500_000)  # 64 MB, as much as there is to spare
    monkeypatch.setattr(plan, "hone_command", short)
    yard = open_yard(url, large, tmp_path, monkeypatch)
    job = train(yard)
    with yard.running():
        done = yard.wait(job, "succeeded", "failed", timeout_s=LONG)
    yard.database.close()
    assert done.error_code == code, (done, yard.said(job))
    assert yard.versions(job) == []
    assert sys.prefix not in str(done.error_message)
