"""The benchmark of pictures: its bare loop runs the model that the service runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.pictures.bare import Layout, Runner, layouts
from benchmarks.pictures.model import PictureModel, describe, read_pictures
from hone.models.imaging.predictor import load_picture_predictor
from hone.models.names import parse_reference
from hone.models.registry import Registry
from tests.pictures import encoded, picture
from tests.tiny_picture_bundle import publish_tiny_pictures

COLOURS = ((200, 40, 40), (40, 200, 40), (40, 40, 200))


@pytest.fixture
def model(tmp_path: Path) -> PictureModel:
    registry = Registry(tmp_path / "store")
    publish_tiny_pictures(registry)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, colour in enumerate(COLOURS * 4):
        kind = ("JPEG", "PNG")[number % 2]
        shot = encoded(picture(colour, size=(60, 44), seed=number), kind)
        (folder / f"{number}.{'jpg' if kind == 'JPEG' else 'png'}").write_bytes(shot)
    (folder / "notes.txt").write_text("no picture")
    return PictureModel(tmp_path / "store", registry.open(parse_reference("colours")), folder)


@pytest.fixture
def runner(model: PictureModel, tmp_path: Path) -> Runner:
    description: dict[str, Any] = json.loads(describe(model, tmp_path, None).read_text())
    return Runner(description, "fp32", read_pictures(model.pictures))


def test_the_bare_loop_gives_the_labels_that_the_service_gives(
    runner: Runner, model: PictureModel
) -> None:
    shots = read_pictures(model.pictures)
    predictor = load_picture_predictor(model.bundle, variant="fp32")
    places = predictor.logits(predictor.encode(shots)).argmax(axis=1).tolist()
    wanted = [model.bundle.manifest.labels[place] for place in places]
    assert set(wanted) == {"blue", "green", "red"}
    assert runner.run({"labels": 100})["labels"] == wanted


def test_pictures_come_in_one_order_and_other_files_are_left_out(model: PictureModel) -> None:
    assert len(read_pictures(model.pictures)) == 12
    assert read_pictures(model.pictures) == read_pictures(model.pictures)


@pytest.mark.parametrize("layout", layouts(2), ids=str)
def test_every_layout_runs(runner: Runner, layout: Layout) -> None:
    job = {"processes": layout.processes, "workers": layout.workers}
    job |= {"threads": layout.threads, "batch": layout.batch}
    assert runner.run({"layout": job, "seconds": 0.02, "start_at": 0.0})["per_s"] > 0


def test_one_after_the_other_has_a_median(runner: Runner) -> None:
    assert runner.run({"alone": 1, "seconds": 0.02})["p50_ms"] > 0
