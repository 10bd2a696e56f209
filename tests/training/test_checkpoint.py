"""A run that was broken off anywhere goes on where it was, and never from damaged files."""

import contextlib
import math
import shutil
import stat
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hone.models.errors import BundleCorrupt
from hone.training import checkpoint
from hone.training.checkpoint import BEST_FILE, load_best, load_checkpoint, save_checkpoint
from hone.training.loop import Interrupted
from hone.training.progress import Progress
from hone.training.row_schedule import RowLosses
from tests.training.runs import Loop, make_loop, named, same_weights, stop_before
from tests.training.tiny import STEPS, STEPS_PER_EPOCH, Task

FILES = (
    "model.safetensors",
    "optimizer.safetensors",
    "random.safetensors",
    "rows.safetensors",
    "state.json",
)


ORIGIN = {"processes": 1}


class KilledHere(BaseException):
    """Stands for a kill: nothing may catch it."""


@pytest.fixture(scope="module")
def uninterrupted(task: Task, tmp_path_factory: pytest.TempPathFactory) -> tuple[Loop, Progress]:
    loop = make_loop(task, tmp_path_factory.mktemp("uninterrupted"))
    return loop, loop.fine_tune()


def stopped(task: Task, folder: Path, step: int, *overrides: str) -> Loop:
    """Return a run that was asked to stop after so many steps."""
    loop = make_loop(task, folder, *overrides, stop_requested=stop_before(step + 1))
    with pytest.raises(Interrupted):
        loop.fine_tune()
    return loop


@pytest.mark.parametrize(
    "step", [1, STEPS_PER_EPOCH - 1, STEPS_PER_EPOCH, STEPS_PER_EPOCH + 1, STEPS - 1]
)
def test_a_run_that_was_stopped_ends_with_the_weights_of_one_that_was_not(
    task: Task, tmp_path: Path, uninterrupted: tuple[Loop, Progress], step: int
) -> None:
    expected, progress = uninterrupted
    first = stopped(task, tmp_path, step)
    assert named(first.events, "interrupted")[0]["step"] == step
    second = make_loop(task, tmp_path)
    again = second.fine_tune()
    assert named(second.events, "resumed")[0]["step"] == step
    assert same_weights(second.weights(), expected.weights())
    assert _numbers(again) == _numbers(progress)
    assert again.losses == progress.losses


def _numbers(progress: Progress) -> list[tuple[float, ...]]:
    return [(e["step"], e["accuracy"], e["loss"]) for e in progress.evaluations]


def test_a_run_may_be_stopped_again_and_again(
    task: Task, tmp_path: Path, uninterrupted: tuple[Loop, Progress]
) -> None:
    for more_steps in (5, 5, 20):
        stopped(task, tmp_path, more_steps)
    last = make_loop(task, tmp_path)
    last.fine_tune()
    assert named(last.events, "resumed")[0]["step"] == 30
    assert same_weights(last.weights(), uninterrupted[0].weights())


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.method=lora", "model.lora_rank=4"],
        ["training.precision=bf16"],
        ["training.gradient_accumulation=2", "training.train_embeddings=true"],
    ],
    ids=lambda overrides: overrides[0],
)
def test_every_kind_of_training_can_be_resumed(
    task: Task, tmp_path: Path, overrides: list[str]
) -> None:
    overrides = [*overrides, "training.epochs=2"]
    expected = make_loop(task, tmp_path / "whole", *overrides)
    expected.fine_tune()
    stopped(task, tmp_path / "broken", 17, *overrides)
    second = make_loop(task, tmp_path / "broken", *overrides)
    second.fine_tune()
    assert same_weights(second.weights(), expected.weights())


def test_a_finished_run_is_not_trained_again(task: Task, tmp_path: Path) -> None:
    first = make_loop(task, tmp_path, "training.epochs=1")
    first.fine_tune()
    second = make_loop(task, tmp_path, "training.epochs=1")
    second.fine_tune()
    assert named(second.events, "resumed")[0]["step"] == STEPS_PER_EPOCH
    assert named(second.events, "step") == []
    assert same_weights(first.weights(), second.weights())


def test_an_early_stop_is_remembered(task: Task, tmp_path: Path) -> None:
    overrides = ["optimizer.learning_rate=1e-30", "training.early_stopping_patience=1"]
    assert make_loop(task, tmp_path, *overrides).fine_tune().stopped_early
    second = make_loop(task, tmp_path, *overrides)
    assert second.fine_tune().stopped_early
    assert named(second.events, "step") == []


def test_checkpoints_are_written_as_often_as_the_recipe_says(task: Task, tmp_path: Path) -> None:
    loop = make_loop(task, tmp_path, "training.checkpoint_every_s=1e-9", "training.epochs=1")
    loop.fine_tune()
    steps = [event["step"] for event in named(loop.events, "checkpoint_saved")]
    assert steps == list(range(1, STEPS_PER_EPOCH + 1))
    assert [path.name for path in loop.run.folder.glob("*checkpoint*")] == ["checkpoint-12"]


def test_a_checkpoint_is_private_and_holds_no_pickle(task: Task, tmp_path: Path) -> None:
    loop = stopped(task, tmp_path, 3)
    folder = loop.run.folder / "checkpoint-3"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)


@pytest.fixture(scope="module")
def broken_off(task: Task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that was stopped in its second epoch."""
    return stopped(task, tmp_path_factory.mktemp("broken"), STEPS_PER_EPOCH + 3).run.folder


@pytest.fixture
def copy(task: Task, tmp_path: Path, broken_off: Path) -> Loop:
    """Return a loop over a copy of that folder, which a test may damage."""
    loop = make_loop(task, tmp_path)
    shutil.copytree(broken_off, loop.run.folder, dirs_exist_ok=True)
    return loop


def losses_of(loop: Loop) -> RowLosses:
    return RowLosses(len(loop.data.encoded["train"]))


def origin_of(loop: Loop) -> dict[str, Any]:
    settled = asdict(loop.run.settled)
    return {**settled, "base_revision": loop.run.base_revision, "processes": 1}


def resumed(loop: Loop) -> Progress | None:
    optimizer = loop.optimizer()
    return load_checkpoint(loop.run.folder, loop.model, optimizer, losses_of(loop), origin_of(loop))


def flip_a_byte(path: Path, place: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("place", [0.0, 0.02, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("file", [f"checkpoint-15/{name}" for name in FILES] + [BEST_FILE])
def test_a_checkpoint_with_a_flipped_bit_is_not_used(copy: Loop, file: str, place: float) -> None:
    before = copy.weights()
    flip_a_byte(copy.run.folder / file, place)
    assert resumed(copy) is None
    assert same_weights(copy.weights(), before)


def test_what_was_not_damaged_is_used(copy: Loop) -> None:
    progress = resumed(copy)
    assert progress is not None
    assert progress.step == STEPS_PER_EPOCH + 3


@pytest.mark.parametrize("file", [f"checkpoint-15/{name}" for name in FILES] + [BEST_FILE])
def test_a_checkpoint_that_lacks_a_file_is_not_used(copy: Loop, file: str) -> None:
    (copy.run.folder / file).unlink()
    assert resumed(copy) is None


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b'{"digest": 1}', b"\xff"])
def test_a_state_that_is_none_is_not_used(copy: Loop, content: bytes) -> None:
    (copy.run.folder / "checkpoint-15" / "state.json").write_bytes(content)
    assert resumed(copy) is None


def test_an_older_checkpoint_is_used_when_the_newest_is_damaged(copy: Loop) -> None:
    folder = copy.run.folder
    shutil.copytree(folder / "checkpoint-15", folder / "checkpoint-99")
    flip_a_byte(folder / "checkpoint-99" / "model.safetensors", 0.5)
    progress = resumed(copy)
    assert progress is not None
    assert progress.step == STEPS_PER_EPOCH + 3


def test_a_run_with_a_damaged_checkpoint_starts_anew_and_ends_the_same(
    copy: Loop, uninterrupted: tuple[Loop, Progress]
) -> None:
    flip_a_byte(copy.run.folder / "checkpoint-15" / "model.safetensors", 0.5)
    copy.fine_tune()
    assert named(copy.events, "resumed") == []
    assert same_weights(copy.weights(), uninterrupted[0].weights())


def test_weights_that_were_kept_are_not_loaded_when_damaged(copy: Loop) -> None:
    flip_a_byte(copy.run.folder / BEST_FILE, 0.9)
    with pytest.raises(BundleCorrupt, match=r"best\.safetensors is damaged: start anew"):
        load_best(copy.run.folder, copy.model)


def test_the_checkpoint_of_another_model_is_refused(task: Task, tmp_path: Path, copy: Loop) -> None:
    other = make_loop(task, tmp_path / "other", "model.method=lora")
    optimizer = other.optimizer()
    with pytest.raises(BundleCorrupt, match="of another model: start anew with --fresh"):
        load_checkpoint(copy.run.folder, other.model, optimizer, losses_of(copy), origin_of(other))
    copy.model.head = torch.nn.Linear(32, 5)
    with pytest.raises(BundleCorrupt, match="of another model"):
        resumed(copy)


def test_what_auto_settled_on_and_the_bases_weights_must_be_those_of_the_checkpoint(
    copy: Loop,
) -> None:
    before, run = copy.weights(), copy.run
    settled: Any = run.settled
    copy.run = replace(run, settled=replace(settled, max_tokens=32))
    with pytest.raises(BundleCorrupt, match=r"max_tokens 64 \(now 32\): .*with --fresh"):
        copy.fine_tune()
    copy.run = replace(run, base_revision="0" * 64)
    with pytest.raises(BundleCorrupt, match=r"base_revision [0-9a-f]{64} \(now 0{64}\)"):
        copy.fine_tune()
    assert same_weights(copy.weights(), before)


def test_the_loss_scale_of_half_precision_comes_back(task: Task, tmp_path: Path) -> None:
    loop = make_loop(task, tmp_path)
    state = loop.run.folder, loop.model, loop.optimizer()
    written, read = torch.amp.GradScaler("cpu", init_scale=512.0), torch.amp.GradScaler("cpu")
    save_checkpoint(*state, Progress(step=1), losses_of(loop), ORIGIN, written)
    load_checkpoint(*state, losses_of(loop), ORIGIN, read)
    assert read.state_dict() == written.state_dict()
    assert read.get_scale() == 512.0


def test_numbers_that_json_lacks_come_back(task: Task, tmp_path: Path) -> None:
    loop = make_loop(task, tmp_path)
    optimizer = loop.optimizer()
    written = Progress(step=2, losses=[(1, math.nan), (2, 0.1)])
    save_checkpoint(loop.run.folder, loop.model, optimizer, written, losses_of(loop), ORIGIN)
    read = load_checkpoint(loop.run.folder, loop.model, optimizer, losses_of(loop), ORIGIN)
    assert read is not None
    assert read.best_loss == math.inf
    assert math.isnan(read.losses[0][1])
    assert read.losses[1] == (2, 0.1)


BREAKS = ["save_file", "sha256_of_file", "durable.fsync_file", "durable.rename", "shutil.rmtree"]


def killed_at(monkeypatch: pytest.MonkeyPatch, name: str, call: int) -> Callable[[], None]:
    """Let the nth call of a function of `checkpoint` be the last thing that happens."""
    where, _, attribute = name.rpartition(".")
    place = getattr(checkpoint, where) if where else checkpoint
    real, count = getattr(place, attribute), 0

    def broken(*arguments: object, **options: object) -> object:
        nonlocal count
        count += 1
        if count == call:
            raise KilledHere
        return real(*arguments, **options)

    monkeypatch.setattr(place, attribute, broken)
    return lambda: monkeypatch.setattr(place, attribute, real)


@pytest.mark.parametrize("call", [1, 2, 3, 4])
@pytest.mark.parametrize("name", BREAKS)
def test_a_kill_while_a_checkpoint_is_written_leaves_the_old_or_the_new(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, call: int
) -> None:
    loop = make_loop(task, tmp_path)
    state = loop.model, loop.optimizer()
    losses = losses_of(loop)
    save_checkpoint(loop.run.folder, *state, Progress(step=1), losses, ORIGIN)
    mend = killed_at(monkeypatch, name, call)
    with contextlib.suppress(KilledHere):
        save_checkpoint(loop.run.folder, *state, Progress(step=2), losses, ORIGIN)
    mend()
    progress = load_checkpoint(loop.run.folder, *state, losses, ORIGIN)
    assert progress is not None
    assert progress.step in {1, 2}
    save_checkpoint(loop.run.folder, *state, Progress(step=3), losses, ORIGIN)
    assert [path.name for path in loop.run.folder.iterdir()] == ["checkpoint-3"]


@pytest.fixture(autouse=True)
def _no_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what only a power cut would need; half of these tests' time is that."""
    monkeypatch.setattr("os.fsync", lambda _: None)
