"""Fine-tuning jobs of causal models: the whole way, with nothing in place of a part."""

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import BadRequestError, NotFoundError, OpenAI

from hone.training.generation.scratch import make_base
from tests.service.openai_jobs.job_clients import (
    LONG_S,
    client_of,
    ended,
    hyperparameters,
    json_lines,
    said,
    uploaded,
)
from tests.service.running import Service, serving, wait_until
from tests.training.generation.tiny import colour_rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

BASE = "scratch:llama-1m"
PAIRS = [{"prompt": f"{n} then", "completion": f" {n} {n % 3}"} for n in range(48)]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("generation")
    settings: dict[str, Any] = {"jobs_poll_s": 0.1, "jobs_threads": 1, "jobs_nice": 0}
    with serving(folder / "store", log_folder=folder, **settings) as running:
        yield running


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[OpenAI]:
    with client_of(service) as client:
        yield client


def test_prompts_become_a_model_that_completes(client: OpenAI) -> None:
    job = client.fine_tuning.jobs.create(
        model=BASE,
        training_file=uploaded(client, json_lines(PAIRS)),
        validation_file=uploaded(
            client, json_lines([{"prompt": f"{n} then", "completion": f" {n} 0"} for n in (60, 63)])
        ),
        suffix="count",
        seed=3,
        method=hyperparameters(n_epochs=2, batch_size=16, learning_rate_multiplier=2),
    )
    job = ended(client, job.id)
    assert (job.status, job.error) == ("succeeded", None)
    model = job.fine_tuned_model
    assert re.fullmatch(r"ft:scratch-llama-1m:[\w-]+:count:\w+", model)
    assert job.method.supervised.hyperparameters.n_epochs == 2
    assert job.trained_tokens > 0
    assert any("is trained to write text" in message for message in said(client, job.id))
    table = list(csv.DictReader(io.StringIO(client.files.content(job.result_files[0]).text)))
    assert list(table[0]) == [
        "step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy",
    ]  # fmt: skip
    assert float(table[-1]["train_loss"]) < float(table[0]["train_loss"])
    assert 0 <= float(table[-1]["valid_mean_token_accuracy"]) <= 1
    answer = client.completions.create(model=model, prompt="5 then", max_tokens=4, temperature=0)
    assert answer.model == model
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0
    with pytest.raises(BadRequestError):  # it has never seen a chat
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": "a"}])
    assert client.models.retrieve(model).id == model
    client.models.delete(model)
    with pytest.raises(NotFoundError):
        client.completions.create(model=model, prompt="5 then")


def test_chats_become_a_model_that_chats(client: OpenAI) -> None:
    chats = [
        {
            "messages": [
                {"role": "system", "content": "Count."},
                {"role": "user", "content": f"after {n}?"},
                {"role": "assistant", "content": f"it is {n + 1}"},
            ]
        }
        for n in range(30)
    ]
    job = client.fine_tuning.jobs.create(
        model=BASE,
        training_file=uploaded(client, json_lines(chats)),
        method=hyperparameters(n_epochs=1),
    )
    job = ended(client, job.id)
    assert (job.status, job.error) == ("succeeded", None)
    answer = client.chat.completions.create(
        model=job.fine_tuned_model or "",
        messages=[{"role": "user", "content": "after 5?"}],
        max_tokens=3,
    )
    assert answer.model == job.fine_tuned_model
    assert answer.choices[0].message.role == "assistant"


PAINT: Any = {
    "type": "function",
    "function": {"name": "paint", "parameters": {"properties": {"shade": {"type": "string"}}}},
}


def painting(number: int) -> dict[str, Any]:
    function = {"name": "paint", "arguments": json.dumps({"shade": f"s{number % 4}"})}
    call = {"id": "c", "type": "function", "function": function}
    return {
        "tools": [PAINT],
        "parallel_tool_calls": False,
        "messages": [
            {"role": "user", "content": f"paint {number} in s{number % 4}"},
            {"role": "assistant", "tool_calls": [call], "weight": number % 2},
            {"role": "tool", "tool_call_id": "c", "content": "wet"},
            {"role": "assistant", "content": "done"},
        ],
    }


def test_chats_with_tools_become_a_model_that_can_call_them(client: OpenAI) -> None:
    job = client.fine_tuning.jobs.create(
        model=BASE,
        training_file=uploaded(client, json_lines([painting(n) for n in range(30)])),
        method=hyperparameters(n_epochs=1),
    )
    job = ended(client, job.id)
    assert (job.status, job.error) == ("succeeded", None)
    (told,) = [message for message in said(client, job.id) if "of the chats have tools" in message]
    assert told.startswith("30 of the chats have tools.")
    assert "15 tool calls among them; 15 calls of weight 0" in told
    answer = client.chat.completions.create(
        model=job.fine_tuned_model or "",
        messages=[{"role": "user", "content": "paint 5 in s1"}],
        tools=[PAINT],
        tool_choice="required",
        parallel_tool_calls=False,
        max_tokens=100,
    )
    calls = answer.choices[0].message.tool_calls or []
    assert [call.function.name for call in calls if call.type == "function"] == ["paint"]


def test_a_line_that_calls_what_it_does_not_list_fails_the_job_by_its_number(
    client: OpenAI,
) -> None:
    chats = [painting(n) for n in range(12)]
    chats[6]["tools"] = []
    job = client.fine_tuning.jobs.create(
        model=BASE, training_file=uploaded(client, json_lines(chats))
    )
    failed = ended(client, job.id)
    assert failed.error is not None
    assert (failed.error.code, failed.error.param) == ("invalid_training_file", "training_file")
    assert "Line 7 calls 'paint', which is not among its 'tools'" in failed.error.message


def test_checkpoints_answer_while_the_job_runs_and_go_with_the_model(client: OpenAI) -> None:
    job = client.fine_tuning.jobs.create(
        model=BASE,
        training_file=uploaded(client, json_lines(PAIRS)),
        method=hyperparameters(n_epochs=5, batch_size=48),
    )
    checkpoints = client.fine_tuning.jobs.checkpoints

    def first() -> list[Any]:
        return list(checkpoints.list(job.id))

    wait_until(lambda: first() or stopped(client, job.id), timeout_s=LONG_S)
    (checkpoint, *_) = first()
    name = checkpoint.fine_tuned_model_checkpoint
    assert re.fullmatch(r"ft:scratch-llama-1m:[\w-]+::\w+:ckpt-step-\d+", name)
    answer = client.completions.create(model=name, prompt="5 then", max_tokens=2)
    assert answer.model == name
    assert client.fine_tuning.jobs.retrieve(job.id).status == "running"
    assert client.models.retrieve(name).id == name
    done = ended(client, job.id)
    assert (done.status, done.error) == ("succeeded", None)
    kept = first()
    assert 1 <= len(kept) <= 3
    assert kept[0].metrics.valid_loss is not None
    newest = kept[0].fine_tuned_model_checkpoint
    assert newest.startswith(f"{done.fine_tuned_model}:ckpt-step-")
    assert client.completions.create(model=newest, prompt="5 then", max_tokens=2).model == newest
    if checkpoint.id not in [one.id for one in kept]:
        with pytest.raises(NotFoundError):
            client.completions.create(model=name, prompt="5 then", max_tokens=2)
    assert newest not in [entry.id for entry in client.models.list()]
    client.models.delete(newest)
    assert newest not in [one.fine_tuned_model_checkpoint for one in first()]
    client.models.delete(done.fine_tuned_model)
    assert first() == []


def test_a_cancelled_job_leaves_no_checkpoint(client: OpenAI, service: Service) -> None:
    job = client.fine_tuning.jobs.create(
        model=BASE,
        training_file=uploaded(client, json_lines(PAIRS)),
        method=hyperparameters(n_epochs=50, batch_size=48),
    )
    checkpoints = client.fine_tuning.jobs.checkpoints
    wait_until(lambda: list(checkpoints.list(job.id)) or stopped(client, job.id), timeout_s=LONG_S)
    (checkpoint, *_) = checkpoints.list(job.id)
    client.fine_tuning.jobs.cancel(job.id)
    ended(client, job.id)
    with pytest.raises(NotFoundError):
        client.completions.create(model=checkpoint.fine_tuned_model_checkpoint, prompt="5 then")
    wait_until(lambda: not list(checkpoints.list(job.id)))


def stopped(client: OpenAI, id_: str) -> bool:
    return client.fine_tuning.jobs.retrieve(id_).finished_at is not None


def test_preferences_change_a_base_that_the_operator_offers(tmp_path: Path) -> None:
    base = tmp_path / "tiny"
    make_base(base, BASE, colour_rows(32), vocabulary=300, positions=128, seed=0)
    pairs = [
        {
            "input": {"messages": [{"role": "user", "content": f"{n}?"}]},
            "preferred_output": [{"role": "assistant", "content": "yes"}],
            "non_preferred_output": [{"role": "assistant", "content": "no"}],
        }
        for n in range(24)
    ]
    offered = json.dumps({"house": str(base)})
    settings: dict[str, Any] = {"jobs_bases": offered, "jobs_checkpoints": 0, "jobs_nice": 0}
    with (
        serving(tmp_path / "store", log_folder=tmp_path, jobs_threads=1, **settings) as service,
        client_of(service) as client,
    ):
        job = client.fine_tuning.jobs.create(
            model="house",
            training_file=uploaded(client, json_lines(pairs)),
            method={"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2, "n_epochs": 2}}},
        )
        done = ended(client, job.id)
        assert (done.status, done.error) == ("succeeded", None), said(client, job.id)
        assert done.method is not None
        assert done.method.dpo.hyperparameters.beta == 0.2
        assert list(client.fine_tuning.jobs.checkpoints.list(job.id)) == []
        answer = client.chat.completions.create(
            model=done.fine_tuned_model, messages=[{"role": "user", "content": "5?"}], max_tokens=2
        )
        assert answer.model == done.fine_tuned_model
        assert done.fine_tuned_model.startswith("ft:house:")
        refused = client.fine_tuning.jobs.create(
            model=done.fine_tuned_model, training_file=job.training_file
        )
        failed = ended(client, refused.id)
        assert failed.error is not None
        assert failed.error.code == "continuing_not_supported"
