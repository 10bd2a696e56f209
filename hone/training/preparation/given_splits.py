"""Splits that come in files of their own: what also stands elsewhere, and what is odd in them.

A published test set keeps its rows, whatever is odd in it; only what would leak is dropped.
"""

from collections.abc import Sequence

from hone.training.preparation.checks import conflict_examples
from hone.training.preparation.problems import EXAMPLES_SHOWN, Problem, counted
from hone.training.preparation.spool import Origin, Spool, shown


def drop_leaks(spool: Spool, given: Sequence[Origin]) -> list[Problem]:
    """Drop rows of given splits that also stand in FILE, and of validation that stand in test.

    Rows are alike when they differ by case, punctuation and spaces only. FILE loses nothing.
    """
    found = []
    # Test first: a validation row that stands in a test row which is dropped itself may stay.
    for origin in sorted(given):
        others: tuple[Origin, ...] = ("file", "test") if origin == "validation" else ("file",)
        for other in others:
            problem = _drop_leak(spool, origin, other)
            if problem is not None:
                found.append(problem)
    return found


def _drop_leak(spool: Spool, origin: Origin, other: Origin) -> Problem | None:
    count = spool.temporary(
        "leaks",
        "SELECT g.id, (SELECT min(o.id) FROM kept o WHERE o.words = g.words AND o.origin = ?)"
        " AS other FROM kept g WHERE g.origin = ? AND EXISTS"
        " (SELECT 1 FROM kept o WHERE o.words = g.words AND o.origin = ?)",
        (other, origin, other),
    )
    if not count:
        return None
    query = (
        "SELECT g.origin, g.number, g.text, g.label, o.origin, o.number, o.label"
        " FROM (SELECT * FROM temp.leaks ORDER BY id LIMIT ?) d"
        " CROSS JOIN rows g ON g.id = d.id CROSS JOIN rows o ON o.id = d.other"
    )
    examples = tuple(
        {
            **spool.place(of, number),
            "text": shown(text),
            "label": label,
            "also": {**spool.place(where, line), "label": other_label},
        }
        for of, number, text, label, where, line, other_label in spool.select(
            query, (EXAMPLES_SHOWN,)
        )
    )
    spool.drop("temp.leaks", "stands_elsewhere")
    message = (
        f"{counted(count, 'row')} of {spool.files[origin]} also "
        f"{'stands' if count == 1 else 'stand'} in {spool.files[other]}"
    )
    mend = f"drop them from the {origin} split"
    return Problem("leakage", "necessary", count, message, mend, examples, mended=True)


def odd_rows(spool: Spool, given: Sequence[Origin]) -> list[Problem]:
    """Tell, and only tell, of repeats, conflicts and unknown labels in given splits."""
    found: list[Problem] = []
    for origin in given:
        problems = (_repeats(spool, origin), _conflicts(spool, origin), _unknown(spool, origin))
        found += [problem for problem in problems if problem is not None]
    return found


def _repeats(spool: Spool, origin: Origin) -> Problem | None:
    count = spool.number(
        "SELECT count(*) - count(DISTINCT hex(words) || label) FROM kept WHERE origin = ?",
        (origin,),
    )
    name = spool.files[origin]
    message = f"{counted(count, 'row repeats', 'rows repeat')} an earlier one of {name}, and stay"
    return Problem("given_duplicates", "advice", count, message) if count else None


def _conflicts(spool: Spool, origin: Origin) -> Problem | None:
    texts = spool.temporary(
        "conflicts",
        "SELECT words, min(id) AS first, count(*) AS rows FROM kept WHERE origin = ?"
        " GROUP BY words HAVING count(DISTINCT label) > 1",
        (origin,),
    )
    if not texts:
        return None
    spool.temporary("majorities", "SELECT NULL AS words, NULL AS label")
    message = (
        f"{counted(texts, 'text stands', 'texts stand')} with different labels in "
        f"{spool.files[origin]}, and {'stays' if texts == 1 else 'stay'}: no model can get all "
        "of these rows right"
    )
    return Problem("given_conflicts", "advice", texts, message, examples=conflict_examples(spool))


def _unknown(spool: Spool, origin: Origin) -> Problem | None:
    query = (
        "SELECT label, count(*) FROM kept WHERE origin = ? AND label NOT IN"
        " (SELECT DISTINCT label FROM kept_file) GROUP BY label ORDER BY count(*) DESC, label"
    )
    unknown = [{"label": label, "rows": rows} for label, rows in spool.select(query, (origin,))]
    if not unknown:
        return None
    count = sum(int(str(one["rows"])) for one in unknown)
    message = (
        f"{counted(count, 'row')} of {spool.files[origin]} with labels that "
        f"{spool.files['file']} does not have: the model cannot get them right"
    )
    shown_first = tuple(unknown[:EXAMPLES_SHOWN])
    return Problem("unknown_labels", "advice", count, message, examples=shown_first)
