"""A checkpoint is asked by its name, by its owner, while its job runs; nothing else changes."""

from pathlib import Path
from typing import Any

import pytest

from hone.models.names import checkpoints_of
from hone.models.registry import Registry
from hone.service.jobs.checkpoints import NewCheckpoint
from hone.service.jobs.claims import Claim, Claims, Progress
from hone.service.jobs.naming import checkpoint_name
from tests.service.openai_jobs.conftest import Workbench, opened
from tests.service.running import serving, wait_until
from tests.tiny_bundle import publish_tiny

JOBS = "/v1/fine_tuning/jobs"


def begun(bench: Workbench, *steps: int) -> tuple[Claim, list[str]]:
    """Claim a job, publish a checkpoint for each step as its training would, and tell of them."""
    file = bench.upload()
    made = bench.made(JOBS, model="scratch:llama-1m", training_file=file)
    claim = bench.claim(made["id"])
    names = [checkpoint_name(f"ft:scratch-llama-1m:local::{claim.job.id[6:14]}", n) for n in steps]
    for step in steps:
        assert publish_tiny(Registry(bench.store), checkpoints_of(claim.job.id)).version == step
    told = [NewCheckpoint(step, name, {}) for step, name in zip(steps, names, strict=True)]
    Claims(bench.state.database, "a test").heartbeat(claim, Progress(checkpoints=told))
    return claim, names


def ask(bench: Workbench, model: str) -> Any:
    return bench.ask("POST", "/v1/completions", {"model": model, "prompt": "where is my card"})


def listed(bench: Workbench, claim: Claim) -> list[str]:
    answer = bench.ask("GET", f"{JOBS}/{claim.job.id}/checkpoints").json()
    return [one["fine_tuned_model_checkpoint"] for one in answer["data"]]


def test_each_answers_by_its_name_and_is_described(workbench: Workbench) -> None:
    claim, names = begun(workbench, 1, 2, 3)
    assert workbench.state.records.find(claim.job.id).given == {"task": "generation"}
    assert listed(workbench, claim) == names[::-1]
    for name in (*names, *names):
        answered = ask(workbench, name)
        assert (answered.status, answered.json()["model"]) == (200, name), answered.body
        assert workbench.ask("GET", f"/v1/models/{name}").json()["id"] == name
    assert workbench.service.get("/readyz").status == 200
    shown = {entry["id"] for entry in workbench.service.get("/v1/models").json()["data"]}
    assert not shown & {*names, checkpoints_of(claim.job.id)}
    for hidden in (checkpoints_of(claim.job.id), f"{checkpoints_of(claim.job.id)}@1"):
        assert ask(workbench, hidden).status == 404
        assert workbench.ask("GET", f"/v1/models/{hidden}").status == 404


def test_one_that_is_not_kept_any_more_is_gone(workbench: Workbench) -> None:
    claim, names = begun(workbench, 1, 2)
    assert ask(workbench, names[0]).status == 200
    Registry(workbench.store).remove(checkpoints_of(claim.job.id), 1)
    assert listed(workbench, claim) == [names[1]]
    wait_until(lambda: ask(workbench, names[0]).status == 404)
    assert workbench.ask("GET", f"/v1/models/{names[0]}").status == 404
    assert ask(workbench, names[1]).status == 200


def test_deleting_takes_one_away_and_the_model_all(workbench: Workbench) -> None:
    claim, names = begun(workbench, 1, 2)
    model = workbench.succeed(claim).fine_tuned_model
    assert workbench.ask("DELETE", f"/v1/models/{names[0]}").status == 200
    assert workbench.ask("DELETE", f"/v1/models/{names[0]}").status == 404
    assert listed(workbench, claim) == [names[1]]
    assert ask(workbench, names[1]).status == 200
    assert workbench.ask("DELETE", f"/v1/models/{model}").status == 200
    assert ask(workbench, names[1]).status == 404
    assert listed(workbench, claim) == []


@pytest.mark.parametrize(
    "name", ["ft:a:b::c:ckpt-step-5", "ft:a:b::c:ckpt-step-0", "x:ckpt-step-1"]
)
def test_one_that_never_was_is_a_404(workbench: Workbench, name: str) -> None:
    assert ask(workbench, name).status == 404
    assert workbench.ask("DELETE", f"/v1/models/{name}").status == 404


def test_they_take_no_place_of_a_model_in_use(tmp_path: Path) -> None:
    store = tmp_path / "store"
    publish_tiny(Registry(store))
    settings: dict[str, Any] = {"max_loaded_models": 1, "reload_interval_s": 0.1}
    with (
        serving(store, log_folder=tmp_path, run_jobs="false", **settings) as service,
        opened(store) as state,
    ):
        bench = Workbench(service, state, store)
        claim, names = begun(bench, 1, 2, 3)
        assert service.classify("where is my card")["model"] == "support@1"
        for name in names:
            assert ask(bench, name).status == 200
        publish_tiny(Registry(store), checkpoints_of(claim.job.id))
        assert service.classify("where is my card")["model"] == "support@1"
        assert service.get("/readyz").json()["models"] == ["support@1"]
        assert service.metrics()["hone_loaded_models", ()] <= 3
        assert service.metrics()["hone_model_unloads_total", ()] == 0
