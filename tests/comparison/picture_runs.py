"""Comparisons about pictures: data in files, and contenders that see them."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hone.comparison.judging import judge
from hone.models.registry import Registry
from tests.comparison.experiments import PRICES, experiment_text, prompt, run, write_lines
from tests.comparison.upstream import Upstream
from tests.pictures import encoded, picture
from tests.tiny_picture_bundle import publish_tiny_pictures

COLOURS = {"red": (200, 60, 60), "green": (60, 200, 60), "blue": (60, 60, 200)}
LABELS = ("blue", "green", "red")
NAMES = {"red": "apple", "green": "leaf", "blue": "sea"}
"""Labels that do not name the colour, so that only examples teach them."""


def colour_file(colour: str, seed: int, **options: Any) -> bytes:
    """Return the bytes of a picture of a colour; every seed gives another one."""
    return encoded(picture(COLOURS[colour], seed=seed), **options)


def write_pictures(
    folder: Path, split: str, count: int, *, start: int, named: bool = False
) -> list[dict[str, Any]]:
    """Write so many pictures and the split's lines, the labels in turn; return the lines."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(start, start + count):
        colour = LABELS[number % 3]
        path = f"pictures/{number}.jpg"
        (folder / path).write_bytes(colour_file(colour, number))
        label = NAMES[colour] if named else colour
        rows.append({"image": path, "label": label, "name": f"{colour}/{number}.jpg"})
    write_lines(folder / f"{split}.jsonl", rows)
    return rows


def write_picture_data(
    folder: Path, *, train: int = 12, test: int = 9, named: bool = False
) -> Path:
    """Write what `hone prepare` makes of pictures, and a price file; return the folder."""
    write_pictures(folder, "train", train, start=0, named=named)
    write_pictures(folder, "test", test, start=1000, named=named)
    (folder / "prices.json").write_text(json.dumps(PRICES))
    return folder


def as_url(content: bytes, kind: str = "jpeg") -> str:
    """Return a picture's bytes as a data URL."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def labels_of(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the labels of lines."""
    return [row["label"] for row in rows]


def faint_file(label: str, seed: int) -> bytes:
    """Return a grey picture whose corner shows its label, and whose whole faintly another one.

    The tiny model, which reads the whole, is unsure of it and wrong; the stand-in is right.
    """
    generator = np.random.default_rng(seed)
    channels = {"red": 0, "green": 1, "blue": 2}
    pixels = generator.normal(128, 6, (32, 32, 3))
    pixels[..., (channels[label] + 1) % 3] += 12
    pixels[:8, :8, channels[label]] += 60
    return encoded(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), "PNG")


def compared_pictures(folder: Path, server: Upstream, *, test: int = 240, **changes: Any) -> Path:
    """Publish a tiny model, compare it with a prompt, judge, and return the run's folder.

    Of every second picture the model is sure, and right; of the others it is neither.
    """
    data = write_picture_data(folder / "data", train=9, test=test)
    rows = [json.loads(line) for line in (data / "test.jsonl").read_text().splitlines()]
    for number, row in enumerate(rows):
        if number % 2:
            (data / row["image"]).write_bytes(faint_file(row["label"], number))
    store = folder / "store"
    if not store.is_dir():
        publish_tiny_pictures(Registry(store))
    tuned = {"name": "tuned", "kind": "bundle", "model": "colours@1", "store": str(store)}
    text = experiment_text(
        data,
        tuned,
        prompt(server.address, "prompted", **({"prompt": "zero-shot", "k": None} | changes)),
        decision={"baseline": "prompted", "max_error": 0.1, "margin": 0.05},
    )
    finished = run(text, folder / "run")
    judge(finished.folder, finished.question)
    return finished.folder
