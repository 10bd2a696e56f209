"""Which columns of a table hold the text and the label."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hone.models.errors import InvalidExamples

TEXT_NAMES = (
    "text", "input", "question", "utterance", "message", "query", "sentence", "review", "content",
    "prompt",
)  # fmt: skip
LABEL_NAMES = (
    "label", "category", "intent", "class", "target", "sentiment", "output", "answer", "completion",
)  # fmt: skip
_INDEX_NAMES = frozenset({"", "index", "id", "idx", "unnamed: 0"})
MESSAGES = "messages"

HINT = "say which with --text-column and --label-column"


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of the two columns in use, and of those that are not."""

    text: str
    label: str
    ignored: tuple[str, ...] = ()


def is_known_column(name: str) -> bool:
    """Tell whether a cell is one of the names that columns of examples usually have."""
    return name.casefold() in {*TEXT_NAMES, *LABEL_NAMES, MESSAGES}


def numbered_names(count: int) -> list[str]:
    """Return the names of columns that have none: `column_1`, `column_2` and so on."""
    return [f"column_{number}" for number in range(1, count + 1)]


def find_columns(
    names: Sequence[str],
    sample: Sequence[Mapping[str, object]],
    *,
    text: str | None = None,
    label: str | None = None,
) -> Columns:
    """Choose the text and the label column.

    A given name wins; then the usual names, `text` and `label` before all others; then, of two
    columns, the one with fewer distinct values in `sample` is the label. Raises InvalidExamples,
    which lists the columns, when that does not decide.
    """
    text = _named(text, names, "--text-column")
    label = _named(label, names, "--label-column")
    text = text or _usual(names, TEXT_NAMES, taken=label)
    label = label or _usual(names, LABEL_NAMES, taken=text)
    free = [n for n in names if n not in {text, label} and n.casefold() not in _INDEX_NAMES]
    if text is None and label is None and len(free) == 2:
        text, label = _by_distinct_values(free, sample)
    elif text is None and label is not None and len(free) == 1:
        text = free[0]
    elif label is None and text is not None and len(free) == 1:
        label = free[0]
    if text is None or label is None:
        missing = "text" if text is None else "label"
        raise InvalidExamples(f"it is not clear which column is the {missing}: {_listed(names)}")
    if text == label:
        raise InvalidExamples(f"the text and the label cannot both be {text!r}: {_listed(names)}")
    return Columns(text, label, tuple(n for n in names if n not in {text, label}))


def find_text_column(names: Sequence[str]) -> str | None:
    """Return the column whose name is usual for texts; None if none is, or several are."""
    return _usual(names, TEXT_NAMES, taken=None)


def named_column(wanted: str, names: Sequence[str]) -> str:
    """Return the column of texts that somebody named; InvalidExamples if there is none."""
    return _named(wanted, names, "--text-column") or wanted


def _listed(names: Sequence[str]) -> str:
    listed = ", ".join(repr(name) for name in names[:50])
    return f"the columns are {listed}; {HINT}"


def _named(wanted: str | None, names: Sequence[str], option: str) -> str | None:
    """Find a column by its name, by its name in other case, or by its number from 1."""
    if wanted is None or wanted in names:
        return wanted
    alike = [name for name in names if name.casefold() == wanted.strip().casefold()]
    if len(alike) == 1:
        return alike[0]
    if wanted.isascii() and wanted.isdigit() and 1 <= int(wanted) <= len(names):
        return names[int(wanted) - 1]
    raise InvalidExamples(f"there is no column {wanted!r} for {option}: {_listed(names)}")


def _usual(names: Sequence[str], known: Sequence[str], *, taken: str | None) -> str | None:
    """Return the one column with a usual name; `None` if there is none or more than one."""
    found = [name for name in names if name.casefold() in known and name != taken]
    if len(found) == 1:
        return found[0]
    first = [name for name in found if name.casefold() == known[0]]
    return first[0] if len(first) == 1 else None


def _by_distinct_values(
    two: Sequence[str], sample: Sequence[Mapping[str, object]]
) -> tuple[str | None, str | None]:
    first, second = (len({str(row.get(name)) for row in sample}) for name in two)
    if first == second:
        return None, None
    return (two[0], two[1]) if second < first else (two[1], two[0])
