"""Running the training on the tiny task: one loop, or everything up to the published bundle."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from accelerate.utils import set_seed
from torch import Tensor

from hone.models.bundle import Bundle
from hone.models.catalogue import find_base
from hone.models.manifest import Manifest
from hone.models.names import ModelReference
from hone.models.registry import Registry
from hone.training.classifier import TextClassifier, build_classifier, weights_revision
from hone.training.events import Event, Events
from hone.training.feeding import TextFeed
from hone.training.finetune import Run, fine_tune
from hone.training.loading import Data, load_data
from hone.training.optimization import make_optimizer
from hone.training.progress import Progress
from hone.training.recipe import ClassifierRecipe
from hone.training.run_context import run_folder
from tests.training.tiny import Task

ROOT = Path(__file__).resolve().parents[2]
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
"""For processes that a test starts: their arithmetic is then that of the test's own process."""


@dataclass
class Trained:
    """A finished run of `hone train`."""

    recipe: ClassifierRecipe
    store: Path
    events: list[Event]

    @property
    def bundle(self) -> Bundle:
        return Registry(self.store).open(ModelReference(self.recipe.saving.name))

    @property
    def manifest(self) -> Manifest:
        return self.bundle.manifest

    def named(self, name: str) -> list[Event]:
        return named(self.events, name)


@dataclass(frozen=True)
class Outcome:
    """What a command left behind: exit status, standard output and error, events."""

    status: int
    output: str
    errors: str
    events: list[Event]


Sabotage = Callable[[onnx.ModelProto], None]


def as_it_is(model: onnx.ModelProto) -> None:
    """Change nothing."""


def spoil(good: Path, bad: Path, sabotage: Sabotage) -> Path:
    """Write a changed copy of an exported model."""
    model = onnx.load(good)
    sabotage(model)
    onnx.save(model, bad)
    return bad


def named(events: list[Event], name: str) -> list[Event]:
    """Return the events of one name."""
    return [event for event in events if event["event"] == name]


@dataclass
class Loop:
    """The training loop without what comes after it."""

    model: TextClassifier
    data: Data
    run: Run
    events: list[Event]

    def fine_tune(self) -> Progress:
        return fine_tune(
            self.model, self.data.encoded["train"], self.data.encoded["validation"], self.run
        )

    def optimizer(self) -> torch.optim.Optimizer:
        settled, recipe = self.run.settled, self.run.recipe
        return make_optimizer(self.model, settled.learning_rate, recipe.optimizer)

    def weights(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self.model.state_dict().items()}


def make_loop(
    task: Task, folder: Path, *overrides: str, stop_requested: Callable[[], bool] = lambda: False
) -> Loop:
    """Load data and model as a run would; the same folder meets its checkpoints again."""
    recipe = task.recipe(folder, *overrides)
    base = find_base(recipe.model.base)
    data, settled = load_data(recipe, base)
    place = run_folder(recipe, data.records)
    place.mkdir(parents=True, exist_ok=True)
    set_seed(recipe.training.seed)
    model = build_classifier(
        base,
        recipe.model,
        labels=len(data.labels),
        train_embeddings=recipe.training.train_embeddings,
    )
    events: list[Event] = []
    tokenizer = data.tokenizer
    run = Run(
        place,
        recipe,
        settled,
        Events(events.append),
        stop_requested,
        weights_revision(base),
        feed=TextFeed(tokenizer.pad_id, tokenizer.mask_id, recipe.training.token_dropout),
        labels=data.labels,
    )
    return Loop(model, data, run, events)


def same_weights(some: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    """Whether all weights are equal to the last bit."""
    return some.keys() == others.keys() and all(torch.equal(some[n], others[n]) for n in some)


def stop_before(calls: int) -> Callable[[], bool]:
    """Return an answer to `stop_requested` that is yes from one call on; there is one a step."""
    count = 0

    def stop_requested() -> bool:
        nonlocal count
        count += 1
        return count >= calls

    return stop_requested


def versions(store: Path) -> list[int]:
    """Return the versions of the tiny model."""
    registry = Registry(store)
    return registry.listing("tiny").versions if "tiny" in registry.models() else []


def staged(store: Path) -> list[Path]:
    """Return what lies in the store's staging folder."""
    return [path for path in (store / ".staging").glob("*") if path.is_dir()]
