"""`hone train --methods`: several methods on the same data, and one table of what each gave."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hone.models.errors import InvalidInput, InvalidRecipe
from hone.models.names import ModelReference
from hone.models.registry import Registry
from hone.training.command import train_command
from hone.training.methods.pace import STREAMS, Pace, measure_paces
from hone.training.methods.page import columns_of, trials_picture, write_comparison
from hone.training.methods.run import compare_methods, parse_methods
from hone.training.methods.trial import CurvePoint, Trial, curve_of, quality_of
from hone.training.process import EXIT_INTERRUPTED
from hone.training.recipe_files import find_recipe
from tests.training.generation.running import recipe_for, write_splits
from tests.training.generation.running import train as train_generator
from tests.training.runs import ONE_THREAD, ROOT
from tests.training.tiny import ROWS, Task


def command(task: Task, folder: Path, *more: str) -> list[str]:
    given = task.overrides(folder, "training.epochs=2", *more)
    methods = ["--methods", "full,lora"]
    return [sys.executable, "-m", "hone", "train", "classifier", *methods, *given]


def run(task: Task, folder: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(task, folder, *more),
        check=False,
        capture_output=True,
        text=True,
        env=ONE_THREAD,
        cwd=ROOT,
    )


def found_in(folder: Path) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = json.loads(
        (folder / "runs" / "tiny-methods" / "methods.json").read_text()
    )
    return content


def test_each_method_is_trained_published_and_set_beside_the_others(
    task: Task, tmp_path: Path
) -> None:
    ran = run(task, tmp_path)
    assert ran.returncode == 0, ran.stderr
    full, lora = found_in(tmp_path)
    assert (full["method"], lora["method"]) == ("full", "lora")
    registry = Registry(tmp_path / "store")
    for row in (full, lora):
        bundle = registry.open(ModelReference(row["model"], version=row["version"]))
        assert bundle.manifest.recipe.content["model"]["method"] == row["method"]
        told = bundle.manifest.scores[f"test:{row['variant']}"]["accuracy"]
        assert row["quality"] == told.model_dump()
        assert row["quality"]["n"] == ROWS["test"]
        assert row["bundle_bytes"] == sum(entry.size for entry in bundle.manifest.files)
        assert row["peak_bytes"] > row["served_bytes"]
        assert 0 < row["training_s"] < row["wall_s"]
        assert [point["seconds"] for point in row["curve"]] == sorted(
            point["seconds"] for point in row["curve"]
        )
        assert all(value > 0 for value in row["pace"]["per_s"].values())
    assert lora["trained_parameters"] < full["trained_parameters"]
    page = (tmp_path / "runs" / "tiny-methods" / "methods.html").read_text()
    assert f"{full['trained_parameters']:,}" in page
    assert "data:image/png" in page

    again = run(task, tmp_path)
    assert again.returncode == 0, again.stderr
    assert "full: tiny-full@1 is trained already" in again.stdout
    assert registry.listing("tiny-full").versions == [1]

    other = run(task, tmp_path, "training.seed=1")
    assert other.returncode == 0, other.stderr
    assert "trained already" not in other.stdout
    assert registry.listing("tiny-lora").versions == [1, 2]


def test_an_interrupted_comparison_goes_on_where_it_was(task: Task, tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(task, tmp_path, "training.epochs=200"),
        env=ONE_THREAD,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    log = tmp_path / "runs" / "tiny-methods" / "full.events.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and '"evaluated"' in log.read_text()):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == EXIT_INTERRUPTED
    assert not Registry(tmp_path / "store").models()
    assert list((tmp_path / "runs").glob("tiny-full-*/checkpoint-*"))


@pytest.mark.parametrize("value", ["full", "", "full,full", "full,,lora"])
def test_methods_are_two_or_more_each_once(value: str) -> None:
    with pytest.raises(InvalidRecipe, match="two methods or more"):
        parse_methods(value)


def test_a_method_that_this_machine_cannot_run_is_refused_before_anything_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    given = ["dataset.path=data", "model.base=base", "saving.name=x", f"saving.runs={tmp_path}/r"]
    refused = pytest.raises(InvalidInput, match="qlora holds the base in four bits, which needs a")
    with refused:
        train_command("completions", given, methods="full,qlora")
    with refused:
        path, methods = find_recipe("completions"), ["full", "qlora"]
        compare_methods(path, given, methods, fresh=False, processes=None)
    assert not (tmp_path / "r").exists()


def test_a_method_that_the_recipe_does_not_know_is_refused_before_anything_begins(
    task: Task, tmp_path: Path
) -> None:
    given = task.overrides(tmp_path)
    words = ["train", "classifier", "--methods", "full,probe", *given]
    ran = subprocess.run(
        [sys.executable, "-m", "hone", *words],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert ran.returncode == 1
    assert "model.method" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "runs").exists()


def test_the_pace_of_a_causal_model_is_that_of_one_stream_and_of_many(tmp_path: Path) -> None:
    train_generator(recipe_for(tmp_path, write_splits(tmp_path / "data")))
    bundle = Registry(tmp_path / "store").open(ModelReference("colours"))
    (pace,) = measure_paces([(bundle, "fp32")], [])
    assert pace.unit == "tokens"
    one, many = pace.per_s.values()
    assert len(pace.per_s) == len(STREAMS)
    assert many > one > 0


def test_the_curve_of_a_resumed_run_has_what_came_before() -> None:
    def point(seconds: float) -> dict[str, float]:
        return {"step": seconds * 3, "seconds": seconds, "accuracy": 0.5, "loss": 1.0}

    evaluated = [{"event": "evaluated", **point(seconds)} for seconds in (1.0, 2.0, 3.0)]
    resumed = {"event": "resumed", "step": 4, "evaluations": [point(1.0)]}
    for events in (evaluated, [*evaluated[:2], resumed, *evaluated[1:]], [resumed, *evaluated[1:]]):
        assert [one.seconds for one in curve_of(events)] == [1.0, 2.0, 3.0]
    done = {"event": "resumed", "step": 9, "evaluations": [point(1.0), point(3.0)]}
    assert [one.seconds for one in curve_of([done])] == [1.0, 3.0], "killed as it was exported"


def test_the_table_shows_small_shares_and_the_picture_survives_runs_without_a_curve() -> None:
    trial = _trial()
    curved = trial.model_copy(
        update={"method": "full", "curve": [CurvePoint(seconds=1, accuracy=0.5, loss=1)]}
    )
    pace = measure_paces([], [])
    assert pace == []
    head, rows = columns_of([trial, curved], [_pace(), _pace()])
    assert head == ["", "probe", "full"]
    assert "1,000 (1.0 %)" in [row[1] for row in rows]
    for dark in (False, True):
        assert trials_picture([trial, curved], dark=dark, dpi=60).content.startswith(b"\x89PNG")


@pytest.mark.parametrize("measure", ["accuracy", "macro F1"])
def test_the_page_says_how_classifiers_were_timed_whatever_they_are_judged_by(
    task: Task, tmp_path: Path, measure: str
) -> None:
    trial = _trial().model_copy(update={"measure": measure})
    write_comparison(tmp_path, task.recipe(tmp_path), [trial, trial], [_pace(), _pace()])
    page = (tmp_path / "methods.md").read_text(encoding="utf-8")
    assert "Pictures a second: in batches of 16, all cores" in page


def test_preferences_are_judged_by_the_pairs_that_are_ranked_right() -> None:
    ranked = {"value": 0.9, "low": 0.8, "high": 0.95, "n": 40}
    exact = {**ranked, "value": 0.1}
    told = {"event": "text_scored", "split": "test", "exact_match": exact}
    for event, words, value in (
        (told, "exact match", 0.1),
        ({**told, "reward_accuracy": ranked}, "pairs ranked right", 0.9),
    ):
        split, measure, score = quality_of([event], "fp32")
        assert (split, measure, score.value) == ("test", words, value)


def _pace() -> Pace:
    return Pace("pictures", {"batches of 16": 12.0})


def _trial() -> Trial:
    quality = {"value": 0.9, "low": 0.8, "high": 0.95, "n": 40}
    return Trial(
        method="probe",
        model="m-probe",
        version=3,
        split="test",
        measure="accuracy",
        quality=quality,
        training_s=1.0,
        wall_s=2.0,
        peak_bytes=10**9,
        trained_parameters=1000,
        all_parameters=100_000,
        variant="fp32",
        bundle_bytes=2 * 10**6,
        served_bytes=10**6,
        curve=[],
    )
