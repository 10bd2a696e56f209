"""The pipeline: it learns, keeps samples, goes on where it was, and publishes what it trained."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hone.models.errors import InvalidInput
from hone.models.manifest import GenerationParity, GenerationRecord
from hone.models.names import ModelReference
from hone.models.registry import Registry
from hone.training.causal.staging import StagedDecoder
from hone.training.events import Event, Events
from hone.training.generation.causal_card import write_card
from hone.training.generation.causal_publishing import TrainedFolder
from hone.training.generation.conversations import (
    Completion,
    Conversation,
    Example,
    Message,
    Preference,
)
from hone.training.generation.sampling import read_samples
from hone.training.loop import Interrupted
from hone.training.process import _say_next
from hone.training.run import run_recipe
from tests.bases import base_folder
from tests.training.generation.running import recipe_for, train, without_publishing, write_splits
from tests.training.generation.tiny import COLOURS, colour_rows, tiny_base


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_splits(tmp_path / "data")


@pytest.fixture
def unpublished(monkeypatch: pytest.MonkeyPatch) -> None:
    without_publishing(monkeypatch)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(folder / "model" / "model.safetensors")
    return found


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


@pytest.mark.slow
def test_a_run_ends_as_a_published_decoder_that_passed_its_gate(tmp_path: Path, data: Path) -> None:
    baseline = {"instruction": "Repeat the colours.", "examples": 2, "price_model": "some/model"}
    finished = train(recipe_for(tmp_path, data, training={"epochs": 6.0}, baseline=baseline))
    first, last = finished.named("evaluated")[0], finished.named("evaluated")[-1]
    assert last["loss"] < first["loss"]
    bundle = Registry(tmp_path / "store").open(ModelReference("colours"))
    manifest = bundle.manifest
    assert manifest.task == "text-generation"
    assert manifest.generation is not None
    assert manifest.generation.parity["fp32"].passed
    assert manifest.generation.context_tokens == 64
    assert manifest.generation.chat_template is None, "no chat was in its data"
    assert manifest.scores["test"]["exact_match"].n == 16
    card = bundle.file("card.md").read_text(encoding="utf-8")
    assert "peak, measured" in card
    assert "estimate" in card
    assert manifest.baseline is not None
    assert len(manifest.baseline.examples) == 2
    assert f"{manifest.baseline.static_tokens:,}" in card
    assert "Repeat the colours." in card
    assert not list(finished.folder.glob("checkpoint-*"))


def chats(count: int, first: int) -> list[Example]:
    return [
        Conversation((Message("user", f"{n} like"), Message("assistant", COLOURS[n % 4])))
        for n in range(first, first + count)
    ]


@pytest.mark.slow
def test_who_trained_on_chats_is_told_to_ask_with_messages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for form, rows in (("chats", chats), ("prompts", colour_rows)):
        data = write_splits(tmp_path / form, rows)
        train(recipe_for(tmp_path, data, saving={"name": form, "promote": False}))
        manifest = Registry(tmp_path / "store").open(ModelReference(form)).manifest
        _say_next(manifest, "store")
    told = capsys.readouterr().out
    body = '{"model": "chats", "messages": [{"role": "user", "content": "..."}]}'
    assert f"/v1/chat/completions -H 'content-type: application/json' -d '{body}'" in told
    assert '/v1/completions -H \'content-type: application/json\' -d \'{"model": "prompts"' in told


def test_a_base_that_the_gate_could_not_ask_is_refused_before_the_training(
    tmp_path: Path, data: Path
) -> None:
    recipe = recipe_for(tmp_path, data, model={"positions": 32})
    told: list[Event] = []
    with pytest.raises(InvalidInput, match="the base reads 32 tokens, and the gate continues"):
        run_recipe(recipe, events=Events(told.append), stop_requested=lambda: False)
    assert [event["event"] for event in told] == ["run_started"]


def test_the_card_says_which_files_were_left_out_and_why(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published: list[TrainedFolder] = []
    monkeypatch.setattr(
        "hone.training.generation.text_generation.publish_causal",
        lambda trained, _context: published.append(trained),
    )
    train(recipe_for(tmp_path, data, training={"epochs": 1.0}))
    (trained,) = published
    alike = GenerationParity(
        passed=True,
        prompts=16,
        tokens=100,
        equal_continuations=1.0,
        tied_continuations=0.0,
        equal_tokens=1.0,
        largest_logit_difference=0.0,
        loss_trained=1.0,
        loss_exported=1.0,
        alone_and_in_company_equal=1.0,
    )
    record = GenerationRecord(context_tokens=64, eos_ids=[2], parity={"fp32": alike})
    decoder = StagedDecoder({}, {"int4": "it is another model"}, record)
    card = write_card(trained.summary, trained.run, decoder)
    assert "| fp32 | 100.0 % |" in card
    assert "Left out: int4, because it is another model." in card


@pytest.mark.slow
def test_a_pretrained_base_is_adapted_and_published(tmp_path: Path, data: Path) -> None:
    model = {"base": str(base_folder("stories260K")), "method": "lora", "lora_rank": 4}
    finished = train(recipe_for(tmp_path, data, model=model))
    first, last = finished.named("evaluated")[0], finished.named("evaluated")[-1]
    assert last["loss"] < first["loss"]
    manifest = Registry(tmp_path / "store").open(ModelReference("colours")).manifest
    assert manifest.generation is not None
    assert manifest.generation.parity["fp32"].passed
    assert manifest.generation.eos_ids == [2]


@pytest.mark.usefixtures("unpublished")
def test_sample_prompts_are_completed_at_every_evaluation_and_kept(
    tmp_path: Path, data: Path
) -> None:
    finished = train(recipe_for(tmp_path, data))
    kept = list(read_samples(finished.folder))
    assert [row["step"] for row in kept] == [6, 12]
    assert {row["prompt"] for row in kept} == {"1 red blue ->"}
    assert [event["samples"] for event in finished.named("sampled")] == [[row] for row in kept]


@pytest.mark.usefixtures("unpublished")
@pytest.mark.parametrize("optimizer", ["adamw", "prodigy", "lion"])
def test_a_run_that_was_broken_off_goes_on_to_the_last_bit(
    tmp_path: Path, data: Path, optimizer: str
) -> None:
    groups: dict[str, Any] = {"optimizer": {"name": optimizer}, "model": {"dropout": 0.1}}
    whole = train(recipe_for(tmp_path / "whole", data, **groups))
    calls = iter(range(100))
    broken = recipe_for(tmp_path / "broken", data, **groups)
    with pytest.raises(Interrupted):
        train(broken, lambda: next(calls) == 8)
    resumed = train(broken)
    assert resumed.named("resumed")[0]["step"] == 8
    assert equal(weights(resumed.folder), weights(whole.folder))
    assert list(read_samples(resumed.folder)) == list(read_samples(whole.folder))


@pytest.mark.usefixtures("unpublished")
def test_the_peak_of_memory_is_that_of_all_processes_of_a_run(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hold(megabytes: int) -> None:
        monkeypatch.setattr("hone.training.loop.peak_bytes", lambda _device: megabytes * 10**6)

    recipe = recipe_for(tmp_path, data)
    calls = iter(range(100))
    hold(900)
    with pytest.raises(Interrupted):
        train(recipe, lambda: next(calls) == 8)

    def stopped(_trained: object, _context: object) -> None:
        raise Interrupted

    hold(700)
    monkeypatch.setattr("hone.training.generation.text_generation.publish_causal", stopped)
    with pytest.raises(Interrupted):
        train(recipe)
    without_publishing(monkeypatch)
    hold(14)  # it only publishes what was trained before
    finished = train(recipe)
    assert finished.named("resumed")[0]["step"] == 12
    assert finished.named("memory_measured")[0]["peak"] == 900 * 10**6
    card = (finished.folder / "card.md").read_text(encoding="utf-8")
    assert "900.0 MB" in card
    assert "14.0" not in card


@pytest.mark.usefixtures("unpublished")
def test_accumulated_parts_of_a_batch_give_the_gradient_of_the_whole(
    tmp_path: Path, data: Path
) -> None:
    whole = train(recipe_for(tmp_path / "one", data, optimizer={"name": "sgd"}))
    parts = {"gradient_accumulation": 4, "gradient_checkpointing": True}
    split = train(recipe_for(tmp_path / "four", data, optimizer={"name": "sgd"}, training=parts))
    one, other = weights(whole.folder), weights(split.folder)
    assert all(torch.allclose(one[n], other[n], atol=1e-5) for n in one)


@pytest.mark.usefixtures("unpublished")
@pytest.mark.parametrize("name", ["adafactor", "lion", "prodigy", "sgd"])
def test_every_optimizer_for_a_cpu_lowers_the_loss(tmp_path: Path, data: Path, name: str) -> None:
    finished = train(recipe_for(tmp_path, data, optimizer={"name": name}, training={"epochs": 4.0}))
    losses = [event["loss"] for event in finished.named("evaluated")]
    assert losses[-1] < losses[0]


@pytest.mark.usefixtures("unpublished")
def test_lora_is_merged_and_leaves_what_it_did_not_train(tmp_path: Path, data: Path) -> None:
    tiny_base(tmp_path / "base")
    model = {"base": str(tmp_path / "base"), "method": "lora", "lora_rank": 4}
    finished = train(recipe_for(tmp_path, data, model=model))
    settled = finished.named("settled")[0]
    assert settled["trained_parameters"] < 0.2 * settled["all_parameters"]
    before: dict[str, torch.Tensor] = load_file(tmp_path / "base" / "model.safetensors")
    after = weights(finished.folder)
    assert after.keys() == before.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("_proj" in name for name in changed)


def preferences(count: int, first: int) -> list[Any]:
    return [
        Preference(f"{n} like ->", f" {COLOURS[n % 4]}", " nothing")
        for n in range(first, first + count)
    ]


@pytest.mark.usefixtures("unpublished")
def test_preferences_are_learned_by_dpo(tmp_path: Path) -> None:
    data = write_splits(tmp_path / "preferred", preferences)
    finished = train(recipe_for(tmp_path, data, optimizer={"learning_rate": 1e-4}))
    assert finished.named("settled")[0]["objective"] == "dpo"
    last = finished.named("evaluated")[-1]
    assert last["loss"] < 0.693
    assert last["scores"]["reward_accuracy"] > 0.9
    scored = finished.named("text_scored")
    assert [event["split"] for event in scored] == ["validation", "test"]
    for event in scored:  # what was learned, not only what the wanted answers' tokens are
        assert event["reward_accuracy"]["value"] > 0.9
        assert event["reward_accuracy"]["n"] == 16
    card = (finished.folder / "card.md").read_text(encoding="utf-8")
    assert "- Pairs ranked right (test): **1.000** (95 %: 0.806 to 1.000)" in card
    assert "| dpo_beta | 0.1 |" in card
    assert "Accuracy is that of single tokens" not in card


@pytest.mark.usefixtures("unpublished")
def test_long_examples_are_counted_never_silent(tmp_path: Path) -> None:
    def rows(count: int, first: int) -> list[Example]:
        signs = "".join(chr(0x4E00 + 61 * n) for n in range(20))  # three tokens each
        return [*[Completion("long ->", signs)] * 3, *colour_rows(count - 3, first)]

    data = write_splits(tmp_path / "long", rows)
    dataset: dict[str, Any] = {"max_tokens": 24}
    (told,) = train(recipe_for(tmp_path, data, dataset=dataset)).named("conversations_loaded")
    assert (told["left_out"], told["truncated"], told["max_tokens"]) == (9, 0, 24)
    dataset["long_examples"] = "cut"
    (told,) = train(recipe_for(tmp_path, data, dataset=dataset)).named("conversations_loaded")
    assert (told["left_out"], told["truncated"]) == (0, 9)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"model": {"method": "qlora"}}, "qlora holds the base in four bits, which needs a GPU"),
        ({"optimizer": {"name": "adamw_8bit"}}, "adamw_8bit needs a GPU"),
        ({"optimizer": {"name": "paged_adamw"}}, "paged_adamw needs a GPU"),
        ({"training": {"objective": "dpo"}}, "dpo does not fit the data"),
    ],
)
def test_what_this_machine_or_data_cannot_do_is_refused_by_name(
    tmp_path: Path,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    groups: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    recipe = recipe_for(tmp_path, data, **groups)
    with pytest.raises(InvalidInput, match=message):
        run_recipe(recipe, events=Events(), stop_requested=lambda: False)
    assert not (tmp_path / "runs").exists(), "before a base is made for nothing"
