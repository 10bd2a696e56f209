"""A tiny data set of coloured pictures, and one run on it that all tests share."""

import fcntl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState

from hone.models.bundle import Bundle
from hone.models.manifest import Manifest
from hone.models.names import ModelReference
from hone.models.registry import Registry
from hone.training.events import Event, Events
from hone.training.images.recipe import ImageRecipe
from hone.training.preparation.pictures.prepare import prepare_pictures
from hone.training.preparation.prepare import PrepareOptions
from hone.training.recipe_files import RECIPES_FOLDER, load_recipe_of
from hone.training.run import run_recipe
from tests.pictures import encoded, picture

COLOURS = {"green": (40, 170, 60), "red": (190, 40, 40)}
EACH = 40


@dataclass(frozen=True)
class PictureTask:
    """A prepared folder, and recipes that train on it into a folder of the caller's."""

    data: Path

    def recipe(self, folder: Path, *overrides: str) -> ImageRecipe:
        return load_recipe_of(
            ImageRecipe,
            RECIPES_FOLDER / "images.toml",
            [
                f"dataset.path={self.data}",
                "saving.name=tiny",
                f"saving.store={folder / 'store'}",
                f"saving.runs={folder / 'runs'}",
                "model.picture_size=16",
                "training.epochs=2",
                "training.precision=fp32",
                *overrides,
            ],
        )


@dataclass(frozen=True)
class TrainedPictures:
    """A finished run: what it published and told."""

    store: Path
    events: list[Event]
    card: str

    @property
    def bundle(self) -> Bundle:
        return Registry(self.store).open(ModelReference("tiny"))


def train(
    recipe: ImageRecipe, *, stop_requested: Callable[[], bool] = lambda: False
) -> tuple[Manifest | None, list[Event]]:
    """Run a recipe in this process."""
    told: list[Event] = []
    try:
        events = Events(told.append)
        return run_recipe(recipe, events=events, stop_requested=stop_requested), told
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session")
def picture_task(tmp_path_factory: pytest.TempPathFactory) -> PictureTask:
    root = tmp_path_factory.mktemp("photos")
    for label, colour in COLOURS.items():
        (root / "photos" / label).mkdir(parents=True)
        for seed in range(EACH):
            image = picture(colour, seed=seed + 100 * len(label))
            (root / "photos" / label / f"{seed}.png").write_bytes(encoded(image, "PNG"))
    prepare_pictures(PrepareOptions(file=root / "photos", out=root / "data"), lambda _: True)
    return PictureTask(root / "data")


@pytest.fixture(scope="session")
def trained_pictures(
    picture_task: PictureTask, tmp_path_factory: pytest.TempPathFactory
) -> TrainedPictures:
    """Train and publish once; tests must leave the store as it is."""
    folder = tmp_path_factory.mktemp("trained")
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _, events = train(picture_task.recipe(folder))
    (card,) = folder.glob("runs/*/card.html")
    return TrainedPictures(folder / "store", events, card.read_text())
