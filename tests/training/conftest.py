"""One finished run, shared by all tests that only look at it."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState

from hone.training.command import train_command
from hone.training.events import read_events
from tests.training.runs import Trained
from tests.training.tiny import Task, make_task


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Add in one order, so that a run in another process can be compared to the last bit."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_state_of_accelerate() -> Iterator[None]:
    """Let each test begin as a fresh process would: accelerate settles precision only once."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all workers of one test run have in common."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "training"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def task(shared: Path) -> Task:
    """Return a tiny base and its data."""
    with (shared / "task.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "data").exists():
            return make_task(shared)
        return Task(shared / "tiny-bert", shared / "data")


@pytest.fixture(scope="session")
def trained(shared: Path, task: Task) -> Trained:
    """Train and publish once; tests must leave the store as it is."""
    events = shared / "events.jsonl"
    with (shared / "trained.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not events.exists():
            train_command("classifier", task.overrides(shared), events=str(events))
    return Trained(task.recipe(shared), shared / "store", list(read_events(events)))
