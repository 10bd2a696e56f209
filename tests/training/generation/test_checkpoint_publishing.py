"""Checkpoints are published beside the training, which they do not change."""

import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hone.models.errors import ParityFailed
from hone.models.names import ModelReference, checkpoints_of
from hone.models.registry import Registry
from hone.training.generation import checkpoint_publishing
from tests.training.generation.running import recipe_for, train, without_publishing, write_splits

NAME = checkpoints_of("colours")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    without_publishing(monkeypatch)
    return write_splits(tmp_path / "data")


def trained(folder: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = load_file(folder / "model" / "model.safetensors")
    return weights


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "lora"])
def test_they_pass_the_gate_and_change_nothing_of_what_is_trained(
    tmp_path: Path, data: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_publishing, "_ALWAYS_S", 1e9)  # on a busy machine, too
    groups: dict[str, Any] = {
        "model": {"dropout": 0.1, "method": method},
        "training": {"epochs": 4.0},
    }
    plain = train(recipe_for(tmp_path / "plain", data, **groups))
    kept = recipe_for(tmp_path / "kept", data, **groups, saving={"checkpoints": 2})
    finished = train(kept)
    assert [event["version"] for event in finished.named("checkpoint_published")] == [6, 12, 18, 24]
    one, other = trained(plain.folder), trained(finished.folder)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    registry = Registry(Path(kept.saving.store))
    assert registry.listing(NAME).versions == [18, 24]
    bundle = registry.open(ModelReference(NAME, version=18))
    assert bundle.manifest.generation is not None
    assert bundle.manifest.generation.parity["fp32"].passed
    assert not list(finished.folder.glob(".checkpoint-*"))
    assert kept.sha256() == recipe_for(tmp_path / "kept", data, **groups).sha256()
    again = train(kept)  # comes by the same steps
    assert again.named("checkpoint_published") == []
    assert registry.listing(NAME).versions == [18, 24]


def test_one_that_fails_the_gate_is_left_out_and_the_training_goes_on(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ParityFailed("it does not answer alike")

    monkeypatch.setattr(checkpoint_publishing, "stage_decoder", refuse)
    recipe = recipe_for(tmp_path, data, saving={"checkpoints": 2})
    finished = train(recipe)
    assert [event["step"] for event in finished.named("checkpoint_left_out")] == [6, 12]
    assert len(finished.named("evaluated")) == 2
    assert Registry(Path(recipe.saving.store)).models() == []


@pytest.mark.parametrize(
    ("error", "code"),
    [(OSError(errno.ENOSPC, "No space left on device"), "disk_full"),
     (MemoryError(), "out_of_memory"), (RuntimeError("the builder's"), "crashed")],
)  # fmt: skip
def test_one_that_cannot_be_written_costs_the_training_nothing(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(checkpoint_publishing, "save_trained", fail)
    finished = train(recipe_for(tmp_path, data, saving={"checkpoints": 2}))
    left_out = finished.named("checkpoint_left_out")
    assert [(event["step"], event["code"]) for event in left_out] == [(6, code), (12, code)]
    assert len(finished.named("evaluated")) == 2


def test_what_is_killed_while_one_is_published_has_saved_its_progress(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """As sudden as a signal."""

    def kill(*_: object, **__: object) -> None:
        raise Killed

    recipe = recipe_for(tmp_path, data, saving={"checkpoints": 2})
    with monkeypatch.context() as once:
        once.setattr(checkpoint_publishing, "save_trained", kill)
        with pytest.raises(Killed):
            train(recipe)
    monkeypatch.setattr(checkpoint_publishing, "stage_decoder", refuse_it)
    finished = train(recipe)
    (resumed,) = finished.named("resumed")
    assert resumed["step"] == 6
    assert [evaluation["step"] for evaluation in resumed["evaluations"]] == [6]
    assert [event["step"] for event in finished.named("evaluated")] == [12]


def refuse_it(*_: object, **__: object) -> None:
    """Leave one out without an export, which takes seconds."""
    raise ParityFailed("it does not answer alike")


def test_no_more_time_is_taken_than_may_be(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_publishing, "_ALWAYS_S", 0.0)
    monkeypatch.setattr(checkpoint_publishing, "_SHARE", 0.0)
    asked: list[object] = []

    def refuse(*_: object, **__: object) -> None:
        asked.append(None)
        raise ParityFailed("it does not answer alike")

    monkeypatch.setattr(checkpoint_publishing, "stage_decoder", refuse)
    train(recipe_for(tmp_path, data, saving={"checkpoints": 2}))
    assert len(asked) == 1, "the first one, before anything was spent"
