"""One finished run, shared by all tests that only look at it."""

import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from safetensors.torch import load_file

from hone import cli
from hone.models.catalogue import find_base
from hone.models.manifest import Variant
from hone.training.classifier import TextClassifier, build_classifier
from hone.training.command import train_command
from hone.training.continuing import WEIGHTS_FILE
from hone.training.events import read_events
from hone.training.feeding import TextFeed, run_over
from hone.training.loading import Data, load_data
from hone.training.parity import Reference
from hone.training.progress import Progress
from tests.training.runs import Outcome, Sabotage, Trained, as_it_is, spoil
from tests.training.tiny import LABELS, Task, make_task


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


@pytest.fixture(scope="session")
def data(trained: Trained) -> Data:
    """Return the examples of the finished run."""
    return load_data(trained.recipe, find_base(trained.recipe.model.base))[0]


@pytest.fixture(scope="session")
def model(trained: Trained) -> TextClassifier:
    """Return the model that was trained, from the weights in its bundle."""
    classifier = build_classifier(
        find_base(trained.recipe.model.base),
        trained.recipe.model,
        labels=len(LABELS),
        train_embeddings=False,
    )
    classifier.load_state_dict(load_file(trained.bundle.file(WEIGHTS_FILE)))
    return classifier.eval()


@pytest.fixture(scope="session")
def reference(model: TextClassifier, data: Data) -> Reference:
    """Return the trained model's answers to the validation texts."""
    rows = data.encoded["validation"]
    logits = run_over(model, rows, model, feed=TextFeed(data.tokenizer.pad_id)).numpy()
    texts = [example.text for example in data.examples["validation"]]
    return Reference(tuple(data.labels), texts, logits, rows.classes)


@pytest.fixture
def ready(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> dict[Variant, Sabotage]:
    """Let a run find its model trained and its export made, for all that does not look at these.

    A test may name what is done to the export of a variant, of which it then gets an fp32 copy.
    """
    spoilt: dict[Variant, Sabotage] = {}

    def fine_tune(model: TextClassifier, *_: object) -> Progress:
        model.load_state_dict(load_file(trained.bundle.file(WEIGHTS_FILE)))
        return Progress(step=1)

    def write_variant(model: TextClassifier, variant: Variant, file: Path, *, fp32: Path) -> None:
        source: Variant = "fp32" if variant in spoilt else variant
        spoil(trained.bundle.variant_file(source), file, spoilt.get(variant, as_it_is))

    monkeypatch.setattr("hone.training.classification.fine_tune", fine_tune)
    monkeypatch.setattr("hone.training.delivery.write_variant", write_variant)
    return spoilt


@pytest.fixture
def train(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """Return `hone train` on the tiny task, in this process, into the test's own folder."""

    def train(*words: str) -> Outcome:
        events = tmp_path / "events.jsonl"
        arguments = ["classifier", "--events", str(events), *task.overrides(tmp_path, *words)]
        monkeypatch.setattr(sys, "argv", ["hone", "train", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        AcceleratorState._reset_state(reset_partial_state=True)
        said = capfd.readouterr()
        found = list(read_events(events)) if events.exists() else []
        return Outcome(int(ended.value.code or 0), said.out, said.err, found)

    return train
