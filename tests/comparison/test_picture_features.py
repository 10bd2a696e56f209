"""Examples that look like an item: found by a base's features, in a process that has torch."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import ResNetConfig, ResNetForImageClassification

from hone.comparison import picture_features
from hone.comparison.adoption import read_adoption
from hone.comparison.asking import Stopped
from hone.comparison.picture_features import PictureEncoder
from hone.comparison.readiness import make_ready
from hone.models.errors import HoneError, InvalidInput, ProcessFailed
from hone.models.imaging.feature_messages import BROKE, REFUSED, read_message
from hone.models.imaging.pictures import PictureFile
from hone.training.images import features
from tests.comparison.experiments import Silent, experiment_text, plan_of, prompt, run
from tests.comparison.picture_runs import compared_pictures, write_picture_data
from tests.comparison.upstream import upstream

ENDED = "the process that computes features ended with"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the folder of a small image classifier of random weights."""
    torch.manual_seed(0)
    sizes = {"hidden_sizes": [8, 16], "depths": [1, 1], "embedding_size": 8}
    folder = tmp_path_factory.mktemp("bases") / "tiny"
    config = ResNetConfig(layer_type="basic", num_labels=3, **sizes)
    ResNetForImageClassification(config).save_pretrained(folder)
    return str(folder)


def pictures_of(data: Path) -> list[PictureFile]:
    plan = plan_of(experiment_text(data, prompt("http://127.0.0.1:9/v1")))
    return [item.image for item in plan.material.items if item.image is not None]


def test_the_nearest_examples_are_of_the_items_colour(
    tmp_path: Path, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_picture_data(tmp_path / "data", train=30, named=True)
    with upstream() as server:
        near = prompt(server.address, "near", prompt="retrieved", k=2, base=base)
        finished = run(experiment_text(data, near), tmp_path / "out")
        gold = ["leaf", "apple", "sea"] * 3
        own = [outcome.label for outcome in finished.outcomes if outcome.contender == "near"]
        assert own == gold  # nothing but the examples says which label a colour has
        kept = sorted(path.name for path in (tmp_path / "out").glob("embeddings-*.f32"))
        assert len(kept) == 2
        monkeypatch.setattr(picture_features, "_COMMAND", "no.such.module")
        again = run(experiment_text(data, near), tmp_path / "out")
        assert again.outcomes == finished.outcomes  # what was computed is not computed again


def test_vectors_are_of_length_one_and_in_order(tmp_path: Path, base: str) -> None:
    pictures, counts = pictures_of(write_picture_data(tmp_path / "data")), list[int]()
    found = PictureEncoder.of(base).features(pictures, tmp_path, counts.append)
    assert found.shape == (9, 16)
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-5)
    assert sum(counts) == 9
    turned = PictureEncoder.of(base).features(pictures[::-1], tmp_path)
    assert np.allclose(turned, found[::-1], atol=1e-5)


def test_a_stop_ends_the_process_and_leaves_no_vectors(tmp_path: Path, base: str) -> None:
    pictures = pictures_of(write_picture_data(tmp_path / "data"))

    def stop(count: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        PictureEncoder.of(base).features(pictures, tmp_path, stop)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_what_the_process_says_is_the_error(tmp_path: Path, base: str) -> None:
    data = write_picture_data(tmp_path / "data")
    pictures = pictures_of(data)
    (data / "pictures/1000.jpg").unlink()
    with pytest.raises(InvalidInput, match=r"base: the picture green/1000.jpg .*no such file$"):
        PictureEncoder.of(base).features(pictures, tmp_path)


@pytest.mark.parametrize(
    ("does", "raised", "words", "kept"),
    [
        ("refuses", InvalidInput, "no such thing", None),
        ("breaks", ProcessFailed, "computing features failed inside (KeyError)", "KeyError: 'a k"),
        ("fails", ProcessFailed, f"{ENDED} status 1: ValueError: oh", "Traceback (most recent"),
        ("dies", ProcessFailed, f"{ENDED} signal 9", None),
        (
            "says nothing",
            InvalidInput,
            "says nothing has no commit that its features could go by",
            None,
        ),
    ],
)
def test_however_the_process_ends_a_sentence_says_so_and_a_traceback_is_kept(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    does: str,
    raised: type[HoneError],
    words: str,
    kept: str | None,
) -> None:
    monkeypatch.setattr(picture_features, "_COMMAND", "tests.comparison.feature_stand_in")
    with pytest.raises(HoneError) as caught:
        PictureEncoder(does, None).pinned(tmp_path)
    file = tmp_path / picture_features.FAILED_FILE
    assert type(caught.value) is raised
    where = "" if kept is None else f"; what it said is in {file}"
    assert str(caught.value) == f"base: {words}{where}"
    assert kept is None or kept in file.read_text()
    assert file.exists() == (kept is not None)


def test_what_broke_while_computing_is_kept_beside_the_vectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = pictures_of(write_picture_data(tmp_path / "data", test=3))
    monkeypatch.setattr(picture_features, "_COMMAND", "tests.comparison.feature_stand_in")
    with pytest.raises(ProcessFailed):
        PictureEncoder("breaks", "a revision").features(pictures, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"data", picture_features.FAILED_FILE}


@pytest.mark.parametrize("line", [b'{"base": "a", "pictures": 3}', b"{}", b'{"error": "", "a": 1}'])
def test_a_line_with_more_or_less_than_one_thing_is_no_message(line: bytes) -> None:
    assert read_message(line) is None


def test_a_base_is_pinned_once_for_all_that_retrieve_by_it(
    tmp_path: Path, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = "a1" * 20, "b2" * 20
    kept = hub_of(tmp_path, base, first, second, monkeypatch)
    data = write_picture_data(tmp_path / "data", train=6, test=3)
    with upstream() as server:
        near = {"prompt": "retrieved", "k": 1, "base": "hub:owner/name"}
        one, two = (prompt(server.address, name, **near) for name in ("one", "two"))

        class Moved(Silent):
            """Moves what the base's name stands for, between the contenders."""

            def begun(self, contender: str, steps: int, what: str) -> None:
                super().begun(contender, steps, what)
                if contender == "two":
                    (kept / "refs/main").write_text(second)

        run(experiment_text(data, one, two), tmp_path / "out", listener=Moved())
    assert len(list((tmp_path / "out").glob("embeddings-*.f32"))) == 2


def hub_of(
    folder: Path, base: str, first: str, second: str, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Keep a base under two commits as a hub's cache does; its name stands for the first."""
    kept = folder / "hub/models--owner--name"
    for commit in (first, second):
        shutil.copytree(base, kept / "snapshots" / commit)
    (kept / "refs").mkdir()
    (kept / "refs/main").write_text(first)
    monkeypatch.setenv("HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return kept


def test_an_error_inside_the_process_has_a_status_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    def breaks(*_: object) -> None:
        raise KeyError("a key")

    monkeypatch.setattr(features, "obtain_base", breaks)
    assert features.main(["somewhere"]) == BROKE
    assert features.main(["nowhere", "listed"]) == BROKE  # a command that is none
    monkeypatch.undo()
    assert features.main(["nowhere"]) == REFUSED
    said = [read_message(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert len(said) == 3
    assert all(message and "\n" not in (message.error or "") for message in said)


def test_a_base_of_a_hub_goes_by_its_commit(
    tmp_path: Path, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = "a1" * 20, "b2" * 20
    kept = hub_of(tmp_path, base, first, second, monkeypatch)
    encoder = PictureEncoder.of("hub:owner/name")
    pictures = pictures_of(write_picture_data(tmp_path / "data", test=3))
    with pytest.raises(ValueError, match="is not pinned"):
        encoder.features(pictures, tmp_path)
    before = encoder.pinned(tmp_path)
    assert before.base == before.revision == f"hub:owner/name@{first}"
    (kept / "refs/main").write_text(second)  # what the name stands for has moved
    after = encoder.pinned(tmp_path)
    assert after.revision == f"hub:owner/name@{second}"
    assert before.pinned(tmp_path) is before
    assert PictureEncoder.of(before.base) == before
    assert before.features(pictures, tmp_path).shape == (3, 16)
    [path] = tmp_path.glob("embeddings-*.f32")
    assert path.stem == f"embeddings-{before._key(pictures)}"
    assert before._key(pictures) != after._key(pictures)


def no_weights(folder: Path) -> str:
    (folder / "config.json").write_text("{}")
    return str(folder)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda _: "minilm", "minilm sees nothing in pictures"),
        (lambda _: "scratch:convnet", "scratch:convnet sees nothing in pictures"),
        (lambda _: "nowhere", "there is no base 'nowhere' for pictures"),
        (no_weights, "has no weights in safetensors"),
    ],
)
def test_a_base_that_reads_no_pictures_is_refused_before_anything_is_asked(
    tmp_path: Path, made: Callable[[Path], str], words: str
) -> None:
    data = write_picture_data(tmp_path / "data")
    near = prompt("http://127.0.0.1:9/v1", prompt="retrieved", k=2, base=made(tmp_path))
    with pytest.raises(HoneError) as caught:
        make_ready(plan_of(experiment_text(data, near)))
    assert "contender 'few': " in str(caught.value)
    assert words in str(caught.value)


def test_a_fallback_that_retrieves_pictures_is_refused(tmp_path: Path, base: str) -> None:
    with upstream() as server:
        retrieved: dict[str, Any] = {"prompt": "retrieved", "k": 1, "base": base}
        folder = compared_pictures(tmp_path, server, **retrieved)
    with pytest.raises(InvalidInput, match="retrieves pictures, which a service cannot do"):
        read_adoption(folder, despite_verdict=True)
