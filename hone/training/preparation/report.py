"""What a run of `hone prepare` found and did, as one value and as `report.json`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import hone
from hone.models.catalogue import Task
from hone.models.examples import sha256_of_file
from hone.models.prompt_form import PromptForm
from hone.training.preparation.lengths import Lengths
from hone.training.preparation.problems import Problem
from hone.training.preparation.rows import Source
from hone.training.preparation.shared import SharedInstruction
from hone.training.preparation.spool import Origin

FORMAT_VERSION = 1
KIND = "hone-preparation"
REPORT_NAME = "report.json"
PAGE_NAME = "report.html"


class LabelCount(NamedTuple):
    """How many rows of a label are in which split."""

    label: str
    total: int
    train: int
    validation: int
    test: int


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One input file: what it is (`file`, `validation` or `test`), and how it was read."""

    role: Origin
    name: str
    bytes: int
    sha256: str
    format: str
    line_means: str
    encoding: str | None
    sheet: str | None
    rows: int
    kept: int

    @classmethod
    def of(cls, role: Origin, source: Source, *, rows: int, kept: int) -> "SourceFile":
        """Describe an opened source; `rows` counts unreadable lines too."""
        return cls(
            role,
            source.path.name,
            source.path.stat().st_size,
            sha256_of_file(source.path),
            source.format,
            source.unit,
            source.encoding.codec if source.encoding else None,
            source.sheet,
            rows,
            kept,
        )


@dataclass(frozen=True, slots=True)
class Split:
    """One written file; `sha256` is empty when nothing was written."""

    rows: int
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareReport:
    """All that is known at the end.

    `written` is False when mends wait for a yes: the numbers then are those that a yes would
    give. `dropped` counts rows by reason; with `kept` it sums to `rows`.
    """

    written: bool
    folder: Path
    sources: tuple[SourceFile, ...]
    options: Mapping[str, object]
    form: str
    columns: tuple[str, ...]
    prompt_form: PromptForm
    shared_instruction: SharedInstruction | None
    shared_instruction_tokens: int | None
    rows: int
    kept: int
    dropped: Mapping[str, int]
    problems: tuple[Problem, ...]
    labels: tuple[LabelCount, ...]
    lengths: Lengths | None
    splits: Mapping[str, Split]
    seed: int
    task: Task = "text-classification"
    picture_sides: Mapping[str, int] | None = None
    """Percentiles of the pictures' shorter sides, in pixels; None for texts."""

    @property
    def pending(self) -> tuple[Problem, ...]:
        """The recommended mends that nobody has answered."""
        if self.written:
            return ()
        return tuple(p for p in self.problems if p.severity == "recommended" and not p.mended)

    def as_json(self) -> dict[str, object]:
        """Return what stands in `report.json`."""
        return {
            "kind": KIND,
            "format_version": FORMAT_VERSION,
            "hone_version": hone.__version__,
            "status": "written" if self.written else "waiting for a yes",
            "sources": [_source_json(source) for source in self.sources],
            "options": dict(self.options),
            "seed": self.seed,
            "task": self.task,
            "form": self.form,
            "columns": list(self.columns),
            "counts": {"read": self.rows, "dropped": dict(self.dropped), "kept": self.kept},
            "problems": [problem.as_json() for problem in self.problems],
            "labels": [label._asdict() for label in self.labels],
            "tokens": self.lengths.as_json() if self.lengths else None,
            "picture_sides": dict(self.picture_sides) if self.picture_sides else None,
            "prompt_form": self.prompt_form.model_dump(mode="json"),
            "shared_instruction": self._instruction_json(),
            "splits": {
                name: {"rows": split.rows, "sha256": split.sha256 or None}
                for name, split in self.splits.items()
            },
        }

    def _instruction_json(self) -> dict[str, object] | None:
        if self.shared_instruction is None:
            return None
        return {
            "kind": self.shared_instruction.kind,
            "text": self.shared_instruction.text,
            "messages": list(self.shared_instruction.messages),
            "tokens": self.shared_instruction_tokens,
        }


def _source_json(source: SourceFile) -> dict[str, object]:
    return {name: getattr(source, name) for name in source.__slots__}
