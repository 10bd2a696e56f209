"""JSON lines with pictures in them are prepared as any other source of pictures."""

import base64
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hone.models.errors import InvalidExamples
from tests.pictures import encoded, picture
from tests.preparation.pictures.running import COLOURS, found, rows_of, run


def data_url(content: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def shot(label: str, seed: int) -> str:
    return data_url(encoded(picture(COLOURS[label], seed=seed + 100 * len(label)), "PNG"))


def line(label: str, seed: int) -> dict[str, Any]:
    return {"image": shot(label, seed), "label": label}


def chat(label: str, seed: int) -> dict[str, Any]:
    parts = [
        {"type": "text", "text": "Which colour?"},
        {"type": "image_url", "image_url": {"url": shot(label, seed), "detail": "low"}},
    ]
    return {
        "messages": [
            {"role": "system", "content": "Say the colour."},
            {"role": "user", "content": parts},
            {"role": "assistant", "content": label},
        ]
    }


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("make", [line, chat])
def test_both_forms_give_the_pictures_and_their_labels(tmp_path: Path, make: Any) -> None:
    rows = [make(label, seed) for label in COLOURS for seed in range(20)]
    report, out = run(write(tmp_path / "train.jsonl", *rows))
    labels = [row["label"] for rows_ in rows_of(out).values() for row in rows_]
    assert Counter(labels) == {"red": 20, "green": 20}
    for row in rows_of(out)["train"]:
        assert (out / row["image"]).read_bytes().startswith(b"\x89PNG")
    assert "unreadable" not in {problem.code for problem in report.problems}


def test_lines_that_cannot_be_used_are_told_with_their_numbers(tmp_path: Path) -> None:
    rows: list[Any] = [line(label, seed) for label in COLOURS for seed in range(20)]
    broken = [
        {"image": "https://a/b.png", "label": "red"},
        {"image": "data:image/png;base64,!", "label": "red"},
        {"image": data_url(b"no picture"), "label": "red"},
        {"image": shot("red", 50)},
        {"label": "red"},
        {"image": data_url(b""), "label": "red"},
    ]
    report, _ = run(write(tmp_path / "train.jsonl", *rows, *broken))
    told = {
        example["line"]: str(example["reason"]) for example in found(report, "unreadable").examples
    }
    assert "addresses are not fetched" in told[41]
    assert "not valid base64" in told[42]
    assert "no JPEG, PNG or WebP" in told[43]
    assert "no 'label'" in told[44]
    assert told[45] == "has no 'image'"
    assert "it is empty" in told[46]


def test_a_file_without_one_good_picture_is_refused(tmp_path: Path) -> None:
    rows = [{"image": data_url(b"no"), "label": label} for label in ("a", "b")] * 10
    with pytest.raises(InvalidExamples):
        run(write(tmp_path / "train.jsonl", *rows))
