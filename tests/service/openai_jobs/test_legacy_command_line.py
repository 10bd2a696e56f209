"""The command line of the client 0.28.1, unchanged: each of its commands for files and jobs."""

import contextlib
import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hone.models.registry import Registry
from hone.service.jobs.claims import Claims, NewModel
from hone.service.jobs.errors import NameTaken
from hone.service.jobs.events import NewEvent
from hone.service.jobs.files import NewFile
from hone.service.jobs.naming import model_name
from tests.service.client_environments import LEGACY, programs_of
from tests.service.openai_jobs.conftest import EXAMPLES, Workbench
from tests.tiny_bundle import publish_tiny

pytestmark = pytest.mark.slow

RESULTS = b"step,training_loss\n1,0.5\n"


@pytest.fixture(scope="session")
def programs() -> Path:
    return programs_of(LEGACY)


class Terminal:
    """A person at a terminal with that client's `openai` command."""

    def __init__(self, programs: Path, workbench: Workbench, folder: Path) -> None:
        self._program, self._folder = programs / "openai", folder
        self._environment = {
            "PATH": os.environ["PATH"],
            "OPENAI_API_BASE": f"http://127.0.0.1:{workbench.service.port}/v1",
            "OPENAI_API_KEY": "unused",
        }

    def run(self, *words: str, typed: str = "") -> tuple[int, str]:
        done = subprocess.run(
            [str(self._program), "api", *words],
            env=self._environment,
            cwd=self._folder,
            input=typed,
            capture_output=True,
            text=True,
            check=False,
            timeout=250,
        )
        return done.returncode, done.stdout + done.stderr

    def say(self, *words: str, typed: str = "") -> str:
        status, said = self.run(*words, typed=typed)
        assert status == 0, said
        return said

    def json(self, *words: str) -> Any:
        """Return the JSON object that the command prints beside its bars of progress."""
        said = self.say(*words)
        return json.JSONDecoder().raw_decode(said[said.index("{\n") :])[0]


@pytest.fixture
def terminal(programs: Path, workbench: Workbench, tmp_path: Path) -> Terminal:
    return Terminal(programs, workbench, tmp_path)


@contextmanager
def worker(workbench: Workbench) -> Iterator[None]:
    """Work on every job that comes: read its files, publish a tiny model, give a result file."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.1):
            for job in workbench.state.records.list_all(statuses=["validating_files"]).items:
                workbench.state.records.admit(job.id)
            _work_once(workbench)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _work_once(workbench: Workbench) -> None:
    state, claims = workbench.state, Claims(workbench.state.database, "a test")
    claim = claims.claim()
    if claim is None:
        return
    job = claim.job
    state.events.add(job.id, [NewEvent("Fine-tune started")])
    publish_tiny(Registry(workbench.store), job.store_model)
    new = NewFile(job.owner, "fine-tune-results", "compiled_results.csv", "processed")
    results = state.files.create([RESULTS], new)
    for taken in range(9):  # other tests' jobs of the same second have the same name
        name = model_name(job, job.model, job.created_at, taken=taken)
        model = NewModel(name, job.model, 1)
        with contextlib.suppress(NameTaken):
            claims.succeed(claim, model, result_files=lambda _: [results.id])
            break
    state.events.add(job.id, [NewEvent("Fine-tune succeeded")])


def test_files_are_made_listed_shown_and_deleted(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_bytes(EXAMPLES)
    made = terminal.json("files.create", "-f", str(tmp_path / "data.jsonl"), "-p", "fine-tune")
    assert (made["filename"], made["bytes"]) == ("data.jsonl", len(EXAMPLES))
    assert made["id"] in terminal.say("files.list")
    assert terminal.json("files.get", "-i", made["id"])["id"] == made["id"]
    assert terminal.json("files.delete", "-i", made["id"])["deleted"]
    status, said = terminal.run("files.get", "-i", made["id"])
    assert status == 1
    assert "There is no file with this id" in said


@pytest.mark.parametrize("named", ["absolute path", "relative path", "file id"])
def test_a_fine_tune_is_made_followed_and_used(
    terminal: Terminal, workbench: Workbench, tmp_path: Path, named: str
) -> None:
    path = tmp_path / f"train-{named.split(maxsplit=1)[0]}.jsonl"
    path.write_bytes(EXAMPLES)
    training = {"absolute path": str(path), "relative path": path.name}.get(named)
    training = training or workbench.upload(path.name)
    with worker(workbench):
        said = terminal.say("fine_tunes.create", "-t", training, "-m", "ada", "--suffix", "mine")
    (id_,) = set(re.findall(r"ft-[a-z0-9]{24}", said))
    for words in (
        "Created fine-tune:",
        "Fine-tune started",
        "Fine-tune succeeded",
        "Job complete!",
    ):
        assert words in said, said
    found = terminal.json("fine_tunes.get", "-i", id_)
    model = found["fine_tuned_model"]
    assert model in said
    assert found["training_files"][0]["filename"] == path.name
    assert id_ in terminal.say("fine_tunes.list")
    assert "Fine-tune started" in terminal.say("fine_tunes.events", "-i", id_)
    assert "Fine-tune succeeded" in terminal.say("fine_tunes.follow", "-i", id_)
    assert terminal.say("fine_tunes.results", "-i", id_).encode().strip() == RESULTS.strip()
    assert model in terminal.say("models.list")
    assert terminal.json("models.get", "-i", model)["id"] == model
    completed = terminal.say("completions.create", "-m", model, "-p", "card")
    assert completed.startswith("card")
    assert terminal.json("models.delete", "-i", model)["deleted"]
    assert terminal.json("fine_tunes.delete", "-i", id_)["deleted"]


def test_a_file_that_is_there_already_is_found_again(
    terminal: Terminal, workbench: Workbench, tmp_path: Path
) -> None:
    content = EXAMPLES * 2
    (tmp_path / "again.jsonl").write_bytes(content)
    id_ = workbench.upload("again.jsonl", content)
    words = ("fine_tunes.create", "-t", "again.jsonl", "--no_follow")
    said = terminal.say(*words, typed=f"{id_}\n")
    assert "Found potentially duplicated files" in said
    assert f"Reusing already uploaded file: {id_}" in said
    made = json.loads(said[said.index("{\n") :].rpartition("}")[0] + "}")
    cancelled = terminal.say("fine_tunes.cancel", "-i", made["id"])
    assert '"status": "cancelled"' in cancelled


def test_classification_options_arrive(terminal: Terminal, workbench: Workbench) -> None:
    file = workbench.upload()
    said = terminal.say(
        *("fine_tunes.create", "-t", file, "-v", file, "--no_follow", "-m", "curie"),
        *("--compute_classification_metrics", "--classification_positive_class", " yes"),
        *("--classification_betas", "0.5", "1.5", "--n_epochs", "2", "--batch_size", "4"),
        *("--learning_rate_multiplier", "0.1", "--prompt_loss_weight", "0.02"),
    )
    made = json.loads(said[said.index("{\n") :].rpartition("}")[0] + "}")
    assert made["hyperparams"] == {
        "n_epochs": 2,
        "batch_size": 4,
        "learning_rate_multiplier": 0.1,
        "prompt_loss_weight": 0.02,
        "compute_classification_metrics": True,
        "classification_positive_class": " yes",
        "classification_betas": [0.5, 1.5],
    }


def test_the_newer_jobs_of_that_client_work_too(
    terminal: Terminal, workbench: Workbench, tmp_path: Path
) -> None:
    (tmp_path / "newer.jsonl").write_bytes(EXAMPLES)
    words = ("fine_tuning.job.create", "-t", "newer.jsonl", "-m", "ada", "--n_epochs", "3")
    with worker(workbench):
        said = terminal.say(*words)
        (id_,) = set(re.findall(r"ftjob-[a-z0-9]{24}", said))
        while terminal.json("fine_tuning.job.get", "-i", id_)["status"] != "succeeded":
            pass
    assert id_ in terminal.say("fine_tuning.job.list")
    assert "Created fine-tuning job" in terminal.say("fine_tuning.job.events", "-i", id_)
    assert RESULTS.decode().strip() in terminal.say("fine_tuning.job.results", "-i", id_)
    status, said = terminal.run("fine_tuning.job.cancel", "-i", id_)
    assert status == 1
    assert "it cannot be cancelled any more" in said
