"""Whole runs on a tiny data set: what is published answers, and is told truly."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from hone.models.errors import InvalidExamples, InvalidRecipe
from hone.models.imaging.decoding import decode_picture
from hone.models.imaging.predictor import load_picture_predictor
from hone.models.names import parse_reference
from hone.models.registry import Registry
from hone.training.continuing import WEIGHTS_FILE
from hone.training.images.loading import PictureFiles
from hone.training.images.mistakes import Mistake, confident_mistakes, contact_sheet
from hone.training.loop import Interrupted
from hone.training.process import _say_next
from tests.pictures import encoded, picture
from tests.training.images.conftest import COLOURS, PictureTask, TrainedPictures, train
from tests.training.images.families import SIDE, saved


def test_the_published_variants_tell_new_pictures_apart(trained_pictures: TrainedPictures) -> None:
    manifest = trained_pictures.bundle.manifest
    assert (manifest.task, manifest.labels) == ("image-classification", ["green", "red"])
    assert set(manifest.variants) == {"fp32", "int8"}
    assert manifest.parity["fp32"].equal_predictions == 1.0
    assert manifest.picture_rule.height == 16
    for variant in manifest.variants:
        predictor = load_picture_predictor(trained_pictures.bundle, variant=variant)
        shots = [encoded(picture(COLOURS[label], seed=900)) for label in manifest.labels]
        assert predictor.probabilities(predictor.encode(shots)).argmax(axis=1).tolist() == [0, 1]


def test_int8_is_smaller_and_says_what_it_left_in_fp32(trained_pictures: TrainedPictures) -> None:
    sizes = {entry.path: entry.size for entry in trained_pictures.bundle.manifest.files}
    assert sizes["model.int8.onnx"] < 0.5 * sizes["model.fp32.onnx"]
    (told,) = [event for event in trained_pictures.events if event["event"] == "quantized"]
    assert told["left_out"].startswith("the head")


def test_the_bundle_names_the_prompt_and_how_its_tokens_are_counted(
    trained_pictures: TrainedPictures,
) -> None:
    baseline = trained_pictures.bundle.manifest.baseline
    assert baseline is not None
    assert "green, red" in baseline.instruction
    assert (baseline.method, baseline.examples) == ("estimated:gpt-4o-tiles", [])


@pytest.mark.slow
def test_a_transformer_is_adapted_with_weighted_classes_and_published(
    picture_task: PictureTask, tmp_path: Path
) -> None:
    base = saved("vit", tmp_path)
    size = {"height": SIDE, "width": SIDE}
    processor = {"image_processor_type": "ViTImageProcessor", "size": size, "do_normalize": True,
                 "image_mean": [0.5] * 3, "image_std": [0.5] * 3}  # fmt: skip
    (base / "preprocessor_config.json").write_text(json.dumps(processor))
    recipe = picture_task.recipe(
        tmp_path,
        f"model.base={base}",
        "model.method=lora",
        "model.picture_size=auto",
        "dataset.class_weights=balanced",
    )
    manifest, events = train(recipe)
    assert manifest is not None
    assert manifest.recipe.content["dataset"]["class_weights"] == "balanced"
    assert manifest.picture_rule.height == SIDE
    (settled,) = [event for event in events if event["event"] == "settled"]
    assert 0 < settled["trained_parameters"] < settled["all_parameters"] / 2
    served = Registry(tmp_path / "store").open(parse_reference("tiny"))
    predictor = load_picture_predictor(served)
    shots = [encoded(picture(COLOURS[label], seed=900)) for label in manifest.labels]
    assert predictor.probabilities(predictor.encode(shots)).shape == (2, 2)


def test_the_card_speaks_of_pictures(trained_pictures: TrainedPictures) -> None:
    text = re.sub(r"<[^>]+>", " ", trained_pictures.card)
    assert "Gives a picture one of 2 labels" in text
    assert "16 x 16 pixels" in text
    assert "test picture was answered wrongly" in text or "most confident mistakes" in text
    assert "How pictures are made alike" in text


def test_nothing_of_the_run_is_left_but_its_card(trained_pictures: TrainedPictures) -> None:
    folder = trained_pictures.store.parent
    left = {path.name for run in folder.glob("runs/*") for path in run.iterdir()}
    assert left == {".lock", "card.html"}


def test_a_run_that_was_stopped_goes_on_to_the_very_same_weights(
    picture_task: PictureTask, trained_pictures: TrainedPictures, tmp_path: Path
) -> None:
    calls = iter(range(10_000))
    decoding = 80  # one question for each picture that is decoded
    with pytest.raises(Interrupted):
        train(picture_task.recipe(tmp_path), stop_requested=lambda: next(calls) >= decoding + 6)
    assert not (tmp_path / "store/tiny").exists()
    assert list(tmp_path.glob("runs/*/checkpoint-*"))
    _, events = train(picture_task.recipe(tmp_path))
    assert [event["event"] for event in events if event["event"] == "resumed"] == ["resumed"]
    (mine,) = tmp_path.glob(f"store/tiny/1/{WEIGHTS_FILE}")
    once, twice = load_file(mine), load_file(trained_pictures.bundle.file(WEIGHTS_FILE))
    assert once.keys() == twice.keys()
    assert all(np.array_equal(once[name], twice[name]) for name in once)


def test_pictures_that_were_changed_after_preparing_are_refused(
    picture_task: PictureTask, tmp_path: Path
) -> None:
    copied = PictureTask(shutil.copytree(picture_task.data, tmp_path / "data"))
    row = json.loads((copied.data / "train.jsonl").read_text().splitlines()[0])
    (copied.data / row["image"]).write_bytes(encoded(picture((0, 0, 0)), "PNG"))
    with pytest.raises(InvalidExamples, match="was changed after it was prepared"):
        train(copied.recipe(tmp_path))
    (copied.data / row["image"]).unlink()
    with pytest.raises(InvalidExamples, match="cannot be read"):
        train(copied.recipe(tmp_path))
    assert Registry(tmp_path / "store").models() == []


@pytest.mark.parametrize("way", ["absolute", "above", "link", "folder"])
def test_pictures_that_lie_outside_of_the_prepared_folder_are_refused(
    picture_task: PictureTask, tmp_path: Path, way: str
) -> None:
    """They could be read: it is where they lie that is refused, and all that are named."""
    copied = PictureTask(shutil.copytree(picture_task.data, tmp_path / "data"))
    table = copied.data / "train.jsonl"
    first, *others = table.read_text().splitlines()
    row = json.loads(first)
    outside = tmp_path / "outside" / Path(row["image"]).name
    outside.parent.mkdir()
    outside.write_bytes((copied.data / row["image"]).read_bytes())
    (copied.data / "pictures/link.png").symlink_to(outside)
    (copied.data / "linked").symlink_to(outside.parent)
    row["image"] = {
        "absolute": str(outside),
        "above": f"pictures/../../outside/{outside.name}",
        "link": "pictures/link.png",
        "folder": f"linked/{outside.name}",
    }[way]
    table.write_text("\n".join([json.dumps(row), *others]) + "\n")
    with pytest.raises(InvalidExamples, match="names pictures that lie outside of its folder") as e:
        train(copied.recipe(tmp_path))
    assert repr(row["image"][:120]) in str(e.value)
    assert Registry(tmp_path / "store").models() == []


def test_a_path_that_no_file_can_have_is_told(picture_task: PictureTask, tmp_path: Path) -> None:
    copied = PictureTask(shutil.copytree(picture_task.data, tmp_path / "data"))
    table = copied.data / "train.jsonl"
    first, *others = table.read_text().splitlines()
    row = json.loads(first) | {"image": "pictures/a\0.png"}
    table.write_text("\n".join([json.dumps(row), *others]) + "\n")
    with pytest.raises(InvalidExamples, match="cannot be read: there is no such file"):
        train(copied.recipe(tmp_path))


def test_a_tokenizer_for_pictures_is_refused(picture_task: PictureTask, tmp_path: Path) -> None:
    with pytest.raises(InvalidRecipe, match="for texts"):
        train(picture_task.recipe(tmp_path, "baseline.tokenizer=x.json"))


def test_the_contact_sheet_shows_the_most_confident_mistakes_first(tmp_path: Path) -> None:
    logits = np.array([[3, 0], [0, 1], [4, 0], [0, 5], [9, 0]], dtype=np.float32)
    classes = np.array([1, 0, 0, 0, 1])
    mistakes = confident_mistakes(logits, classes, ["cat", "dog"], 1.0)
    assert [mistake.row for mistake in mistakes] == [4, 3, 0, 1]
    assert (mistakes[0].truth, mistakes[0].answer) == ("dog", "cat")
    names = [f"{row}.png" for row in range(5)]
    for row, name in enumerate(names):
        (tmp_path / name).write_bytes(encoded(picture((50 * row, 90, 90)), "PNG"))
    photos = contact_sheet(mistakes, PictureFiles(names, tmp_path))
    assert [list(photo.lines) for photo in photos] == [
        ["dog", "→ cat 1.00"],
        ["cat", "→ dog 0.99"],
        ["dog", "→ cat 0.95"],
        ["cat", "→ dog 0.73"],
    ]
    for photo in photos:
        assert decode_picture(photo.content).size == (48, 40)  # as large as it is, and no larger
        assert (photo.width, photo.height) == (48, 40)


def test_large_pictures_are_small_on_the_contact_sheet_and_labels_are_whole(tmp_path: Path) -> None:
    (tmp_path / "large.jpg").write_bytes(encoded(picture((9, 90, 200), size=(900, 1500))))
    label = "Großer Schweizer Sennenhund 大瑞士山地犬"
    files = PictureFiles(["large.jpg"], tmp_path)
    (photo,) = contact_sheet([Mistake(0, label, "ß" * 99, 0.5)], files)
    assert (photo.width, photo.height) == (106, 176)
    assert decode_picture(photo.content).size == (211, 352)
    assert photo.lines[0] == label
    assert photo.lines[1] == f"→ {'ß' * 59}… 0.50"


def test_what_to_do_next_is_said_for_pictures(
    trained_pictures: TrainedPictures, capsys: pytest.CaptureFixture[str]
) -> None:
    _say_next(trained_pictures.bundle.manifest, "store")
    assert "-F model=tiny -F image=@PICTURE" in capsys.readouterr().out
