"""Running the whole pipeline on a tiny task."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hone.training.events import Event, Events
from hone.training.generation.causal_publishing import TrainedFolder
from hone.training.generation.conversations import Example, as_json
from hone.training.generation.generation_recipe import GenerationRecipe
from hone.training.run import run_recipe
from tests.training.generation.tiny import colour_rows, write_rows


@dataclass
class Finished:
    """A run, published or not, and what it told."""

    folder: Path
    events: list[Event]

    def named(self, name: str) -> list[Event]:
        return [event for event in self.events if event["event"] == name]


def write_splits(folder: Path, rows: Callable[[int, int], list[Example]] = colour_rows) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split, count, first in (("train", 48, 0), ("validation", 16, 48), ("test", 16, 64)):
        write_rows(folder / f"{split}.jsonl", [as_json(row) for row in rows(count, first)])
    return folder


def recipe_for(folder: Path, data: Path, **groups: dict[str, Any]) -> GenerationRecipe:
    given: dict[str, dict[str, Any]] = {
        "model": {
            "task": "text-generation",
            "base": "scratch:llama-1m",
            "vocabulary": 300,
            "positions": 64,
        },
        "dataset": {"path": str(data)},
        "training": {
            "epochs": 2.0,
            "batch_size": 8,
            "precision": "fp32",
            "evaluate_every_epochs": 1,
            "checkpoint_every_s": 1e9,
        },
        "sample_prompts": {"prompts": ["1 red blue ->"], "max_tokens": 8},
        "saving": {
            "name": "colours",
            "store": str(folder / "store"),
            "runs": str(folder / "runs"),
            "variants": ["fp32"],
        },
    }
    for name, group in groups.items():
        given[name] = {**given.get(name, {}), **group}
    return GenerationRecipe.model_validate(given)


def train(recipe: GenerationRecipe, stop_requested: Callable[[], bool] = lambda: False) -> Finished:
    events: list[Event] = []
    try:
        run_recipe(recipe, events=Events(events.append), stop_requested=stop_requested)
    finally:
        finished = Finished(Path(events[0]["folder"]), events)
    return finished


def without_publishing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the export, which takes seconds, to the test that looks at it."""

    def publish(_trained: TrainedFolder, _context: object) -> None:
        return None

    monkeypatch.setattr("hone.training.generation.text_generation.publish_causal", publish)
