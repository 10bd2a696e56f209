"""A file's row as an example for a causal model: by the names of its fields, or two columns."""

import json
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from hone.training.generation.conversations import Completion, Example, parse_example, texts_of
from hone.training.preparation.columns import find_columns
from hone.training.preparation.prepare import PrepareOptions
from hone.training.preparation.rows import RawRow, Source, field_text, unreadable_reason

_SAMPLE_ROWS = 2000
_KNOWN = frozenset(
    {
        "messages",
        "tools",
        "functions",
        "parallel_tool_calls",
        "prompt",
        "completion",
        "chosen",
        "rejected",
        "input",
        "preferred_output",
        "preferred_completion",
        "non_preferred_output",
        "non_preferred_completion",
    }
)
_AS_JSON = frozenset(_KNOWN - {"prompt", "completion", "chosen", "rejected"})


def example_reader(source: Source, options: PrepareOptions) -> Callable[[RawRow], Example]:
    """Return what makes an example of a source's row: by known names, else by two columns."""
    rows = [r.fields for r in islice(source.records(), _SAMPLE_ROWS) if isinstance(r, RawRow)]
    names = list(dict.fromkeys(name for row in rows for name in row))
    named = options.text_column is not None or options.label_column is not None
    known = {name.casefold() for name in names} & _KNOWN
    if not named and known - {"prompt", "input"}:
        return lambda row: _checked(parse_example(_known_fields(row.fields)))
    sample = [
        {n: v if isinstance(v, str | int | float) else None for n, v in row.items()} for row in rows
    ]
    found = find_columns(names, sample, text=options.text_column, label=options.label_column)
    return lambda row: _checked(_of_columns(row.fields, found.text, found.label))


def _of_columns(fields: Mapping[str, object], text: str, label: str) -> Completion:
    prompt, completion = field_text(fields.get(text)), field_text(fields.get(label))
    if completion is None:
        raise ValueError(f"has no {label!r}")
    return Completion(prompt or "", completion)


def _known_fields(fields: Mapping[str, object]) -> dict[str, Any]:
    """Return the fields of known names; in tables, lists of messages are JSON in a cell."""
    known: dict[str, Any] = {}
    for name, value in fields.items():
        folded = name.casefold()
        if folded not in _KNOWN or value is None:
            continue
        if folded in _AS_JSON and isinstance(value, str):
            try:
                known[folded] = json.loads(value)
            except (ValueError, RecursionError):
                raise ValueError(f"{name!r} is not JSON") from None
        else:
            known[folded] = value
    return known


def _checked(example: Example) -> Example:
    for text in texts_of(example):
        reason = unreadable_reason(text)
        if reason is not None:
            raise ValueError(reason)
    return example
