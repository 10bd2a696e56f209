"""A model whose job has succeeded is answered at once, whatever the service was started for."""

from pathlib import Path
from typing import Any

import pytest

from hone.models.registry import Registry
from tests.service.openai_jobs.conftest import Workbench, opened
from tests.service.running import serving
from tests.tiny_bundle import LABELS, publish_tiny


def answer(bench: Workbench, model: str) -> Any:
    body = {"model": model, "prompt": "where is my card"}
    return bench.ask("POST", "/v1/completions", body)


def test_a_model_is_answered_as_soon_as_its_job_has_succeeded(workbench: Workbench) -> None:
    for _ in range(3):
        made = workbench.made("/v1/fine_tuning/jobs", model="ada", training_file=workbench.upload())
        model = workbench.succeed(workbench.claim(made["id"])).fine_tuned_model
        assert model is not None
        answered = answer(workbench, model)
        assert answered.status == 200, answered.body
        assert answered.json()["choices"][0]["text"].strip() in LABELS


@pytest.mark.parametrize("named", [(), ("support",)])
def test_a_service_started_for_one_model_answers_those_that_are_trained_too(
    tmp_path: Path, named: tuple[str, ...]
) -> None:
    store = tmp_path / "store"
    publish_tiny(Registry(store))
    publish_tiny(Registry(store), "other")
    with (
        serving(store, *named, log_folder=tmp_path, run_jobs="false") as service,
        opened(store) as state,
    ):
        bench = Workbench(service, state, store)
        made = bench.made("/v1/fine_tuning/jobs", model="ada", training_file=bench.upload())
        model = bench.succeed(bench.claim(made["id"])).fine_tuned_model
        assert model is not None
        assert answer(bench, model).status == 200
        assert answer(bench, "other").status == (404 if named else 200)
        assert bench.ask("DELETE", f"/v1/models/{model}").status == 200
        assert answer(bench, model).status == 404


def test_what_a_killed_service_left_is_removed_at_the_next_start(tmp_path: Path) -> None:
    store = tmp_path / "store"
    left = store / ".state" / "files" / ".incoming" / "left-by-a-kill"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half a file")
    with serving(store, "--fake", log_folder=tmp_path, run_jobs="false"):
        assert not left.exists()
