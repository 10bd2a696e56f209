"""Real processes, killed: the same command goes on and publishes what would have been published."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hone.models.names import ModelReference
from hone.models.registry import Registry
from hone.training.continuing import WEIGHTS_FILE
from tests.training.processes import hone_train
from tests.training.runs import Outcome, Trained, make_loop, named, staged, versions
from tests.training.tiny import STEPS, STEPS_PER_EPOCH, Task

OFTEN = "training.checkpoint_every_s=0.1"
EPOCHS = 30
"""More than a process gets done before its unread events make it wait."""
LONG = f"training.epochs={EPOCHS}"


def weights(store: Path) -> dict[str, torch.Tensor]:
    bundle = Registry(store).open(ModelReference("tiny"))
    found: dict[str, torch.Tensor] = load_file(bundle.file(WEIGHTS_FILE))
    return found


def test_a_killed_training_goes_on_and_ends_as_if_nothing_had_been(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = task.overrides(tmp_path, OFTEN, LONG, 'saving.variants=["fp32"]')
    with hone_train(words, tmp_path) as process:
        process.read_until("checkpoint_saved", step=STEPS_PER_EPOCH + 5)
        process.popen.kill()
        assert process.end() == -signal.SIGKILL
        last = max(event["step"] for event in named(process.events, "checkpoint_saved"))
    assert last < EPOCHS * STEPS_PER_EPOCH
    assert versions(tmp_path / "store") == []

    with hone_train(words, tmp_path) as process:
        assert process.end() == 0, process.errors
    (resumed,) = named(process.events, "resumed")
    assert resumed["step"] >= last
    assert versions(tmp_path / "store") == [1]
    assert staged(tmp_path / "store") == []

    monkeypatch.setattr("os.fsync", lambda _: None)
    uninterrupted = make_loop(task, tmp_path / "again", LONG)
    uninterrupted.fine_tune()
    expected, found = uninterrupted.weights(), weights(tmp_path / "store")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.allclose(found[name], tensor, atol=1e-6), name


def test_asked_to_end_it_writes_a_checkpoint_and_says_so_by_its_status(
    task: Task, tmp_path: Path, train: Callable[..., Outcome]
) -> None:
    with hone_train(task.overrides(tmp_path, OFTEN, LONG), tmp_path) as process:
        started = process.read_until("run_started")
        process.read_until("checkpoint_saved")

        second = train(OFTEN, LONG)
        assert second.status == 1
        assert "error: another process is training in" in " ".join(second.errors.split())
        assert second.events[-1]["code"] == "conflict"

        assert process.end(signal.SIGTERM) == 75
    assert process.events[-1]["event"] == "interrupted"
    step = process.events[-1]["step"]
    assert (Path(started["folder"]) / f"checkpoint-{step}").is_dir()
    assert process.errors == ""
    assert versions(tmp_path / "store") == []


def test_killed_while_it_exports_it_publishes_one_version_when_run_again(
    task: Task, tmp_path: Path, trained: Trained, train: Callable[..., Outcome]
) -> None:
    driver = ["tests.training.kill_driver", "int8"]
    with hone_train(task.overrides(tmp_path), tmp_path, module=driver) as process:
        assert process.end() == -signal.SIGKILL
    assert [e["variant"] for e in named(process.events, "exported")] == ["fp32"]
    assert versions(tmp_path / "store") == []
    assert len(staged(tmp_path / "store")) == 1

    again = train()
    assert again.status == 0, again.errors
    assert named(again.events, "resumed")[0]["step"] == STEPS
    assert named(again.events, "step") == []
    assert versions(tmp_path / "store") == [1]
    assert staged(tmp_path / "store") == []
    expected = load_file(trained.bundle.file(WEIGHTS_FILE))
    assert all(
        torch.allclose(tensor, expected[name], atol=1e-6)
        for name, tensor in weights(tmp_path / "store").items()
    )
    assert [path.name for path in Path(again.events[0]["folder"]).iterdir() if path.is_dir()] == []
