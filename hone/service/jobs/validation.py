"""A training file line by line: its form, every problem, and whether it is for a classifier.

Memory does not grow with the file: of the completions no more is kept than the labels of a
classifier could be.

A file is for a classifier when its completions are few distinct labels: at least three examples
for each on average (the rule of the hosted API's own tool), at most `MOST_LABELS` of them, and
nearly all in one line of at most `LONGEST_LABEL` characters. Every other file is open-ended.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import orjson

from hone.service.jobs.errors import disk_errors
from hone.service.jobs.example_forms import ExampleForm, form_of, problem_of, taught_by
from hone.service.jobs.records import Failure

LISTED_PROBLEMS = 100
FEWEST_EXAMPLES = 10
MOST_LABELS = 10_000
LONGEST_LABEL = 100
"""Characters. As in `hone prepare`, which leaves longer ones out."""

_EXAMPLES_PER_LABEL = 3
_SHARE_OF_LONG_LABELS = 0.01
_LONGEST_LINE = 2_000_000
_HINT_CHARACTERS = 24
_BOM = b"\xef\xbb\xbf"

FileField = Literal["training_file", "validation_file"]


@dataclass(frozen=True, slots=True)
class LineProblem:
    """What is wrong with a line, counted from 1: the end of a sentence that begins with it."""

    line: int
    message: str

    def __str__(self) -> str:
        return f"Line {self.line} {self.message}"


@dataclass(frozen=True, slots=True)
class FileReport:
    """What was found in a file.

    `problems` are the first ones of `problem_count`. `labels` counts the examples of each distinct
    completion, without spaces around it and whatever its case; it is empty for open-ended files.
    """

    examples: int
    form: ExampleForm | None
    problems: tuple[LineProblem, ...]
    problem_count: int
    labels: Counter[str]

    @property
    def is_classification(self) -> bool:
        """Whether the completions are few distinct labels."""
        return bool(self.labels)

    @property
    def details(self) -> str | None:
        """What the file's `status_details` say, with all listed problems; None for a good file."""
        if not self.problem_count:
            return None if self.examples else "Invalid file format. The file has no examples."
        listed = "\n".join(map(str, self.problems))
        more = self.problem_count - len(self.problems)
        tail = f"\n… and {more} more." if more else ""
        if self.problem_count == 1:
            return f"Invalid file format. {listed}"
        return f"Invalid file format. {self.problem_count} lines cannot be used.\n{listed}{tail}"

    def failure(self, field: FileField) -> Failure | None:
        """Return why no job can use the file, or None."""
        kind = field.removesuffix("_file")
        if self.details is not None:
            message = f"The job failed due to an invalid {kind} file. {self.details}"
            return Failure(f"invalid_{field}", message, field)
        if field == "training_file" and self.examples < FEWEST_EXAMPLES:
            message = (
                f"Training file has {self.examples} example(s), but must have at least "
                f"{FEWEST_EXAMPLES} examples"
            )
            return Failure("invalid_n_examples", message, field)
        return None


def check_file(path: Path) -> FileReport:
    """Read a file from its first line to its last. StoreFailed if it cannot be read."""
    found = _Findings()
    with disk_errors(), path.open("rb") as file:
        for number, line in _lines(file):
            found.add(number, line)
    return found.report()


def check_start(path: Path) -> str | None:
    """Return what the hosted API says at once of a file that is no JSON lines, or None.

    Only the first line that is not blank is looked at.
    """
    with disk_errors(), path.open("rb") as file:
        found = next(_lines(file), None)
    if found is None:
        return "The file is empty. Expected JSONL format, where every line is a JSON dictionary."
    number, line = found
    problem = _parsed(line)
    if not isinstance(problem, str):
        return None
    if line is None or _is_not_utf8(line):
        return f"Expected file to have JSONL format. {LineProblem(number, problem)}."
    start = (line or b"").lstrip()[:_HINT_CHARACTERS].decode(errors="replace")
    return (
        "Expected file to have JSONL format, where every line is a JSON dictionary. "
        f'Line {number} is not a dictionary (HINT: line starts with: "{start}...").'
    )


class _Findings:
    """What is known after so many lines."""

    def __init__(self) -> None:
        self.examples = 0
        self.form: ExampleForm | None = None
        self.problems: list[LineProblem] = []
        self.problem_count = 0
        self.labels: Counter[str] = Counter()
        self.long_labels = 0
        self.open_ended = False

    def add(self, number: int, line: bytes | None) -> None:
        parsed = _parsed(line)
        problem = parsed if isinstance(parsed, str) else self._problem(parsed)
        if problem is not None:
            self.problem_count += 1
            if len(self.problems) < LISTED_PROBLEMS:
                self.problems.append(LineProblem(number, problem))
        elif not isinstance(parsed, str):
            self.examples += 1
            self._learn(taught_by(parsed))

    def report(self) -> FileReport:
        few = len(self.labels) <= max(2, self.examples / _EXAMPLES_PER_LABEL)
        short = self.long_labels <= max(1, self.examples * _SHARE_OF_LONG_LABELS)
        classes = few and short and not self.open_ended
        labels = self.labels if classes else Counter[str]()
        return FileReport(
            self.examples, self.form, tuple(self.problems), self.problem_count, labels
        )

    def _problem(self, example: dict[str, Any]) -> str | None:
        problem, form = problem_of(example), form_of(example)
        if problem is None and self.form not in (None, form):
            return f"is of the form {form}, and the lines before it are of the form {self.form}"
        if problem is None:
            self.form = form
        return problem

    def _learn(self, text: str | None) -> None:
        if text is None or self.open_ended:
            self.open_ended = True
            self.labels.clear()
            return
        label = text.strip()
        if len(label) > LONGEST_LABEL or "\n" in label:
            self.long_labels += 1
            return
        self.labels[label.casefold()] += 1
        self.open_ended = len(self.labels) > MOST_LABELS


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Yield every line that is not blank with its number; None for one that is far too long."""
    number = 0
    while line := file.readline(_LONGEST_LINE):
        number += 1
        if len(line) == _LONGEST_LINE and not line.endswith(b"\n"):
            while (rest := file.readline(_LONGEST_LINE)) and not rest.endswith(b"\n"):
                pass
            yield number, None
        elif number == 1 and line.startswith(_BOM):
            yield number, line.removeprefix(_BOM)
        elif not line.isspace():
            yield number, line


def _parsed(line: bytes | None) -> dict[str, Any] | str:
    """Return a line's dictionary, or what is wrong with it."""
    if line is None:
        return f"cannot be parsed. Error: line has more than {_LONGEST_LINE} bytes"
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        if _is_not_utf8(line):
            return "cannot be parsed. Error: line is not UTF-8"
        where = f"character {error.pos + 1}"
        return f"cannot be parsed. Error: line contains invalid json: it is wrong from {where} on"
    return found if isinstance(found, dict) else "is not a JSON dictionary"


def _is_not_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return True
    return False
