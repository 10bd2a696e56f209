"""Several processes train one model, publish it once, and stop together."""

import signal
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from hone.models.errors import BundleCorrupt
from hone.training.checkpoint import load_checkpoint
from hone.training.row_schedule import RowLosses
from tests.training.processes import hone_train
from tests.training.runs import make_loop, named, staged, versions
from tests.training.tiny import EPOCHS, ROWS, Task, make_task, with_rare_label

pytestmark = pytest.mark.slow

STILL = ["model.dropout=0.0", "training.token_dropout=0.0", 'saving.variants=["fp32"]']


@pytest.fixture(scope="module")
def still_task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    """Return a task with nothing random in its training but the order."""
    return make_task(tmp_path_factory.mktemp("still"), dropout=0.0)


def test_two_processes_learn_what_one_does_and_publish_it_once(
    still_task: Task, tmp_path: Path
) -> None:
    # Batches of seven rows that weigh differently: the two shares never weigh the same, and the
    # last batch of an epoch is short.
    uneven = [*STILL, "training.batch_size=7", "dataset.class_weights=balanced"]
    task = with_rare_label(still_task, tmp_path / "data")
    words = [*task.overrides(tmp_path, *uneven), "--processes", "2"]
    with hone_train(words, tmp_path) as process:
        assert process.end() == 0, process.errors
        assert process.family() == []
    for name in ("run_started", "settled", "calibrated", "published"):
        assert len(named(process.events, name)) == 1
    assert len(named(process.events, "evaluated")) == EPOCHS
    assert versions(tmp_path / "store") == [1]
    assert staged(tmp_path / "store") == []
    alone = make_loop(task, tmp_path / "alone", *uneven)
    expected = [evaluation["loss"] for evaluation in alone.fine_tune().evaluations]
    found = [event["loss"] for event in named(process.events, "evaluated")]
    assert found == pytest.approx(expected, rel=1e-3)


def test_asked_to_end_all_stop_at_one_step_and_none_is_left(
    still_task: Task, tmp_path: Path
) -> None:
    # Seven rows for two processes in three parts: one has four rows, the other three.
    uneven = ["training.batch_size=7", "training.gradient_accumulation=3", "training.epochs=500"]
    words = [*still_task.overrides(tmp_path, *STILL, *uneven), "--processes", "2"]
    with hone_train(words, tmp_path) as process:
        process.read_until("evaluated")
        assert process.end(signal.SIGTERM) == 75
        assert process.family() == []
    assert process.events[-1]["event"] == "interrupted"
    loop = make_loop(still_task, tmp_path, *STILL, *uneven)
    optimizer = loop.optimizer()
    losses = RowLosses(ROWS["train"])
    origin = {**asdict(loop.run.settled), "base_revision": loop.run.base_revision}
    state = loop.run.folder, loop.model, optimizer, losses
    progress = load_checkpoint(*state, {**origin, "processes": 2})
    assert progress is not None
    assert progress.step == process.events[-1]["step"]
    if progress.step % loop.run.settled.schedule(ROWS["train"]).steps(0):
        assert (~np.isnan(losses.fresh)).sum() > 0
    with pytest.raises(BundleCorrupt, match=r"processes 2 \(now 1\).*start anew with --fresh"):
        load_checkpoint(*state, {**origin, "processes": 1})


def test_none_is_left_when_the_one_that_started_them_is_killed(
    still_task: Task, tmp_path: Path
) -> None:
    words = [*still_task.overrides(tmp_path, *STILL, "training.epochs=500"), "--processes", "2"]
    with hone_train(words, tmp_path) as process:
        process.read_until("evaluated")
        assert len(process.family()) == 3
        process.popen.kill()
        deadline = time.monotonic() + 30
        while process.family() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert process.family() == []


def test_an_error_of_all_is_said_once(still_task: Task, tmp_path: Path) -> None:
    words = still_task.overrides(tmp_path, "dataset.path=/nowhere")
    with hone_train([*words, "--processes", "2"], tmp_path) as process:
        assert process.end() == 1
        assert process.family() == []
    assert process.errors == "error: there is no file /nowhere/train.jsonl\n"
    assert [event["event"] for event in process.events] == ["failed"]
