"""The runner works on jobs in order, hears wishes, survives its processes' deaths and its own."""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hone.models.errors import Conflict
from hone.models.registry import Registry
from hone.service.jobs.claims import Claims
from hone.service.jobs.database import open_database
from hone.service.jobs.fine_tuned import FineTunedModels
from hone.service.jobs.leftovers import remove_all_versions
from hone.service.jobs.records import Records
from hone.service.jobs.trainer import Command, Trainer, folder_lock
from tests.service.jobs.running_jobs import OWNER, Yard, alive, examples, use_fake
from tests.service.running import wait_until
from tests.tiny_bundle import publish_tiny

Fake = Callable[..., None]


@pytest.fixture
def yard(sqlite_made: Path, tmp_path: Path) -> Iterator[Yard]:
    """Return what a runner needs, on SQLite: the claims themselves are tested on both."""
    path = tmp_path / "hone.db"
    shutil.copyfile(sqlite_made, path)
    database = open_database(f"sqlite:///{path}")
    yield Yard(database, tmp_path)
    database.close()


@pytest.fixture
def fake(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> Fake:
    def choose(**settings: object) -> None:
        use_fake(yard, monkeypatch, **settings)

    choose()
    return choose


def test_a_job_goes_from_its_files_to_its_model(yard: Yard, fake: Fake) -> None:
    job = yard.job(status="validating_files", suffix="My Labels")
    with yard.running():
        done = yard.wait(job, "succeeded", "failed")
    assert done.error is None
    name = f"ft:curie:acme:my-labels:{job.id[6:14]}"
    assert done.fine_tuned_model == name
    assert done.settled == {"n_epochs": 2, "batch_size": 8, "learning_rate_multiplier": 1.0}
    assert done.trained_tokens == 320
    assert yard.versions(job) == [1]
    assert yard.published == [(job.id, 1)]
    (model,) = FineTunedModels(yard.database).all()
    assert (model.id, model.store_model, model.store_version) == (name, job.id, 1)
    assert (model.base, model.owner, model.job_id) == ("curie", OWNER, job.id)
    said_of_the_classifier = (
        "The completions are 2 distinct labels: an encoder classifier is trained, which answers "
        "with one of them"
    )
    assert yard.said(job) == [
        f"Validating training file: {job.training_file}",
        "Files validated, moving job to queued state",
        "Fine-tuning job started",
        said_of_the_classifier,
        "18 of 20 examples are used; left out: 2 duplicate",
        "12 examples are trained on, 3 choose the weights, 3 test them",
        "Training with n_epochs 2, batch_size 8, learning_rate_multiplier 1: 4 steps",
        "Step 1/4: training loss=1.00",
        "Step 2/4: training loss=0.50",
        "Step 2/4: training loss=0.50, validation loss=0.25",
        "Step 3/4: training loss=0.33",
        "Step 4/4: training loss=0.25",
        "Step 4/4: training loss=0.25, validation loss=0.25",
        f"New fine-tuned model created: {name}",
        "The job has successfully completed",
    ]
    assert [c.model for c in yard.kept(job)] == [f"{name}:ckpt-step-4", f"{name}:ckpt-step-2"]
    assert yard.result(job).splitlines()[:3] == [
        "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy",
        "1,1,0.5,,",
        "2,0.5,0.5,0.25,0.75",
    ]
    assert not (yard.state / "work" / job.id).exists()


def test_a_legacy_job_says_what_the_old_client_knows(yard: Yard, fake: Fake) -> None:
    given = {"compute_classification_metrics": True, "classification_positive_class": " yes",
             "classification_betas": [1.5], "prompt_loss_weight": 0.1}  # fmt: skip
    job = yard.job(flavour="legacy", status="validating_files", given=given)
    with yard.running():
        done = yard.wait(job, "succeeded", "failed")
    assert done.error is None
    name = str(done.fine_tuned_model)
    assert name.startswith("curie:ft-acme-20")
    assert done.settled == {"n_epochs": 2, "batch_size": 8, "learning_rate_multiplier": 0.05,
                            "prompt_loss_weight": 0.1}  # fmt: skip
    said = yard.said(job)
    assert said[:3] == [
        "Fine-tune costs $0.00", "Fine-tune enqueued. Queue number: 0", "Fine-tune started",
    ]  # fmt: skip
    assert "Completed epoch 1/2" in said
    assert said[-3:] == [
        f"Uploaded model: {name}",
        f"Uploaded result file: {done.result_files[0]}",
        "Fine-tune succeeded",
    ]
    stored = yard.files.get(OWNER, done.result_files[0])
    assert (stored.filename, stored.purpose) == ("compiled_results.csv", "fine-tune-results")
    head, *rows = yard.result(job).splitlines()
    assert head == (
        "step,elapsed_tokens,elapsed_examples,training_loss,training_sequence_accuracy,"
        "training_token_accuracy,validation_loss,validation_sequence_accuracy,"
        "validation_token_accuracy,classification/accuracy,classification/precision,"
        "classification/recall,classification/auroc,classification/auprc,classification/f1.5"
    )
    assert rows[0] == "1,80,8,1,0.5,0.5,,,,,,,,,"
    assert rows[-1] == "4,320,32,0.25,0.5,0.5,0.25,0.75,0.75,0.9,0.9,0.9,0.9,0.9,0.9"


def test_on_postgresql_too(
    postgres_made: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = open_database(postgres_made)
    yard = Yard(database, tmp_path)
    use_fake(yard, monkeypatch, acts="kill,ok", steps=8)
    owner = "on-postgres"
    file = yard.file(examples(20), owner)
    job = yard.job(status="validating_files", owner=owner, training_file=file)
    with yard.running():
        done = yard.wait(job, "succeeded", "failed")
    database.close()
    assert done.error is None
    assert (done.status, len(done.result_files)) == ("succeeded", 1)


def test_a_new_job_is_heard_of_at_once_however_seldom_the_runner_looks(
    yard: Yard, fake: Fake
) -> None:
    with yard.running(poll_s=20):
        time.sleep(0.5)  # it has looked once, and waits
        job = yard.job(status="validating_files")
        wait_until(lambda: yard.records.find(job.id).status == "running", timeout_s=15)


def test_jobs_run_in_order_and_no_more_at_once_than_allowed(yard: Yard, fake: Fake) -> None:
    fake(step_s=0.1)
    jobs = [yard.job() for _ in range(4)]
    most = 0
    with yard.running(at_once=2) as runner:
        while any(yard.find(job).status != "succeeded" for job in jobs):
            running = yard.records.list_all(statuses=("running",)).items
            most = max(most, len(running), runner.busy)
    assert most == 2
    finished = [yard.find(job) for job in jobs]
    assert all(yard.versions(job) == [1] for job in jobs)
    assert [job.started_at for job in finished] == sorted(job.started_at or 0 for job in finished)
    assert [start[0] for start in yard.starts()[:2]] == [job.id for job in jobs[:2]] or [
        start[0] for start in yard.starts()[1::-1]
    ] == [job.id for job in jobs[:2]]


def test_two_jobs_of_one_second_get_two_names(yard: Yard, fake: Fake) -> None:
    jobs = [yard.job(flavour="legacy", suffix="a") for _ in range(3)]
    with yard.running(at_once=3):
        names = {yard.wait(job, "succeeded").fine_tuned_model for job in jobs}
    assert len(names) == 3


@pytest.mark.parametrize(("wish", "status"), [("cancel", "cancelled"), ("pause", "paused")])
def test_a_wish_reaches_the_training_within_seconds(
    yard: Yard, fake: Fake, wish: str, status: str
) -> None:
    fake(step_s=0.1, steps=600)
    job = yard.job()
    with yard.running():
        yard.wait_for_step(job, 2)
        pid = int(yard.starts()[0][2])
        getattr(yard.records, wish)(OWNER, job.id)
        yard.wait(job, status, timeout_s=5)
        assert not alive(pid)
    words = {"cancelled": "The job has been cancelled", "paused": "The job has been paused"}
    assert yard.said(job)[-1] == words[status]
    assert (yard.state / "work" / job.id).exists() is (status == "paused")
    assert yard.versions(job) == []


def test_a_paused_job_goes_on_where_it_was(yard: Yard, fake: Fake) -> None:
    fake(step_s=0.05, steps=40)
    job = yard.job()
    with yard.running():
        yard.wait_for_step(job, 5)
        yard.records.pause(OWNER, job.id)
        yard.wait(job, "paused")
        yard.records.resume(OWNER, job.id)
        yard.wait(job, "succeeded")
    first, second = yard.starts()
    assert int(first[1]) == 0
    assert int(second[1]) >= 5
    assert "Fine-tuning job resumed" in yard.said(job)
    steps = [e.data["step"] for e in yard.told(job) if e.data and "valid_loss" not in e.data]
    assert steps == list(range(1, 40 + 1)) or set(steps) <= set(range(1, 41))
    assert len(steps) == len(set(steps)), "no step is told of twice"
    assert len(yard.result(job).splitlines()) == 41


def test_a_process_that_ignores_the_end_is_killed(yard: Yard, fake: Fake) -> None:
    fake(acts="hang")
    job = yard.job()
    with yard.running(stop_grace_s=0.3):
        wait_until(lambda: yard.log.exists() and yard.starts())
        pid = int(yard.starts()[0][2])
        yard.records.cancel(OWNER, job.id)
        yard.wait(job, "cancelled", timeout_s=10)
        assert not alive(pid)


def test_a_killed_training_goes_on_from_its_checkpoint(yard: Yard, fake: Fake) -> None:
    fake(acts="kill,kill,ok", steps=8)
    job = yard.job()
    with yard.running():
        done = yard.wait(job, "succeeded", "failed")
    assert done.error is None
    assert [int(start[1]) for start in yard.starts()] == [0, 2, 4]
    assert yard.versions(job) == [1]
    assert len(yard.result(job).splitlines()) == 9


def test_one_that_is_killed_again_and_again_ends_as_lack_of_memory(yard: Yard, fake: Fake) -> None:
    fake(acts="kill", steps=2)
    job = yard.job()
    with yard.running(most_kills=3):
        done = yard.wait(job, "succeeded", "failed")
    assert done.error_code == "out_of_memory"
    assert len(yard.starts()) == 3


@pytest.mark.parametrize(
    ("acts", "code", "param"),
    [
        ("status:71", "out_of_memory", "batch_size"),
        ("status:74", "disk_full", None),
        ("say:MemoryError", "out_of_memory", "batch_size"),
        ("say:OSError [Errno 28] No space left on device", "disk_full", None),
        ("failed:parity_failed", "parity_failed", None),
        ("failed:invalid_recipe", "invalid_hyperparameters", "hyperparameters"),
        ("failed:invalid_input", "training_diverged", "learning_rate_multiplier"),
        ("failed:crashed", "training_crashed", None),
        ("failed:invalid_examples", "invalid_training_file", "training_file"),
        ("abort", "training_crashed", None),
        ("status:0", "training_crashed", None),
    ],
)
def test_each_kind_of_end_has_its_own_code_and_no_foreign_words(
    yard: Yard, fake: Fake, acts: str, code: str, param: str | None
) -> None:
    fake(acts=acts)
    job = yard.job()
    with yard.running():
        done = yard.wait(job, "succeeded", "failed")
    assert (done.error_code, done.error_param) == (code, param)
    last = yard.told(job)[-1]
    assert (last.level, last.message) == ("error", done.error_message)
    assert not any("/" in message for message in yard.said(job) if "Step" not in message)
    assert yard.versions(job) == []
    assert not (yard.state / "work" / job.id).exists()


def test_data_that_cannot_be_prepared_is_a_bad_file(yard: Yard, fake: Fake) -> None:
    fake(prepare="refuse")
    job = yard.job(flavour="legacy")
    with yard.running():
        done = yard.wait(job, "failed")
    assert done.error_code == "invalid_training_file"
    assert yard.said(job)[-1].endswith(f"needs the fine-tune ID: {job.id}")


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"training_file": 3}, "invalid_n_examples", "training_file"),
    ({"training_file": ["x"] * 12}, "invalid_training_file", "training_file"),
    ({"training_file": "gone"}, "file_not_found", "training_file"),
    ({"validation_file": "gone"}, "file_not_found", "validation_file"),
    ({"training_file": examples(20, ["yes"])}, "invalid_training_file", "training_file"),
    ({"training_file": examples(20, [str(n) for n in range(20)])}, "generation_not_supported",
     "training_file"),
    ({"validation_file": ["x"]}, "invalid_validation_file", "validation_file"),
    ({"validation_file": [{"messages": [{"role": "user", "content": "a"},
                                        {"role": "assistant", "content": "yes"}]}]},
     "invalid_validation_file", "validation_file"),
    ({"method": "dpo"}, "method_not_supported", "method"),
    ({"given": {"task": "generation"}}, "generation_not_supported", "task"),
    ({"given": {"task": "classification"},
      "training_file": examples(20, [str(n) for n in range(20)])}, "invalid_training_file",
     "training_file"),
    ({"model": "/etc"}, "model_not_found", "model"),
    ({"given": {"classification_n_classes": 3}}, "invalid_n_classes",
     "classification_n_classes"),
    ({"given": {"classification_positive_class": "Sarcastic"}}, "invalid_positive_class",
     "classification_positive_class"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "code", "param"), REFUSED)
def test_a_job_that_cannot_be_done_is_told_why(
    yard: Yard, fake: Fake, values: dict[str, Any], code: str, param: str
) -> None:
    given = dict(values)
    for name in ("training_file", "validation_file"):
        if isinstance(given.get(name), int):
            given[name] = yard.file(examples(given[name]))
        elif isinstance(given.get(name), list):
            given[name] = yard.file(given[name])
        elif given.get(name) == "gone":
            given[name] = "file-gone"
    job = yard.job(status="validating_files", **given)
    with yard.running():
        done = yard.wait(job, "failed")
    assert (done.error_code, done.error_param) == (code, param)
    assert yard.told(job)[-1].level == "error"
    assert not yard.log.exists(), "no training was started"


def test_a_file_that_is_gone_before_a_worker_begins_is_told_too(yard: Yard, fake: Fake) -> None:
    job = yard.job(validation_file="file-gone")
    with yard.running():
        done = yard.wait(job, "failed")
    assert (done.error_code, done.error_param) == ("file_not_found", "validation_file")


def test_validation_labels_that_training_lacks_are_named(yard: Yard, fake: Fake) -> None:
    fake(problems='[{"code": "unknown_labels", "examples": [{"label": "maybe", "rows": 3}]}]')
    job = yard.job(validation_file=yard.file(examples(5, ["maybe"])))
    with yard.running():
        done = yard.wait(job, "failed")
    assert done.error_code == "invalid_validation_file"
    assert "`maybe`" in str(done.error_message)


def test_a_file_that_was_deleted_after_the_start_is_still_trained_on(
    yard: Yard, fake: Fake
) -> None:
    fake(step_s=0.05, steps=20)
    job = yard.job()
    with yard.running():
        yard.wait_for_step(job, 2)
        yard.files.delete(OWNER, job.training_file)
        yard.records.pause(OWNER, job.id)
        yard.wait(job, "paused")
        yard.records.resume(OWNER, job.id)
        yard.wait(job, "succeeded")


def test_a_job_continues_from_a_model_of_its_owner_only(yard: Yard, fake: Fake) -> None:
    first = yard.job()
    with yard.running():
        model = yard.wait(first, "succeeded").fine_tuned_model
        (yard.store / first.id / "1").rmdir()
        recipe = {"sha256": "1" * 64, "content": {"model": {"base": "minilm"}}}
        publish_tiny(yard.registry, first.id, recipe=recipe)
        second = yard.job(model=model)
        assert str(yard.wait(second, "succeeded").fine_tuned_model).startswith("ft:curie:acme:")
        stranger = "stranger"
        third = yard.job(
            owner=stranger, model=model, training_file=yard.file(examples(20), stranger)
        )
        assert yard.wait(third, "failed").error_code == "model_not_found"


def test_a_service_that_stops_lets_its_jobs_go_back_to_the_queue(yard: Yard, fake: Fake) -> None:
    fake(step_s=0.05, steps=40)
    job = yard.job()
    with yard.running():
        yard.wait_for_step(job, 4)
    stopped = yard.find(job)
    assert (stopped.status, stopped.attempts) == ("queued", 0)
    assert not alive(int(yard.starts()[0][2]))
    assert "is queued again" in yard.said(job)[-1]
    with yard.running():
        yard.wait(job, "succeeded")
    assert int(yard.starts()[1][1]) >= 4
    assert yard.versions(job) == [1]


def test_a_published_name_is_not_trained_again(yard: Yard, fake: Fake) -> None:
    job = yard.job()
    with yard.running():
        yard.wait(job, "succeeded")
    other = yard.job()
    (yard.store / job.id).rename(yard.store / other.id)
    with yard.running():
        assert yard.wait(other, "succeeded").fine_tuned_model
    assert yard.versions(other) == [1]
    assert yard.starts(other) == []


def test_a_cancel_that_was_accepted_ends_the_job_without_a_model(yard: Yard, fake: Fake) -> None:
    fake(step_s=0.05, steps=10)
    job, accepted = yard.job(), True
    step = yard.state / "work" / job.id / "runs" / "step"

    def is_late() -> bool:
        if yard.find(job).status == "succeeded":
            return True
        with contextlib.suppress(OSError, ValueError):
            return int(step.read_text()) >= 10
        return False

    with yard.running():
        wait_until(is_late, every_s=0.005)
        try:
            yard.records.cancel(OWNER, job.id)
        except Conflict:  # it is over by now
            accepted = False
        done = yard.wait(job, "succeeded", "cancelled")
    assert done.status == ("cancelled" if accepted else "succeeded")
    assert yard.versions(job) == ([] if accepted else [1])


def test_what_was_published_before_the_cancel_was_heard_is_taken_back(
    yard: Yard, fake: Fake
) -> None:
    fake(step_s=0.01, steps=2)
    job = yard.job()
    publish_tiny(yard.registry, job.store_model)
    claim = Claims(yard.database, "gone").claim()
    assert claim is not None
    yard.records.cancel(OWNER, job.id)
    Claims(yard.database, "gone").requeue_all_of("gone")
    assert yard.find(job).status == "cancelled"
    publish_tiny(yard.registry, "somebody-elses")
    with yard.running(sweep_s=0.1):
        wait_until(lambda: yard.versions(job) == [])
    assert yard.registry.listing("somebody-elses").versions


def test_one_bundle_that_cannot_be_removed_keeps_no_other(
    yard: Yard, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(step_s=0.01, steps=2)
    jobs = [yard.job(), yard.job()]
    for job in jobs:
        yard.records.cancel(OWNER, job.id)
        publish_tiny(yard.registry, job.store_model)
    stuck, other = sorted(jobs, key=lambda job: job.store_model)

    def remove(registry: Registry, name: str) -> bool:
        if name == stuck.store_model:
            raise OSError("the disk refuses")
        return remove_all_versions(registry, name)

    monkeypatch.setattr("hone.service.jobs.runner.remove_all_versions", remove)
    with yard.running(sweep_s=0.1):
        wait_until(lambda: yard.versions(other) == [])
    assert yard.versions(stuck)


def test_a_validation_file_like_the_training_file_is_said_to_be_unused(
    yard: Yard, fake: Fake
) -> None:
    file = yard.file(examples(20))
    job = yard.job(training_file=file, validation_file=file)
    with yard.running():
        yard.wait(job, "succeeded")
    assert sum("is not used" in said for said in yard.said(job)) == 1


def test_a_worker_that_lost_its_job_stops_and_changes_nothing(yard: Yard, fake: Fake) -> None:
    fake(step_s=0.05, steps=400)
    job = yard.job()
    with yard.running():
        yard.wait_for_step(job, 2)
        pid = int(yard.starts()[0][2])
        (worker,) = {j.worker for j in yard.records.list_all(statuses=("running",)).items}
        other = Claims(yard.database, "other")
        assert other.requeue_all_of(str(worker)) == [job.id]
        yard.records.pause(OWNER, job.id)
        wait_until(lambda: not alive(pid))
    found = yard.find(job)
    assert found.status == "paused"
    assert "queued again" not in yard.said(job)[-1]


def test_a_job_whose_services_keep_dying_is_failed(yard: Yard, fake: Fake) -> None:
    job = yard.job()
    for number in range(3):
        claims = Claims(yard.database, f"dying-{number}")
        assert claims.claim() is not None
        claims.requeue_all_of(claims.worker)
    with yard.running(most_attempts=3):
        done = yard.wait(job, "succeeded", "failed")
    assert done.error_code == "server_error"


def test_a_bug_of_the_service_fails_its_job_and_no_other(
    yard: Yard, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = yard.job(suffix="bad"), yard.job()

    def broken(job: Any, *_: object, **__: object) -> str:
        if job.id == bad.id:
            raise RuntimeError("a bug")
        return f"ft:x:{job.id}"

    monkeypatch.setattr("hone.service.jobs.work.model_name", broken)
    with yard.running():
        assert yard.wait(bad, "failed").error_code == "server_error"
        yard.wait(good, "succeeded")


def test_a_broken_folder_under_the_jobs_own_name_fails_the_job(yard: Yard, fake: Fake) -> None:
    broken, sound = yard.job(), yard.job()
    folder = yard.store / broken.store_model
    folder.mkdir(parents=True)
    (folder / "state.json").write_text("{")
    with yard.running():
        assert yard.wait(broken, "succeeded", "failed").error_code == "server_error"
        yard.wait(sound, "succeeded")


def test_the_bundle_stays_when_nobody_takes_the_news(yard: Yard, fake: Fake) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("not now")

    runner = yard.runner()
    object.__setattr__(runner._desk, "on_published", refuse)
    job = yard.job()
    runner.start()
    try:
        yard.wait(job, "succeeded", "failed")
    finally:
        runner.stop()
    assert yard.find(job).status == "succeeded"


def test_folders_of_jobs_that_are_over_are_swept(yard: Yard, fake: Fake) -> None:
    job = yard.job()
    Records(yard.database).pause(OWNER, job.id)
    for name in (job.id, "ftjob-gone"):
        (yard.state / "work" / name).mkdir(parents=True)
    with yard.running(sweep_s=0.1):
        wait_until(lambda: not (yard.state / "work" / "ftjob-gone").exists())
    assert (yard.state / "work" / job.id).exists()


def test_training_steps_aside_and_sees_no_secrets(
    yard: Yard, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HONE_DATABASE", "postgresql://hone:pa55@host/hone")
    fake(step_s=0.1, steps=50)
    job = yard.job()
    with yard.running(threads=3, nice=7):
        yard.wait_for_step(job, 1)
        pid = int(yard.starts()[0][2])
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        niceness = os.getpriority(os.PRIO_PROCESS, pid)
        assert os.getsid(pid) == pid
    assert b"pa55" not in environment
    assert b"OMP_NUM_THREADS=3" in environment
    assert f"TMPDIR={yard.state}/work/{job.id}/tmp".encode() in environment
    assert niceness == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 7)


def test_what_is_left_of_a_killed_service_ends_before_the_job_goes_on(
    yard: Yard, fake: Fake
) -> None:
    """A process that outlives its service keeps the job's lock; nobody else trains meanwhile."""
    job = yard.job()
    folder = yard.state / "work" / job.id
    folder.mkdir(parents=True)
    with folder_lock(folder) as lock:
        assert lock is not None
        left = Trainer.start(Command(["/bin/sleep", "60"], folder, 1, 0), lock)
    with yard.running():
        yard.wait(job, "running")
        wait_until(lambda: "Fine-tuning job started" in yard.said(job))
        time.sleep(0.3)
        assert not (folder / "data").exists()
        left.kill()
        yard.wait(job, "succeeded")
    assert len(yard.starts()) == 1
