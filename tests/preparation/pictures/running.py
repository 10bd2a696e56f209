"""Folders of pictures to prepare, and what became of them."""

import json
from pathlib import Path
from typing import Any

from hone.models.examples import SPLITS
from hone.training.preparation.pictures.prepare import prepare_pictures
from hone.training.preparation.prepare import PrepareOptions
from hone.training.preparation.problems import Answer, Problem
from hone.training.preparation.report import PrepareReport
from tests.pictures import encoded, picture

COLOURS = {"red": (190, 40, 40), "green": (40, 170, 60)}


def folder_of_classes(root: Path, each: int = 20) -> Path:
    for label, colour in COLOURS.items():
        (root / label).mkdir(parents=True)
        for seed in range(each):
            image = picture(colour, seed=seed + 100 * len(label))
            (root / label / f"{seed:02}.png").write_bytes(encoded(image, "PNG"))
    return root


def run(source: Path, answer: Answer = True, **options: Any) -> tuple[PrepareReport, Path]:
    out = options.pop("out", source.parent / "out")
    return prepare_pictures(PrepareOptions(file=source, out=out, **options), lambda _: answer), out


def rows_of(out: Path) -> dict[str, list[dict[str, str]]]:
    return {
        split: [json.loads(line) for line in (out / f"{split}.jsonl").read_text().splitlines()]
        for split in SPLITS
    }


def found(report: PrepareReport, code: str) -> Problem:
    (problem,) = [problem for problem in report.problems if problem.code == code]
    return problem
