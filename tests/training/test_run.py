"""A whole run: what it refuses before it begins, what it publishes, and how it is stopped."""

import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from hone import cli
from hone.models.catalogue import find_base
from hone.models.examples import Example, read_examples, sha256_of_file, write_examples
from hone.models.manifest import Variant
from hone.models.names import ModelReference
from hone.models.predictor import load_predictor, load_tokenizer
from hone.models.registry import Registry
from hone.models.tokenizer import TextTokenizer, TextTooLong
from hone.training.classifier import TextClassifier
from hone.training.events import Events
from hone.training.finetune import Run
from hone.training.loading import load_data
from hone.training.loop import Interrupted
from hone.training.progress import Progress
from hone.training.run import run_recipe
from hone.training.run_context import run_folder
from tests.training.runs import (
    Outcome,
    Sabotage,
    Trained,
    named,
    staged,
    stop_before,
    versions,
)
from tests.training.tiny import LABELS, ROWS, STEPS_PER_EPOCH, Task, make_examples

Ready = dict[Variant, Sabotage]
Train = Callable[..., Outcome]


@pytest.fixture
def own_data(task: Task, tmp_path: Path) -> Path:
    """Return a copy of the data that a test may change."""
    return shutil.copytree(task.data, tmp_path / "own")


def refused(found: Outcome, sentence: str) -> None:
    """Check that a run was refused in one sentence before any training."""
    assert found.status == 1
    said = " ".join(found.errors.split())
    assert said.startswith("error: ")
    assert sentence in said
    assert "Traceback" not in found.errors
    assert found.output == ""
    assert [e["event"] for e in found.events] in (["failed"], [])


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("model.base=no-such-base", "there is no base 'no-such-base'"),
        ("dataset.path=/nowhere", "there is no file /nowhere/train.jsonl"),
        ("dataset.positive_label=chargeback", "no example has the label 'chargeback'"),
        ("baseline.tokenizer=/nowhere.json", "/nowhere.json is not a tokenizer file"),
        ("saving.store=/dev/null/store", "the store /dev/null/store cannot be written to"),
        ("saving.runs=/dev/null/runs", "the folder for runs /dev/null/runs cannot be written"),
        ("training.device=cuda", "there is no usable GPU here"),
        ("training.precision=fp16", "fp16 is for GPUs"),
        ("training.epoch=3", "training.epoch: unknown key; did you mean 'epochs'?"),
    ],
)
def test_what_would_fail_at_the_end_is_refused_at_the_beginning(
    train: Train, monkeypatch: pytest.MonkeyPatch, override: str, sentence: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    refused(train(override), sentence)


def test_a_base_that_has_only_pickles_is_refused(task: Task, tmp_path: Path, train: Train) -> None:
    base = shutil.copytree(task.base, tmp_path / "pickled")
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    found = train(f"model.base={base}")
    assert found.status == 1
    assert "has no safetensors weights; pickles are not loaded" in " ".join(found.errors.split())
    assert named(found.events, "step") == []


@pytest.mark.parametrize(
    ("split", "rows", "sentence"),
    [
        ("train", [Example("word1", "card")], "a classifier needs two labels or more"),
        ("validation", [Example("word1", "new")], "the validation split has 1 labels that"),
        ("test", [Example("word1", "new")], "the test split has 1 labels that"),
        ("train", [], "has no examples"),
    ],
)
def test_splits_that_do_not_fit_together_are_refused(
    own_data: Path, train: Train, split: str, rows: list[Example], sentence: str
) -> None:
    write_examples(own_data / f"{split}.jsonl", rows)
    refused(train(f"dataset.path={own_data}"), sentence)


def test_an_events_file_that_cannot_be_written_is_refused(
    task: Task, tmp_path: Path, train: Train
) -> None:
    found = train("--events", "/nowhere/events.jsonl")
    refused(found, "events cannot be written to /nowhere/events.jsonl")


def test_a_run_finds_its_folder_by_its_recipe_and_its_data(
    task: Task, own_data: Path, tmp_path: Path
) -> None:
    def folder(*overrides: str) -> Path:
        recipe = task.recipe(tmp_path, f"dataset.path={own_data}", *overrides)
        return run_folder(recipe, load_data(recipe, find_base(recipe.model.base))[0].records)

    first = folder()
    assert first == folder("saving.promote=true")
    assert first != folder("training.seed=1")
    rows = read_examples(own_data / "train.jsonl")
    write_examples(own_data / "train.jsonl", rows[1:])
    assert first != folder()


@pytest.fixture
def unpublished(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs end where their training ends."""

    def publish(*_: object) -> None:
        raise Interrupted

    monkeypatch.setattr("hone.training.classification.publish", publish)


@pytest.mark.usefixtures("unpublished")
def test_fresh_begins_anew_and_its_absence_goes_on(task: Task, tmp_path: Path) -> None:
    recipe = task.recipe(tmp_path, "training.epochs=2")

    def begin(calls: int, *, fresh: bool = False) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        with pytest.raises(Interrupted):
            run_recipe(
                recipe,
                events=Events(events.append),
                stop_requested=stop_before(calls),
                fresh=fresh,
            )
        return events

    first = begin(4)
    folder = Path(first[0]["folder"])
    (folder / "card.html").touch()
    assert named(begin(4), "resumed")[0]["step"] == 3
    anew = begin(4, fresh=True)
    assert named(anew, "resumed") == []
    assert named(anew, "interrupted")[0]["step"] == 3
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "checkpoint-3"]
    last = begin(10**6)
    assert named(last, "evaluated")[-1]["step"] == 2 * STEPS_PER_EPOCH


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_kept_for_the_next_step_and_its_handler_taken_back(
    train: Train, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    asked = []

    def fine_tune(model: TextClassifier, train: object, validation: object, run: Run) -> Progress:
        asked.append(run.stop_requested())
        signal.raise_signal(number)
        asked.append(run.stop_requested())
        raise Interrupted

    monkeypatch.setattr("hone.training.classification.fine_tune", fine_tune)
    before = signal.getsignal(number)
    found = train()
    assert (found.status, asked) == (75, [False, True])
    assert signal.getsignal(number) == before
    assert named(found.events, "failed") == []


def test_asked_to_end_between_two_exports_it_publishes_nothing(
    task: Task, tmp_path: Path, ready: Ready
) -> None:
    events: list[dict[str, Any]] = []
    recipe = task.recipe(tmp_path)
    with pytest.raises(Interrupted):
        run_recipe(recipe, events=Events(events.append), stop_requested=stop_before(2))
    assert [e["variant"] for e in named(events, "exported")] == ["fp32"]
    assert events[-1]["event"] == "interrupted"
    assert versions(tmp_path / "store") == []
    assert staged(tmp_path / "store") == []


def test_what_was_published_is_what_was_trained_on_what(trained: Trained, task: Task) -> None:
    manifest = trained.manifest
    assert manifest.labels == list(LABELS)
    assert manifest.recipe.sha256 == trained.recipe.sha256()
    assert manifest.recipe.content == trained.recipe.model_dump(mode="json")
    assert {name: split.rows for name, split in manifest.data.items()} == ROWS
    for name, split in manifest.data.items():
        assert split.sha256 == sha256_of_file(task.data / f"{name}.jsonl")
    assert manifest.base.id == task.base.name
    assert manifest.base.revision == sha256_of_file(task.base / "model.safetensors")
    assert {"torch", "transformers", "onnxruntime"} <= manifest.libraries.keys()
    assert set(manifest.scores) == {
        f"{split}:{variant}" for split in ("validation", "test") for variant in manifest.variants
    }
    assert manifest.text_lengths.longest <= manifest.text_limits.max_tokens
    assert {entry.path for entry in manifest.files} == {
        "card.md",
        "model.fp32.onnx",
        "model.int8.onnx",
        "tokenizer.json",
        "weights.safetensors",
    }


def test_the_scores_are_those_of_the_served_files(trained: Trained, task: Task) -> None:
    predictor = load_predictor(trained.bundle, variant="fp32")
    rows = read_examples(task.data / "test.jsonl")
    answers = predictor.probabilities(predictor.encode([row.text for row in rows])).argmax(1)
    right = sum(predictor.labels[a] == row.label for a, row in zip(answers, rows, strict=True))
    accuracy = trained.manifest.scores["test:fp32"]["accuracy"]
    assert (accuracy.value, accuracy.n) == (right / len(rows), len(rows))
    assert accuracy.value > 0.7


def test_events_tell_the_run_from_beginning_to_end(trained: Trained) -> None:
    names = [event["event"] for event in trained.events if event["event"] != "step"]
    epoch = ["evaluated", "checkpoint_saved"]
    variant = ["exported", "parity", "scored", "scored"]
    assert names == [
        *["run_started", "data_loaded", "settled"],
        *epoch * 6,
        "calibrated",
        *variant * 2,
        "published",
    ]
    times = [event["time"] for event in trained.events]
    assert times == sorted(times)
    (published,) = trained.named("published")
    assert Path(published["folder"]) == trained.bundle.folder
    assert Path(published["card"]).read_text(encoding="utf-8").startswith("<!doctype html>")


def test_after_publishing_nothing_of_the_run_is_left_but_its_card(trained: Trained) -> None:
    folder = Path(trained.named("run_started")[0]["folder"])
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "card.html"]
    assert staged(trained.store) == []


def test_a_second_run_publishes_a_second_version_and_promotes_it_if_asked(
    ready: Ready, train: Train, tmp_path: Path
) -> None:
    first, second = train(), train("saving.promote=true", "saving.keep_weights=false")
    assert (first.status, second.status) == (0, 0)
    registry = Registry(tmp_path / "store")
    assert registry.listing("tiny").aliases == {"latest": 2, "production": 2}
    files = [
        {entry.path for entry in registry.manifest(ModelReference("tiny", version=v)).files}
        for v in (1, 2)
    ]
    assert files[0] - files[1] == {"weights.safetensors"}
    assert "hone serve tiny" in first.output
    assert "tiny@1 is published" in first.output


@pytest.mark.parametrize("policy", ["head", "head_tail"])
def test_long_texts_are_cut_in_serving_as_they_were_in_training(
    task: Task, ready: Ready, train: Train, tmp_path: Path, policy: str
) -> None:
    found = train("dataset.max_tokens=10", f"dataset.long_texts={policy}")
    assert found.status == 0, found.errors
    bundle = Registry(tmp_path / "store").open(ModelReference("tiny"))
    assert bundle.manifest.text_limits.model_dump() == {"max_tokens": 10, "long_texts": policy}
    recipe = task.recipe(tmp_path, "dataset.max_tokens=10", f"dataset.long_texts={policy}")
    data, _ = load_data(recipe, find_base(recipe.model.base))
    served = load_tokenizer(bundle)
    texts = [row.text for row in data.examples["train"]]
    assert served.encode(texts) == data.encoded["train"].texts
    assert max(len(text.ids) for text in served.encode(texts)) == 10
    cut = sum(split.truncated for split in data.encoded.values())
    assert named(found.events, "data_loaded")[0]["truncated"] == cut > 50
    assert f"{cut} texts are longer than 10 tokens and cut" in " ".join(found.errors.split())
    words = " ".join(f"word{n}" for n in range(20))
    whole = TextTokenizer.from_file(task.base / "tokenizer.json", max_tokens=64).encode([words])
    ids, (text,) = whole[0].ids, served.encode([words])
    inner = ids[1:9] if policy == "head" else [*ids[1:3], *ids[15:21]]
    assert text.ids == [ids[0], *inner, ids[-1]]


def test_a_recipe_that_refuses_long_texts_refuses_them_in_training_and_in_serving(
    own_data: Path, ready: Ready, train: Train, tmp_path: Path
) -> None:
    words = [f"dataset.path={own_data}", "dataset.long_texts=reject", "dataset.max_tokens=10"]
    refused(train(*words), "tokens; this model takes 10")
    for seed, split in enumerate(ROWS):
        short = make_examples(ROWS[split], seed=seed, fillers=(1, 4))
        write_examples(own_data / f"{split}.jsonl", short)
    assert train(*words).status == 0
    tokenizer = load_tokenizer(Registry(tmp_path / "store").open(ModelReference("tiny")))
    with pytest.raises(TextTooLong):
        tokenizer.encode(["word1 " * 9])


def test_what_is_printed_for_programs_is_events_alone(
    task: Task,
    ready: Ready,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    words = ["hone", "train", "classifier", *task.overrides(tmp_path), "--events", "-"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit):
        cli.main()
    said = capfdbinary.readouterr()
    events = [orjson.loads(line) for line in said.out.splitlines()]
    assert events[0]["event"] == "run_started"
    assert events[-1]["event"] == "published"
    assert said.err == b""
