"""Modern jobs, as the newest client makes and watches them."""

from typing import Any

import openai
import pytest
from openai import OpenAI

from hone.service.jobs.checkpoints import NewCheckpoint
from hone.service.jobs.claims import Claims, Progress
from hone.service.jobs.events import NewEvent
from tests.service.openai_jobs.conftest import OWNER, Workbench

JOBS = "/v1/fine_tuning/jobs"


@pytest.fixture(scope="module")
def training_file(workbench: Workbench) -> str:
    return workbench.upload()


def test_a_job_is_what_was_asked_for(client: OpenAI, training_file: str) -> None:
    job = client.fine_tuning.jobs.create(
        model="ada",
        training_file=training_file,
        validation_file=training_file,
        suffix="mine",
        seed=7,
        metadata={"team": "cards"},
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 3, "batch_size": "auto"}},
        },
    )
    assert (job.object, job.status, job.seed) == ("fine_tuning.job", "validating_files", 7)
    assert job.metadata == {"team": "cards"}
    assert job.hyperparameters.n_epochs == 3
    assert job.hyperparameters.batch_size == "auto"
    assert job.error is None
    assert client.fine_tuning.jobs.retrieve(job.id) == job
    events = client.fine_tuning.jobs.list_events(job.id).data
    assert [event.message for event in events] == [f"Created fine-tuning job: {job.id}"]
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError) as refused:
        client.fine_tuning.jobs.cancel(job.id)
    assert refused.value.code == "invalid_state"


def test_the_deprecated_hyperparameters_are_still_taken(
    workbench: Workbench, training_file: str
) -> None:
    job = workbench.made(
        JOBS,
        model="curie",
        training_file=training_file,
        hyperparameters={"n_epochs": 2, "learning_rate_multiplier": 0.5},
    )
    chosen = {"n_epochs": 2, "batch_size": "auto", "learning_rate_multiplier": 0.5}
    assert job["hyperparameters"] == chosen
    assert job["method"] == {"type": "supervised", "supervised": {"hyperparameters": chosen}}


def test_jobs_are_paged_and_chosen_by_metadata(client: OpenAI, training_file: str) -> None:
    made = [
        client.fine_tuning.jobs.create(
            model="ada", training_file=training_file, metadata={"round": "7", "n": str(n)}
        ).id
        for n in range(5)
    ]
    listed = client.fine_tuning.jobs.list(limit=2, metadata={"round": "7"})
    assert [job.id for job in listed] == made[::-1]
    one = client.fine_tuning.jobs.list(metadata={"round": "7", "n": "3"})
    assert [job.id for job in one] == [made[3]]


def test_a_waiting_job_is_held_and_goes_on(
    client: OpenAI, workbench: Workbench, training_file: str
) -> None:
    job = client.fine_tuning.jobs.create(model="ada", training_file=training_file)
    workbench.state.records.admit(job.id)
    assert str(client.fine_tuning.jobs.pause(job.id).status) == "paused"
    assert client.fine_tuning.jobs.resume(job.id).status == "queued"
    with pytest.raises(openai.BadRequestError):
        client.fine_tuning.jobs.resume(job.id)


def test_a_running_job_tells_its_events_and_checkpoints(
    client: OpenAI, workbench: Workbench, training_file: str
) -> None:
    job = client.fine_tuning.jobs.create(model="ada", training_file=training_file)
    claim = workbench.claim(job.id)
    steps = [
        NewEvent(f"Step {n}/30", type="metrics", data={"step": n, "train_loss": 0.5})
        for n in range(30)
    ]
    points = [NewCheckpoint(n, f"ft:ada:x::{n}", {"step": n}) for n in range(12)]
    Claims(workbench.state.database, "a test").heartbeat(
        claim, Progress(steps, points, settled={"n_epochs": 4, "batch_size": 8})
    )
    events = list(client.fine_tuning.jobs.list_events(job.id))
    assert [event.message for event in events[:30]] == [f"Step {n}/30" for n in range(30)][::-1]
    assert events[0].type == "metrics"
    found = list(client.fine_tuning.jobs.checkpoints.list(job.id))
    assert [one.step_number for one in found] == list(range(12))[::-1]
    now = client.fine_tuning.jobs.retrieve(job.id)
    assert (now.status, now.hyperparameters.batch_size) == ("running", 8)
    cancelled = client.fine_tuning.jobs.cancel(job.id)
    assert (cancelled.status, cancelled.finished_at) == ("cancelled", None), "it is being stopped"
    assert workbench.state.records.find(job.id).wish == "cancel"
    assert client.fine_tuning.jobs.retrieve(job.id).status == "cancelled"
    assert client.fine_tuning.jobs.list().data[0].status == "cancelled"
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="being cancelled; only a paused one"):
        client.fine_tuning.jobs.resume(job.id)
    Claims(workbench.state.database, "a test").put_back(claim)
    assert client.fine_tuning.jobs.retrieve(job.id).status == "cancelled"


HYPER = "method.supervised.hyperparameters."
WRONG: list[tuple[dict[str, Any], str, str | None]] = [
    ({"model": None}, "model", "missing_required_parameter"),
    ({"training_file": None}, "training_file", "missing_required_parameter"),
    ({"training_file": "file-none"}, "training_file", "file_not_found"),
    ({"validation_file": "file-none"}, "validation_file", "file_not_found"),
    ({"model": 3}, "model", "invalid_request"),
    ({"suffix": "x" * 65}, "suffix", "invalid_request"),
    ({"suffix": ""}, "suffix", "invalid_request"),
    ({"seed": -1}, "seed", "invalid_request"),
    ({"seed": 2**31}, "seed", "invalid_request"),
    ({"seed": True}, "seed", "invalid_request"),
    ({"task": "dancing"}, "task", "invalid_request"),
    ({"metadata": []}, "metadata", "invalid_request"),
    ({"metadata": {"a": 1}}, "metadata", "invalid_request"),
    ({"metadata": {"a" * 65: "b"}}, "metadata", "invalid_request"),
    ({"metadata": {str(n): "b" for n in range(17)}}, "metadata", "invalid_request"),
    ({"integrations": [{"type": "wandb"}]}, "integrations", "unsupported_parameter"),
    ({"method": "supervised"}, "method", "invalid_request"),
    ({"method": {"type": "guess"}}, "method.type", "invalid_request"),
    ({"method": {"type": "dpo", "supervised": {}}}, "method.supervised", "unknown_field"),
    ({"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 3}}}},
     "method.dpo.hyperparameters.beta", "invalid_request"),
    ({"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": True}}}},
     "method.dpo.hyperparameters.beta", "invalid_request"),
    ({"method": {"type": "supervised", "supervised": {"hyperparameters": {"beta": 1}}}},
     "method.supervised.hyperparameters.beta", "unknown_field"),
    ({"method": {"type": "reinforcement"}}, "method", "unsupported_method"),
    ({"method": {"type": "dpo"}}, "method", "method_not_supported"),
    ({"method": {"type": "dpo"}, "model": "scratch:llama-1m"}, "model", "method_not_supported"),
    ({"method": {"type": "supervised", "dpo": {}}}, "method.dpo", "unknown_field"),
    ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs", "invalid_request"),
    ({"hyperparameters": {"beta": 1}}, "hyperparameters.beta", "unknown_field"),
    ({"colour": "red"}, "colour", "unknown_field"),
]  # fmt: skip
for name, value in (
    ("n_epochs", 51),
    ("n_epochs", 1.5),
    ("batch_size", 257),
    ("batch_size", "big"),
    ("learning_rate_multiplier", 0),
    ("learning_rate_multiplier", True),
):
    body = {"type": "supervised", "supervised": {"hyperparameters": {name: value}}}
    WRONG.append(({"method": body}, HYPER + name, "invalid_request"))


@pytest.mark.parametrize(("changes", "param", "code"), WRONG)
def test_a_wrong_field_is_named(
    workbench: Workbench, training_file: str, changes: dict[str, Any], param: str, code: str | None
) -> None:
    answer = workbench.ask("POST", JOBS, {"model": "ada", "training_file": training_file} | changes)
    error = answer.error()
    assert (answer.status, error["param"], error["code"]) == (400, param, code)


def test_a_choice_of_the_task_is_kept_and_is_no_hyperparameter(
    workbench: Workbench, training_file: str
) -> None:
    for path in (JOBS, "/v1/fine-tunes"):
        made = workbench.made(path, model="ada", training_file=training_file, task="generation")
        job = workbench.state.records.get(OWNER, made["id"])
        assert job.given == {"task": "generation"}
        assert "task" not in str(made.get("hyperparams") or made["hyperparameters"])
        plain = workbench.made(path, model="ada", training_file=training_file, task="auto")
        assert workbench.state.records.get(OWNER, plain["id"]).given == {}
        for job in (made, plain):
            assert workbench.ask("POST", f"{path}/{job['id']}/cancel").status == 200


def test_an_unknown_base_is_a_404_that_lists_the_known_ones(
    client: OpenAI, training_file: str
) -> None:
    with pytest.raises(openai.NotFoundError, match="minilm") as refused:
        client.fine_tuning.jobs.create(model="gpt-9", training_file=training_file)
    assert (refused.value.param, refused.value.code) == ("model", "model_not_found")


def test_a_file_for_something_else_trains_nothing(client: OpenAI) -> None:
    file = client.files.create(file=b"{}", purpose="batch")
    with pytest.raises(openai.BadRequestError) as refused:
        client.fine_tuning.jobs.create(model="ada", training_file=file.id)
    assert refused.value.code == "invalid_file_purpose"


@pytest.mark.parametrize("path", ["", "/events", "/checkpoints"])
def test_an_unknown_job_is_a_404(workbench: Workbench, path: str) -> None:
    for id_ in ("ftjob-none", "ft-none", "%2e%2e", "a%00"):
        answer = workbench.ask("GET", f"{JOBS}/{id_}{path}")
        assert answer.status in {400, 404}
        answer.error()


def test_a_key_makes_one_job_however_often_it_is_sent(
    workbench: Workbench, training_file: str
) -> None:
    body = {"model": "ada", "training_file": training_file}
    key = {"idempotency-key": "once"}
    first = workbench.ask("POST", JOBS, {**body, "seed": 1}, **key)
    again = workbench.ask("POST", JOBS, {**body, "seed": 1}, **key)
    other = workbench.ask("POST", JOBS, {**body, "seed": 2}, **key)
    assert first.status == again.status == 200
    assert first.body == again.body
    assert (other.status, other.error()["code"]) == (422, "idempotency_key_reused")


def test_a_refused_request_may_be_put_right_under_the_same_key(
    workbench: Workbench, training_file: str
) -> None:
    key = {"idempotency-key": "twice"}
    bad = {"model": "ada", "training_file": "file-none"}
    assert workbench.ask("POST", JOBS, bad, **key).status == 400
    assert workbench.ask("POST", JOBS, bad | {"training_file": training_file}, **key).status == 200
