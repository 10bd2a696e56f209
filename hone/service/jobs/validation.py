"""A training file line by line: its form, every problem, and what it could be for.

Memory does not grow with the file: of the completions no more is kept than the labels of a
classifier could be.

A file is for a classifier when its completions are few distinct labels: at least three examples
for each on average (the rule of the hosted API's own tool), at most `MOST_LABELS` of them, and
nearly all in one line of at most `LONGEST_LABEL` characters. Every other file is open-ended.

A zip archive is one of pictures: `picture_archives` looks through it.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hone.models.imaging.archives import ArchiveBounds, begins_as_archive
from hone.service.jobs.errors import disk_errors
from hone.service.jobs.example_forms import (
    PICTURE_FORMS,
    ExampleForm,
    form_of,
    needs_tools,
    problem_of,
    taught_by,
    tool_problem_of,
)
from hone.service.jobs.picture_archives import look_through
from hone.service.jobs.records import Failure
from hone.service.jobs.training_lines import (
    LONGEST_LINE,
    is_not_utf8,
    numbered_lines,
    overlong,
    parsed_line,
)

LISTED_PROBLEMS = 100
FEWEST_EXAMPLES = 10
MOST_LABELS = 10_000
LONGEST_LABEL = 100
"""Characters. As in `hone prepare`, which leaves longer ones out."""

_EXAMPLES_PER_LABEL = 3
_SHARE_OF_LONG_LABELS = 0.01
_HINT_CHARACTERS = 24

DEFAULT_BOUNDS = ArchiveBounds(entries=100_000, entry_bytes=16 * 2**20, total_bytes=8 * 2**30)
"""Of an archive, unless the operator says otherwise."""

FileField = Literal["training_file", "validation_file"]


@dataclass(frozen=True, slots=True)
class LineProblem:
    """What is wrong with a line, counted from 1, or with an archive's entry, by its name.

    The message is the end of a sentence that begins with it; of a whole file, without either.
    """

    line: int | str | None
    message: str

    def __str__(self) -> str:
        if self.line is None:
            return self.message
        named = isinstance(self.line, str)
        return f"{'Entry' if named else 'Line'} {self.line!r} {self.message}"


@dataclass(frozen=True, slots=True)
class FileReport:
    """What was found in a file.

    `problems` are the first ones of `problem_count`. `labels` counts the examples of each distinct
    completion, without spaces around it and whatever its case; it is empty for open-ended files,
    and for an archive whose labels stand in a table. `wrong_tools` are the first ones of
    `wrong_tool_count` lines that are good but for their tools. `tool_lines` are the first of
    `tool_line_count` lines that only a base can learn from whose chat template knows tools.
    """

    examples: int
    form: ExampleForm | None
    problems: tuple[LineProblem, ...]
    problem_count: int
    labels: Counter[str]
    wrong_tools: tuple[LineProblem, ...] = ()
    wrong_tool_count: int = 0
    tool_lines: tuple[int, ...] = ()
    tool_line_count: int = 0

    @property
    def of_pictures(self) -> bool:
        """Whether the examples are pictures with labels."""
        return self.form in PICTURE_FORMS

    @property
    def is_classification(self) -> bool:
        """Whether the completions are few distinct labels."""
        return bool(self.labels) and _are_few(self.labels, self.examples)

    @property
    def details(self) -> str | None:
        """What the file's `status_details` say, with all listed problems; None for a good file."""
        if not self.problem_count:
            return None if self.examples else "Invalid file format. The file has no examples."
        return f"Invalid file format. {self._listed(self.problems, self.problem_count)}"

    def tool_problem(self, field: FileField) -> Failure | None:
        """Return why no model can learn to write what the file teaches, or None."""
        if not self.wrong_tool_count:
            return None
        kind = field.removesuffix("_file")
        listed = self._listed(self.wrong_tools, self.wrong_tool_count)
        message = f"The job failed due to an invalid {kind} file. {listed}"
        return Failure(f"invalid_{field}", message, field)

    def _listed(self, problems: tuple[LineProblem, ...], count: int) -> str:
        listed = "\n".join(map(str, problems))
        if count == 1:
            return listed
        what = "entries" if self.form == "archive of pictures" else "lines"
        tail = f"\n… and {count - len(problems)} more." if count > len(problems) else ""
        return f"{count} {what} cannot be used.\n{listed}{tail}"

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


def check_file(path: Path, bounds: ArchiveBounds = DEFAULT_BOUNDS) -> FileReport:
    """Read a file from its first line to its last. StoreFailed if it cannot be read."""
    with disk_errors():
        if begins_as_archive(path):
            return _archive_report(path, bounds)
    found = _Findings()
    with disk_errors(), path.open("rb") as file:
        for number, line in numbered_lines(file):
            found.add(number, line)
    return found.report()


def _archive_report(path: Path, bounds: ArchiveBounds) -> FileReport:
    found = look_through(path, bounds)
    problems = tuple(LineProblem(place, what) for place, what in found.problems[:LISTED_PROBLEMS])
    return FileReport(
        found.pictures, "archive of pictures", problems, len(found.problems), found.labels
    )


def check_start(path: Path) -> str | None:
    """Return what the hosted API says at once of a file that is no JSON lines, or None.

    Only the first line that is not blank is looked at. A zip archive is looked through later.
    """
    with disk_errors():
        if begins_as_archive(path):
            return None
    with disk_errors(), path.open("rb") as file:
        found = next(numbered_lines(file), None)
    if found is None:
        return "The file is empty. Expected JSONL format, where every line is a JSON dictionary."
    number, line = found
    problem = parsed_line(line)
    if not isinstance(problem, str):
        return None
    if line is None or is_not_utf8(line):
        return f"Expected file to have JSONL format. {LineProblem(number, problem)}."
    start = (line or b"").lstrip()[:_HINT_CHARACTERS].decode(errors="replace")
    return (
        "Expected file to have JSONL format, where every line is a JSON dictionary. "
        f'Line {number} is not a dictionary (HINT: line starts with: "{start}...").'
    )


def _are_few(labels: Counter[str], examples: int) -> bool:
    return len(labels) <= max(2, examples / _EXAMPLES_PER_LABEL)


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
        self.wrong_tools: list[LineProblem] = []
        self.wrong_tool_count = 0
        self.tool_lines: list[int] = []
        self.tool_line_count = 0

    def add(self, number: int, line: bytes | None) -> None:
        parsed = parsed_line(line)
        problem = parsed if isinstance(parsed, str) else self._problem(parsed)
        if problem is None and self.form not in PICTURE_FORMS and len(line or b"") > LONGEST_LINE:
            problem = overlong(LONGEST_LINE)
        if problem is not None:
            self.problem_count += 1
            if len(self.problems) < LISTED_PROBLEMS:
                self.problems.append(LineProblem(number, problem))
        elif not isinstance(parsed, str):
            self.examples += 1
            self._note_tools(number, parsed)
            self._learn(taught_by(parsed))

    def report(self) -> FileReport:
        few = _are_few(self.labels, self.examples)
        short = self.long_labels <= max(1, self.examples * _SHARE_OF_LONG_LABELS)
        classes = few and short and not self.open_ended
        labels = self.labels if classes else Counter[str]()
        return FileReport(
            self.examples,
            self.form,
            tuple(self.problems),
            self.problem_count,
            labels,
            tuple(self.wrong_tools),
            self.wrong_tool_count,
            tuple(self.tool_lines),
            self.tool_line_count,
        )

    def _note_tools(self, number: int, example: dict[str, Any]) -> None:
        if self.form in PICTURE_FORMS:
            return
        message = tool_problem_of(example)
        if message is not None:
            self.wrong_tool_count += 1
            if len(self.wrong_tools) < LISTED_PROBLEMS:
                self.wrong_tools.append(LineProblem(number, message))
        elif needs_tools(example):
            self.tool_line_count += 1
            if len(self.tool_lines) < LISTED_PROBLEMS:
                self.tool_lines.append(number)

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
