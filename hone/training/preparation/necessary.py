"""What is always done with rows that no model can learn from, and refusal of unfit files."""

from hone.models.errors import InvalidExamples
from hone.training.preparation.problems import EXAMPLES_SHOWN, Problem, counted
from hone.training.preparation.spool import Spool, shown

LONGEST_LABEL = 100
"""Characters. What is longer is an answer and not the name of a class."""

_FEW_LONG_LABELS = 0.01
_ROWS_PER_LABEL = 3
_UNFIT_LABEL = f"length(trimmed(label)) > {LONGEST_LABEL} OR instr(trimmed(label), char(10)) > 0"


def check_task(spool: Spool) -> None:
    """Raise InvalidExamples unless FILE's labels are classes; drop the odd overlong label.

    They are classes if there is at most one for three rows and nearly all are short.
    """
    rows = spool.count("kept_file")
    if not rows:
        raise InvalidExamples(_nothing_left(spool))
    labels = spool.number("SELECT count(DISTINCT folded(label)) FROM kept_file")
    unfit = spool.temporary("unfit", f"SELECT id FROM kept_file WHERE {_UNFIT_LABEL}")  # noqa: S608
    if labels > max(2, rows / _ROWS_PER_LABEL) or unfit > max(1, rows * _FEW_LONG_LABELS):
        raise InvalidExamples(
            f"the outputs are {labels:,} different texts in {rows:,} rows: this looks like "
            "generation, which needs a causal model: give --task text-generation "
            f"(classes have at least {_ROWS_PER_LABEL} rows each on average, and names of at "
            f"most {LONGEST_LABEL} characters in one line)"
        )
    spool.drop("temp.unfit", "unfit_label")


def check_classes(spool: Spool) -> None:
    """Raise InvalidExamples if fewer than two classes are left in FILE."""
    left = [
        label for (label,) in spool.select("SELECT label FROM kept_file GROUP BY label LIMIT 2")
    ]
    if len(left) < 2:
        named = f"only the class {shown(left[0])!r} is" if left else "no class is"
        dropped = ", ".join(f"{count:,} {reason}" for reason, count in spool.dropped().items())
        raise InvalidExamples(
            f"{named} left, and at least two are needed; dropped rows: {dropped or 'none'}. "
            "Add examples, or lower --min-per-class"
        )


def _nothing_left(spool: Spool) -> str:
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in spool.dropped().items())
    return f"no row of {spool.files['file']} has both a text and a label ({dropped or 'no rows'})"


_MESSAGES = {
    "unreadable": (
        "{} cannot be read",
        "leave them out",
    ),
    "missing_text": ("{} without a text", "leave them out"),
    "missing_label": ("{} without a label", "leave them out"),
    "too_small": ("{} with a picture that is too small", "leave them out"),
    "too_large": ("{} with a picture that is too large", "leave them out"),
    "unfit_label": (
        f"{{}} with a label of more than {LONGEST_LABEL} characters or of several lines",
        "leave them out",
    ),
}


def necessary_problems(spool: Spool) -> list[Problem]:
    """Return what was left out because it cannot be used, with the first places of each."""
    return [
        problem
        for reason, (message, mend) in _MESSAGES.items()
        if (problem := _left_out(spool, reason, message, mend)) is not None
    ]


def _left_out(spool: Spool, reason: str, message: str, mend: str) -> Problem | None:
    count = spool.count("rows", "reason = ?", (reason,))
    if not count:
        return None
    query = (
        "SELECT origin, number, detail, text, label FROM rows WHERE reason = ? ORDER BY id LIMIT ?"
    )
    examples = []
    for origin, number, detail, text, label in spool.select(query, (reason, EXAMPLES_SHOWN)):
        known = {"reason": detail, "text": text, "label": label}
        named = {name: shown(value) for name, value in known.items() if value is not None}
        examples.append({**spool.place(origin, number), **named})
    said = message.format(counted(count, "row"))
    return Problem(reason, "necessary", count, said, mend, tuple(examples), mended=True)
