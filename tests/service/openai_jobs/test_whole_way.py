"""The whole way with nothing in place of a part: clients, service, runner, trainings, answers.

The base is a tiny one with random weights, in a local folder, under the name `ada`.
"""

import csv
import io
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import NotFoundError, OpenAI

from tests.service.client_environments import LEGACY, programs_of, run_client
from tests.service.running import Service, serving, wait_until
from tests.training.tiny import make_base, make_examples

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

SYSTEM = "Say which card matter the message is about."
LONG_S = 600


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("whole")
    bases = json.dumps({"ada": str(make_base(folder / "tiny-bert"))})
    settings: dict[str, Any] = {
        "jobs_bases": bases,
        "jobs_poll_s": 0.1,
        "jobs_threads": 1,
        "stream_ping_s": 1,
    }
    with serving(folder / "store", log_folder=folder, **settings) as running:
        yield running


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"http://127.0.0.1:{service.port}/v1", api_key="unused") as client:
        yield client


def chats(rows: int, *, seed: int) -> bytes:
    def line(text: str, label: str) -> str:
        roles = {"system": SYSTEM, "user": text, "assistant": label}
        turns = [{"role": role, "content": content} for role, content in roles.items()]
        return json.dumps({"messages": turns})

    return "\n".join(line(e.text, e.label) for e in make_examples(rows, seed=seed)).encode()


def test_the_newest_client_from_upload_to_answer(client: OpenAI) -> None:
    train = client.files.create(file=("train.jsonl", chats(160, seed=3)), purpose="fine-tune")
    validation = client.files.create(file=("valid.jsonl", chats(40, seed=4)), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model="ada",
        training_file=train.id,
        validation_file=validation.id,
        suffix="cards",
        seed=5,
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 20, "learning_rate_multiplier": 5}},
        },
        metadata={"team": "payments"},
    )
    wait_until(
        lambda: client.fine_tuning.jobs.retrieve(job.id).finished_at is not None, timeout_s=LONG_S
    )
    job = client.fine_tuning.jobs.retrieve(job.id)
    assert (job.status, job.error) == ("succeeded", None)
    model = job.fine_tuned_model
    assert model is not None
    assert re.fullmatch(r"ft:ada:[\w-]+:cards:\w+", model)
    said = [event.message for event in client.fine_tuning.jobs.list_events(job.id, limit=5)]
    assert len(said) > 10  # pages follow by themselves
    assert said[0] == "The job has successfully completed"
    assert len(list(client.fine_tuning.jobs.checkpoints.list(job.id, limit=2))) > 2
    content = client.files.content(job.result_files[0]).text
    table = list(csv.DictReader(io.StringIO(content)))
    assert float(table[-1]["train_loss"]) < float(table[0]["train_loss"])
    (example, *_) = make_examples(1, seed=9)
    turns: Any = [{"role": "user", "content": example.text}]
    short = client.chat.completions.create(model=model, messages=turns)
    whole = client.chat.completions.create(
        model=model,
        messages=[{"role": "system", "content": SYSTEM}, *turns],
    )
    assert short.choices[0].message.content == whole.choices[0].message.content
    assert short.choices[0].message.content in {e.label for e in make_examples(50, seed=3)}
    parts: Any = client.chat.completions.create(model=model, messages=turns, stream=True)
    streamed = [part.choices[0].delta.content or "" for part in parts if part.choices]
    assert "".join(streamed) == short.choices[0].message.content
    assert model in [entry.id for entry in client.models.list()]
    assert client.models.delete(model).deleted
    with pytest.raises(NotFoundError):
        client.models.retrieve(model)


def test_the_legacy_command_line_from_prepare_to_answer(service: Service, tmp_path: Path) -> None:
    legacy = programs_of(LEGACY)
    (tmp_path / "cards.csv").write_text(
        "prompt,completion\n" + "".join(f"{e.text},{e.label}\n" for e in make_examples(160, seed=3))
    )
    prepared = prepare(legacy, tmp_path)
    words = ("api", "fine_tunes.create", "-t", str(prepared["train"]), "-v", str(prepared["valid"]))
    classes = len({e.label for e in make_examples(160, seed=3)})
    said = run_client(
        legacy, service, "openai", *words, "-m", "ada", "--n_epochs", "20",
        "--compute_classification_metrics", "--classification_n_classes", str(classes),
        "--suffix", "cards", timeout_s=LONG_S,
    )  # fmt: skip
    assert "Job complete! Status: succeeded" in said, said
    (id_,) = set(re.findall(r"ft-[a-z0-9]{24}", said))
    results = run_client(legacy, service, "openai", "api", "fine_tunes.results", "-i", id_)
    table = list(csv.DictReader(io.StringIO(results)))
    measured = [row for row in table if row["classification/accuracy"]]
    assert len(measured) > 1
    assert all(0 <= float(row["classification/weighted_f1_score"]) <= 1 for row in measured)
    (model,) = set(re.findall(r"ada:ft-[\w-]+:?[\w-]*-\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d", said))
    (example, *_) = make_examples(1, seed=9)
    asked = ("api", "completions.create", "-m", model, "-p", f"{example.text} ->", "-M", "1")
    answer = run_client(legacy, service, "openai", *asked)
    assert answer.startswith(f"{example.text} -> ")
    deleted = run_client(legacy, service, "openai", "api", "models.delete", "-i", model)
    assert json.loads(deleted)["deleted"]


def prepare(legacy: Path, folder: Path) -> dict[str, Path]:
    """Let the client's own tool prepare the file, with its recommendations; return its files."""
    tool = [str(legacy / "openai"), "tools", "fine_tunes.prepare_data", "-f", "cards.csv", "-q"]
    environment = {"PATH": os.environ["PATH"], "OPENAI_API_KEY": "unused"}
    done = subprocess.run(
        tool,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = {part: folder / f"cards_prepared_{part}.jsonl" for part in ("train", "valid")}
    assert all(path.exists() for path in found.values()), done.stdout
    return found
