"""A causal bundle as a contender: what it says, what that took, and that it is asked once."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hone.comparison import generating
from hone.comparison.experiment import Prompted
from hone.comparison.experiment_file import InvalidExperiment
from hone.comparison.judging import judge
from hone.comparison.prompt_making import PromptMaker, fixed_form
from hone.models.errors import InvalidInput
from hone.models.registry import Registry
from tests.comparison.experiments import experiment_text, plan_of, run, write_data
from tests.service.generation.adapter_bundles import publish_adapter, publish_base
from tests.service.generation.conftest import publish_stories
from tests.service.running import Service, serving
from tests.tiny_bundle import publish_tiny


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generating")
    publish_stories(Registry(folder / "store"), folder)
    publish_tiny(Registry(folder / "store"))
    base = publish_base(Registry(folder / "store"))
    publish_adapter(Registry(folder / "store"), "adapted", base, 0, folder / "trained")
    return folder / "store"


@pytest.fixture(scope="module")
def service(store: Path) -> Iterator[Service]:
    with serving(store, log_folder=store.parent, threads=1, run_jobs=False) as running:
        yield running


def teller(store: Path, **changes: Any) -> dict[str, Any]:
    return {
        "name": "teller",
        "kind": "generating",
        "model": "stories",
        "store": str(store),
        "prompt": "few-shot",
        "k": 3,
        "max_answer_tokens": 24,
        **changes,
    }


@pytest.mark.parametrize(
    ("model", "api"),
    [("stories", "completions"), ("stories", "chat"), ("adapted", "completions")],
)
def test_it_says_what_the_service_says_and_tokens_are_counted(
    tmp_path: Path, store: Path, service: Service, model: str, api: str
) -> None:
    data = write_data(tmp_path / "data", test=8)
    text = experiment_text(
        data,
        teller(store, model=model, api=api, costs={"serving_usd_per_hour": 0.5}),
        experiment={"labels": None},
    )
    finished = run(text, tmp_path / "out")
    plan = plan_of(text)
    items = {item.id: item for item in plan.material.items}
    form = maker_of(text)
    path = "/v1/completions" if api == "completions" else "/v1/chat/completions"
    own = [outcome for outcome in finished.outcomes if outcome.contender == "teller"]
    assert len(own) == 8
    for place, outcome in enumerate(own):
        prompt = form(place, items[outcome.item])
        body: dict[str, Any] = {"model": model, "max_tokens": 24, "temperature": 0}
        if api == "completions":
            body |= {"prompt": prompt.text, "stop": ["\n"]}
        else:
            body |= {"messages": [{"role": t.role, "content": t.content} for t in prompt.messages]}
        answer = service.post(body, path).json()
        choice = answer["choices"][0]
        said = choice["text"] if api == "completions" else choice["message"]["content"]
        assert outcome.raw == said
        assert outcome.usage.counting == "exact"
        assert outcome.usage.prompt_tokens == answer["usage"]["prompt_tokens"]
        assert outcome.usage.completion_tokens == answer["usage"]["completion_tokens"]
    cost = judge(tmp_path / "out", finished.question).arm("teller").cost
    assert cost.served is not None
    assert cost.served.from_run
    assert cost.served.usd_per_hour == 0.5


def maker_of(text: str) -> PromptMaker:
    """Return what makes the prompts, as the runner makes it."""
    plan = plan_of(text)
    contender = plan.experiment.contenders[0]
    assert isinstance(contender, Prompted)
    return fixed_form(contender, plan.material, {}, seed=0).prompt


def test_an_adapter_does_not_say_what_its_base_says(tmp_path: Path, store: Path) -> None:
    data = write_data(tmp_path / "data", test=4)
    said = {}
    for model in ("adapted", "base-of-stories"):
        text = experiment_text(data, teller(store, model=model, api="completions"))
        finished = run(text, tmp_path / model)
        said[model] = [o.raw for o in finished.outcomes if o.contender == "teller"]
    assert said["adapted"] != said["base-of-stories"]


def test_an_adapter_whose_base_is_not_in_the_store_is_refused_by_name(
    tmp_path: Path, store: Path
) -> None:
    alone = tmp_path / "alone"
    shutil.copytree(store / "adapted", alone / "adapted")
    data = write_data(tmp_path / "data", test=4)
    with pytest.raises(InvalidExperiment, match="base 'base-of-stories' is not in the store"):
        run(experiment_text(data, teller(alone, model="adapted")), tmp_path / "out")


def test_an_answer_on_disk_is_not_decoded_again(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = experiment_text(write_data(tmp_path / "data", test=6), teller(store, api="completions"))
    first = run(text, tmp_path / "out")

    def refuse(*_: Any) -> None:
        raise AssertionError("it was decoded again")

    monkeypatch.setattr(generating.GeneratingAnswerer, "_decode", refuse)
    again = run(text, tmp_path / "out")
    assert again.outcomes == first.outcomes
    assert again.sums == first.sums
    assert again.sums.usd == 0


def test_a_prompt_that_does_not_fit_is_a_failed_call(tmp_path: Path, store: Path) -> None:
    data = write_data(tmp_path / "data", train=200, test=4)
    text = experiment_text(data, teller(store, k=150, api="completions"))
    own = [o for o in run(text, tmp_path / "out").outcomes if o.contender == "teller"]
    assert {outcome.kind for outcome in own} == {"failed"}
    assert "tokens" in (own[0].error or "")


def test_what_it_cannot_be_is_said_before_the_run(tmp_path: Path, store: Path) -> None:
    data = write_data(tmp_path / "data", test=4)
    with pytest.raises(InvalidInput, match='kind = "bundle"'):
        run(experiment_text(data, teller(store, model="support")), tmp_path / "out")
    with pytest.raises(InvalidExperiment, match=r"unknown placeholder \{labls\}"):
        plan_of(experiment_text(data, teller(store, system="{labls}")))
