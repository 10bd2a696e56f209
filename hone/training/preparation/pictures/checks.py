"""The checks of pictures: the same as of texts, with copies and likenesses in place of words."""

from hone.training.preparation.checks import (
    Check,
    find_conflicts,
    find_misspellings,
    find_rare_classes,
    find_spellings,
    merge_spellings,
    repeat_examples,
    write_repeats,
)
from hone.training.preparation.problems import EXAMPLES_SHOWN, Problem, counted
from hone.training.preparation.spool import Spool


def picture_checks(*, min_per_class: int) -> tuple[Check, ...]:
    """Return the recommended mends of pictures, in their order."""
    return (
        Check(find_spellings, merge_spellings),
        Check(find_misspellings),
        Check(
            lambda spool: find_conflicts(spool, noun="picture"),
            lambda spool: spool.drop("temp.outvoted", "conflicting_labels"),
        ),
        Check(find_copies, lambda spool: spool.drop("temp.repeats", "duplicate")),
        Check(
            lambda spool: find_rare_classes(spool, min_per_class),
            lambda spool: spool.drop("temp.rare_rows", "rare_class"),
        ),
        Check(find_likenesses),
    )


def find_copies(spool: Spool) -> Problem | None:
    """Find pictures whose file is byte for byte that of an earlier one with the same label."""
    rows = write_repeats(spool)
    if not rows:
        return None
    message = (
        f"{counted(rows, 'picture is a copy', 'pictures are copies')} of an earlier one with the "
        "same label, byte for byte"
    )
    examples = repeat_examples(spool)
    return Problem("duplicates", "recommended", rows, message, "keep the first of each", examples)


def find_likenesses(spool: Spool) -> Problem | None:
    """Tell of pictures that look nearly like another; those of one class go into one split."""
    spool.temporary(
        "likenesses",
        "SELECT bag, min(id) AS first, count(*) AS rows, count(DISTINCT label) AS labels"
        " FROM kept_file GROUP BY bag HAVING count(DISTINCT words) > 1",
    )
    rows = spool.number("SELECT sum(rows) FROM temp.likenesses")
    if not rows:
        return None
    groups = spool.count("temp.likenesses")
    mixed = spool.count("temp.likenesses", "labels > 1")
    message = (
        f"{rows:,} pictures look nearly like another (a perceptual hash says so), in "
        f"{counted(groups, 'group')}; those of one label stay together in one split"
    )
    if mixed:
        message += f", and {counted(mixed, 'group has', 'groups have')} several labels"
    query = (
        "SELECT f.text, f.label, r.text, r.label FROM"
        " (SELECT * FROM temp.likenesses ORDER BY labels DESC, first LIMIT ?) l"
        " CROSS JOIN kept_file r ON r.bag = l.bag CROSS JOIN rows f ON f.id = l.first"
        " WHERE r.id > l.first ORDER BY l.labels DESC, r.id LIMIT ?"
    )
    examples = tuple(
        {"text": first, "label": label, "looks_like": other, "its_label": other_label}
        for first, label, other, other_label in spool.select(query, (EXAMPLES_SHOWN,) * 2)
    )
    return Problem("near_duplicates", "advice", rows, message, examples=examples)
