"""Comparisons about pictures: the report, the answers after a kill, and real photos."""

import json
import re
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest

from hone.comparison.judging import judge
from hone.comparison.question import Question
from hone.models.cells import Thumbnail, html_cell, markdown_cell
from hone.models.imaging.pictures import PictureBytes
from hone.models.imaging.thumbnails import THUMBNAIL_SIDE, thumbnail
from hone.models.registry import Registry
from tests.comparison.experiments import experiment_text, plan_of, prompt, run, write_lines
from tests.comparison.killing import answered, start, wait_for
from tests.comparison.picture_runs import colour_file, compared_pictures, write_picture_data
from tests.comparison.upstream import Behaviour, upstream
from tests.pictures import CATS_DOGS, encoded, picture, png_bomb, shared
from tests.tiny_picture_bundle import publish_tiny_pictures

_IMAGE = re.compile(r'<img class="thumbnail" src="data:image/jpeg;base64,([^"]+)" alt="([^"]+)"')


def judged_again(folder: Path) -> None:
    judge(folder, Question.model_validate_json((folder / "question.json").read_bytes()))


def test_the_report_shows_what_flipped_small_and_by_name(tmp_path: Path) -> None:
    with upstream() as server:
        folder = compared_pictures(tmp_path, server, test=60)
    flips = orjson.loads((folder / "report.json").read_bytes())["broken"]
    assert len(flips) == 30
    assert flips[0]["text"] == "red/1001.jpg"
    page, words = (folder / "report.html").read_text(), (folder / "report.md").read_text()
    shown = _IMAGE.findall(page)
    assert [name for _, name in shown] == [flip["text"] for flip in flips]
    assert max(len(content) for content, _ in shown) < 12_000
    for flip in flips:
        assert flip["text"] in words
    assert "data:image/jpeg" not in words
    for row in (folder.parent / "data/pictures").iterdir():
        row.unlink()
    judged_again(folder)  # without its pictures the report has their names
    assert not _IMAGE.search((folder / "report.html").read_text())
    assert "red/1001.jpg" in (folder / "report.html").read_text()


def test_a_thumbnail_is_a_small_jpeg_whatever_the_picture_is() -> None:
    wide = thumbnail(PictureBytes(encoded(picture((9, 9, 200), size=(1600, 200)), "PNG")))
    assert wide is not None
    assert PictureBytes(wide).tokens == 255
    assert len(wide) < 8_000
    assert THUMBNAIL_SIDE <= 200
    for broken in (b"", b"no picture", colour_file("red", 1)[:-60], png_bomb(13_000)):
        assert thumbnail(PictureBytes(broken)) is None


def test_a_name_is_only_text_in_a_cell() -> None:
    name = '"><script>|`x`'
    for cell in (Thumbnail(name, b"x"), Thumbnail(name, None)):
        assert "<script>" not in html_cell(cell)
        assert markdown_cell(cell) == '"\\>\\<script\\>\\|\\`x\\`'


def test_a_killed_run_pays_for_no_answer_twice(tmp_path: Path) -> None:
    data = write_picture_data(tmp_path / "data", test=30)
    with upstream(Behaviour(delay_s=0.04)) as server:
        text = experiment_text(data, prompt(server.address, k=3), limits={"dollars": 100.0})
        process = start(text, tmp_path)
        wait_for(server, 9, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        server.settle()
        kept, before = answered(tmp_path), len(server.served)
        for path in (data / "pictures").iterdir():  # elsewhere, and by other names, the same
            path.rename(path.with_stem(f"moved-{path.stem}"))
        for split in ("train", "test"):
            rows = [json.loads(line) for line in (data / f"{split}.jsonl").read_text().splitlines()]
            moved = [row | {"image": row["image"].replace("/", "/moved-")} for row in rows]
            write_lines(data / f"{split}.jsonl", moved)
        finished = run(text, tmp_path / "out")
        assert len(server.served) - before == 30 - kept
    assert {outcome.kind for outcome in finished.outcomes} == {"answered"}
    asked = Counter(str(one.body) for one in server.served)
    assert len(asked) == 30
    assert sum(count - 1 for count in asked.values()) <= 4


def test_real_photos_are_read_as_they_are_served(tmp_path: Path) -> None:
    photos = shared(CATS_DOGS)
    if not photos.is_dir():
        pytest.skip("the photos are not here")
    publish_tiny_pictures(Registry(tmp_path / "store"))
    rows: list[dict[str, Any]] = [
        {"image": str(path), "label": label}
        for label in ("cat", "dog")
        for path in sorted((photos / label).iterdir())[:12]
    ]
    write_lines(tmp_path / "test.jsonl", rows[::2])
    write_lines(tmp_path / "train.jsonl", rows[1::2])
    write_lines(tmp_path / "prices.json", [{}])
    store = str(tmp_path / "store")
    text = experiment_text(
        tmp_path, {"name": "tuned", "kind": "bundle", "model": "colours", "store": store}
    )
    plan = plan_of(text)
    assert {item.image.tokens for item in plan.material.items if item.image} <= {255, 425, 765}
    finished = run(text, tmp_path / "out")
    own = [outcome for outcome in finished.outcomes if outcome.contender == "tuned"]
    assert {outcome.kind for outcome in own} == {"answered"}
    assert all(outcome.seconds for outcome in own)
