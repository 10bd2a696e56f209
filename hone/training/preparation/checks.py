"""The recommended mends of FILE: what each looks for, how it says it, and what a yes does.

The order matters: spellings are merged before labels are compared, conflicts are judged by all
rows before repeats are dropped, and classes are counted last.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from hone.training.preparation.problems import EXAMPLES_SHOWN, Ask, Problem, counted
from hone.training.preparation.spool import Spool, shown

_LIKENESS = 0.8
"""`difflib`'s ratio of two labels from which one may be a misspelling of the other."""

_RARER = 10
"""How many times rarer the misspelling is, at least."""

_MOST_COMPARED = 1000
_CLASSES_NAMED = 5


@dataclass(frozen=True, slots=True)
class Check:
    """`find` returns None when all is well; `mend` follows a yes, right after `find`.

    Without a mend it is advice, which has its place among the others.
    """

    find: Callable[[Spool], Problem | None]
    mend: Callable[[Spool], None] | None = None


def recommended_checks(*, min_per_class: int) -> tuple[Check, ...]:
    """Return the checks, in their order."""
    return (
        Check(find_spellings, merge_spellings),
        Check(find_misspellings),
        Check(find_conflicts, lambda spool: spool.drop("temp.outvoted", "conflicting_labels")),
        Check(find_repeats, lambda spool: spool.drop("temp.repeats", "duplicate")),
        Check(
            lambda spool: find_rare_classes(spool, min_per_class),
            lambda spool: spool.drop("temp.rare_rows", "rare_class"),
        ),
    )


def ask_and_mend(spool: Spool, checks: Iterable[Check], ask: Ask) -> tuple[list[Problem], bool]:
    """Run checks in their order and make the mends that are agreed to.

    Return what was found, and whether there was nobody to ask.
    """
    problems: list[Problem] = []
    waits = False
    for check in checks:
        problem = check.find(spool)
        if problem is None:
            continue
        if check.mend is None:
            problems.append(problem)
            continue
        answer = ask(problem)
        # With nobody to ask, later checks count as after a yes: the next run will say one.
        if answer is not False:
            check.mend(spool)
        problems.append(problem.as_mended() if answer else problem)
        waits = waits or answer is None
    return problems, waits


def find_spellings(spool: Spool) -> Problem | None:
    """Find labels that differ by case, spaces or width only; FILE's commonest spelling wins."""
    spool.temporary(
        "spellings",
        "SELECT label, sum(origin = 'file') AS in_file, count(*) AS rows,"
        " folded(label) AS folded FROM kept GROUP BY label",
    )
    ways = spool.temporary(
        "renames",
        "SELECT * FROM (SELECT label, rows, folded, trimmed(first_value(label) OVER"
        " (PARTITION BY folded ORDER BY in_file DESC, rows DESC, label)) AS becomes"
        " FROM temp.spellings) WHERE label != becomes",
    )
    if not ways:
        return None
    rows = spool.number("SELECT sum(rows) FROM temp.renames")
    labels = spool.number("SELECT count(DISTINCT folded) FROM temp.renames")
    query = "SELECT label, becomes, rows FROM temp.renames ORDER BY rows DESC, label LIMIT ?"
    return Problem(
        "label_spellings",
        "recommended",
        rows,
        f"{counted(rows, 'row')} with labels that differ from the commonest spelling by case, "
        f"width or spaces only ({counted(labels, 'label')})",
        "write every label in its commonest spelling, without spaces around it",
        tuple(
            {"label": label, "becomes": becomes, "rows": count}
            for label, becomes, count in spool.select(query, (EXAMPLES_SHOWN,))
        ),
    )


def merge_spellings(spool: Spool) -> None:
    """Rename labels as `find_spellings` found."""
    spool.run("CREATE INDEX temp.renames_by_label ON renames (label)")
    spool.run(
        "UPDATE rows SET label = (SELECT becomes FROM temp.renames r WHERE r.label = rows.label)"
        " WHERE reason IS NULL AND label IN (SELECT label FROM temp.renames)"
    )


def find_misspellings(spool: Spool) -> Problem | None:
    """Find labels that look like misspellings of others at least ten times as common.

    Nothing is done about them: two such labels may well be two classes.
    """
    query = "SELECT label, count(*) AS rows FROM kept GROUP BY label ORDER BY rows DESC, label"
    counts = {str(label): int(str(rows)) for label, rows in spool.select(query)}
    if len(counts) > _MOST_COMPARED:
        return None
    found: list[dict[str, object]] = []
    for label, rows in counts.items():
        commoner = [other for other, n in counts.items() if n >= _RARER * rows]
        alike = get_close_matches(label, commoner, n=1, cutoff=_LIKENESS)
        if alike and _letters(alike[0]) != _letters(label):
            found.append({"label": label, "rows": rows, "looks_like": alike[0]})
    if not found:
        return None
    first = ", ".join(f"{e['label']!r} ({e['looks_like']!r}?)" for e in found[:_CLASSES_NAMED])
    return Problem(
        "label_misspellings",
        "advice",
        sum(counts[str(example["label"])] for example in found),
        f"{counted(len(found), 'label looks', 'labels look')} like a misspelling of a commoner "
        f"one: {first}{', …' if len(found) > _CLASSES_NAMED else ''}",
        examples=tuple(found[:EXAMPLES_SHOWN]),
    )


def _letters(label: str) -> str:
    """Return a label without its digits: `tier 1` is no misspelling of `tier 2`."""
    return "".join(character for character in label if not character.isdigit())


def find_conflicts(spool: Spool, *, noun: str = "text") -> Problem | None:
    """Find texts (or other inputs) of FILE that stand with more than one label."""
    texts = spool.temporary(
        "conflicts",
        "SELECT words, min(id) AS first, count(*) AS rows FROM kept_file GROUP BY words"
        " HAVING count(DISTINCT label) > 1",
    )
    if not texts:
        return None
    decided = spool.temporary(
        "majorities",
        "SELECT c.words, r.label, c.rows FROM temp.conflicts c CROSS JOIN kept_file r"
        " ON r.words = c.words GROUP BY c.words, r.label HAVING 2 * count(*) > c.rows",
    )
    spool.run("CREATE INDEX temp.majorities_by_words ON majorities (words)")
    spool.temporary(
        "outvoted",
        "SELECT r.id FROM temp.conflicts c CROSS JOIN kept_file r ON r.words = c.words"
        " LEFT JOIN temp.majorities m ON m.words = c.words"
        " WHERE m.label IS NULL OR m.label != r.label",
    )
    rows = spool.number("SELECT sum(rows) FROM temp.conflicts")
    return Problem(
        "conflicting_labels",
        "recommended",
        rows,
        f"{counted(texts, f'{noun} stands', f'{noun}s stand')} with different labels, "
        f"in {counted(rows, 'row')}",
        _conflict_mend(decided, texts - decided, noun),
        conflict_examples(spool),
    )


def _conflict_mend(decided: int, undecided: int, noun: str) -> str:
    parts = []
    if decided:
        parts.append(f"keep only the majority's label of {counted(decided, noun)}")
    if undecided:
        parts.append(f"drop {counted(undecided, noun)} without a majority")
    return ", ".join(parts)


def conflict_examples(spool: Spool) -> tuple[dict[str, object], ...]:
    """Return the first texts of `temp.conflicts`, each with the lines of every label."""
    query = (
        "SELECT c.first, r.origin, r.number, r.text, r.label, m.label FROM"
        " (SELECT * FROM temp.conflicts ORDER BY first LIMIT ?) c"
        " CROSS JOIN kept r ON r.words = c.words"
        " LEFT JOIN temp.majorities m ON m.words = c.words ORDER BY c.first, r.id"
    )
    examples: dict[object, dict[str, object]] = {}
    for first, origin, number, text, label, majority in spool.select(query, (EXAMPLES_SHOWN,)):
        example = examples.setdefault(
            first,
            {
                **spool.place(origin, number),
                "text": shown(text),
                "keeps": majority,
                "rows": list[object](),
            },
        )
        rows = example["rows"]
        if isinstance(rows, list) and len(rows) < EXAMPLES_SHOWN:
            rows.append({**spool.place(origin, number), "label": label})
    return tuple(examples.values())


def write_repeats(spool: Spool) -> int:
    """Put the rows of FILE with the digest and the label of an earlier one into `temp.repeats`."""
    return spool.temporary(
        "repeats",
        "SELECT id, first FROM (SELECT id, min(id) OVER (PARTITION BY words, label) AS first"
        " FROM kept_file) WHERE id > first",
    )


def find_repeats(spool: Spool) -> Problem | None:
    """Find rows of FILE with the words and the label of an earlier one."""
    rows = write_repeats(spool)
    if not rows:
        return None
    exact = spool.number(
        "SELECT count(*) FROM temp.repeats d CROSS JOIN rows a ON a.id = d.id"
        " CROSS JOIN rows b ON b.id = d.first WHERE a.text = b.text"
    )
    return Problem(
        "duplicates",
        "recommended",
        rows,
        f"{counted(rows, 'row repeats', 'rows repeat')} an earlier one with the same label: "
        f"{exact:,} exactly, {rows - exact:,} but for case, punctuation or spaces",
        "keep the first of each",
        repeat_examples(spool),
    )


def repeat_examples(spool: Spool) -> tuple[dict[str, object], ...]:
    """Return the first rows of `temp.repeats`, each with the line, or the name, that it repeats."""
    query = (
        "SELECT a.origin, a.number, b.number, b.text, a.text, a.label"
        " FROM (SELECT * FROM temp.repeats ORDER BY id LIMIT ?) d"
        " CROSS JOIN rows a ON a.id = d.id CROSS JOIN rows b ON b.id = d.first"
    )
    return tuple(
        {
            **spool.place(origin, number),
            "repeats": first if spool.numbered else shown(earlier),
            "text": shown(text),
            "label": label,
        }
        for origin, number, first, earlier, text, label in spool.select(query, (EXAMPLES_SHOWN,))
    )


def find_rare_classes(spool: Spool, min_per_class: int) -> Problem | None:
    """Find the classes with fewer rows in FILE than wanted; their rows go from every split."""
    classes = spool.temporary(
        "rare",
        "SELECT label, count(*) AS rows FROM kept_file GROUP BY label HAVING count(*) < ?",
        (min_per_class,),
    )
    if not classes:
        return None
    rows = spool.temporary(
        "rare_rows", "SELECT id FROM kept WHERE label IN (SELECT label FROM temp.rare)"
    )
    query = "SELECT label, rows FROM temp.rare ORDER BY rows DESC, label LIMIT ?"
    examples = tuple(
        {"label": label, "rows": count} for label, count in spool.select(query, (EXAMPLES_SHOWN,))
    )
    named = ", ".join(shown(example["label"]) for example in examples[:_CLASSES_NAMED])
    return Problem(
        "rare_classes",
        "recommended",
        rows,
        f"{counted(classes, 'class has', 'classes have')} fewer than {min_per_class} rows "
        f"({counted(rows, 'row')} together), too few to learn, to choose by and to test: "
        f"{named}{', …' if classes > _CLASSES_NAMED else ''}",
        "drop these classes",
        examples,
    )
