"""The forms of examples - text and label, prompt and completion, chat - as text and label."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar, Protocol

from hone.models.errors import InvalidExamples
from hone.models.prompt_form import FormName, PromptForm
from hone.training.preparation.chat import Chat
from hone.training.preparation.columns import MESSAGES, find_columns
from hone.training.preparation.problems import Problem
from hone.training.preparation.prompts import PromptCompletion
from hone.training.preparation.rows import RawRow, Record, Source, UnusableField, field_text
from hone.training.preparation.shared import SharedInstruction

_SAMPLE_ROWS = 2000
_SAMPLE_CHARACTERS = 200


class Form(Protocol):
    """How a row's fields become a text and a label."""

    name: ClassVar[FormName]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""

    @property
    def shared_instruction(self) -> SharedInstruction | None:
        """What every example's prompt says over again."""

    @property
    def prompt_form(self) -> PromptForm:
        """What serving must know to read prompts as they were read here."""

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What was seen while the form was found."""

    def pair(self, fields: Mapping[str, object]) -> tuple[str | None, str | None]:
        """Return text and label, None for a missing one; raise UnusableField for neither."""


@dataclass(frozen=True, slots=True)
class TextLabel:
    """Two columns that are used as they are."""

    text: str
    label: str
    problems: tuple[Problem, ...] = ()
    shared_instruction: SharedInstruction | None = None

    name: ClassVar[FormName] = "text/label"

    @property
    def prompt_form(self) -> PromptForm:
        """Nothing is shared."""
        return PromptForm(kind=self.name)

    @property
    def columns(self) -> tuple[str, ...]:
        """The text's and the label's."""
        return (self.text, self.label)

    def pair(self, fields: Mapping[str, object]) -> tuple[str | None, str | None]:
        """Return the two fields as text; raise UnusableField naming the one that cannot be."""
        return _named_field(fields, self.text), _named_field(fields, self.label)


def _named_field(fields: Mapping[str, object], column: str) -> str | None:
    try:
        return field_text(fields.get(column))
    except UnusableField as error:
        raise UnusableField(f"has a {column!r} that {error}") from None


def find_form(source: Source, *, text: str | None = None, label: str | None = None) -> Form:
    """Look at a source's first rows, and for prompts and chats once at all of them.

    `text` and `label` name columns and mean the form text/label. Raises InvalidExamples when
    nothing can be read or the columns are not clear.
    """
    first_rows = (r.fields for r in islice(source.records(), _SAMPLE_ROWS) if isinstance(r, RawRow))
    sample = [{name: _glimpse(value) for name, value in row.items()} for row in first_rows]
    if not sample:
        raise InvalidExamples(_nothing_readable(source))
    names = list(dict.fromkeys(name for row in sample for name in row))
    usual = {name.casefold(): name for name in names}
    if text is None and label is None:
        messages = usual.get(MESSAGES)
        if messages and any(_are_messages(row.get(messages)) for row in sample):
            return Chat.found_in(_rows(source.records()), messages)
        if "prompt" in usual and "completion" in usual:
            columns = (usual["prompt"], usual["completion"])
            return PromptCompletion.found_in(_rows(source.records()), *columns)
    found = find_columns(names, sample, text=text, label=label)
    return TextLabel(found.text, found.label, _ignored_columns(source, found.ignored))


def _glimpse(value: object) -> object:
    """Return the beginning of a field: a sample of long texts must not fill the memory."""
    if isinstance(value, str):
        return value[:_SAMPLE_CHARACTERS]
    return [] if isinstance(value, list) else value if isinstance(value, int | float) else None


def _are_messages(value: object) -> bool:
    return isinstance(value, list) or (isinstance(value, str) and value.lstrip().startswith("["))


def _rows(records: Iterable[Record]) -> Iterable[Mapping[str, object]]:
    return (record.fields for record in records if isinstance(record, RawRow))


def _ignored_columns(source: Source, ignored: tuple[str, ...]) -> tuple[Problem, ...]:
    named = [name for name in ignored if name]
    if not named:
        return ()
    listed = ", ".join(repr(name) for name in named[:20])
    message = f"columns of {source.path.name} that are not used: {listed}"
    return (Problem("unused_columns", "advice", len(named), message),)


def _nothing_readable(source: Source) -> str:
    bad = list(islice((r for r in source.records() if not isinstance(r, RawRow)), 100))
    listed = "".join(f"\n  {source.unit} {line.number} {line.reason}" for line in bad)
    return f"nothing in {source.path.name} can be read as {source.format}:{listed or ' no rows'}"
