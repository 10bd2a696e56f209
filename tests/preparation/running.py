"""Running the preparation on small files, and reading what comes out."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers

from hone.models.examples import SPLITS, Example, read_examples
from hone.training.preparation.prepare import PrepareOptions, prepare
from hone.training.preparation.problems import Answer, Problem
from hone.training.preparation.report import PrepareReport

SHARED = Path(__file__).parents[3] / "shared"
"""Optional public data; tests that use it are skipped where it is absent."""


@cache
def word_tokenizer_json() -> str:
    """Return a tokenizer for which every word is one token."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return str(tokenizer.to_str())


def word_tokenizer(folder: Path) -> Path:
    path = folder / "words.tokenizer.json"
    path.write_text(word_tokenizer_json(), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Outcome:
    """A report and the written splits."""

    report: PrepareReport
    splits: dict[str, list[Example]]

    @property
    def rows(self) -> list[Example]:
        return [example for split in SPLITS for example in self.splits[split]]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return sorted((example.text, example.label) for example in self.rows)

    def problem(self, code: str) -> Problem:
        found = [problem for problem in self.report.problems if problem.code == code]
        assert len(found) == 1, [problem.code for problem in self.report.problems]
        return found[0]

    @property
    def codes(self) -> list[str]:
        return [problem.code for problem in self.report.problems]


def run(file: Path, answer: Answer = True, refuse: Sequence[str] = (), **options: Any) -> Outcome:
    """Prepare `file` into a folder beside it; say no to the mends whose codes are in `refuse`."""
    out = options.pop("out", file.parent / f"{file.stem}-out")
    options.setdefault("tokenizer", word_tokenizer(file.parent))

    def ask(problem: Problem) -> Answer:
        return False if problem.code in refuse else answer

    report = prepare(PrepareOptions(file=file, out=out, **options), ask)
    splits = {split: read_examples(out / f"{split}.jsonl") for split in SPLITS} if answer else {}
    return Outcome(report, splits)


def write_lines(path: Path, rows: Iterable[object]) -> Path:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def plain_rows(count: int, labels: Sequence[str] = ("bug", "praise")) -> list[dict[str, str]]:
    """Return rows with different words each, the labels taking turns."""
    return [
        {"text": f"Text number {n} says so.", "label": labels[n % len(labels)]}
        for n in range(count)
    ]
