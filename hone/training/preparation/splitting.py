"""Cutting FILE into train, validation and test: stratified, seeded, nothing on both sides."""

import hashlib
from collections.abc import Mapping, Sequence

from hone.models.errors import InvalidExamples
from hone.models.examples import SPLITS
from hone.training.preparation.problems import EXAMPLES_SHOWN, Problem, counted
from hone.training.preparation.spool import Spool, shown

_ORDER_OF_NEED = ("train", "test", "validation")
"""Which split gets a class's rows first when there are fewer of them than splits."""


def cut_splits(spool: Spool, shares: Mapping[str, float], *, seed: int) -> None:
    """Give every kept row of FILE a split; rows of given splits get theirs.

    `shares` are those of the splits to cut, train included, and sum to 1. Within a class, rows
    are ordered by a hash of the seed and their words, so that the cut does not depend on the
    order of the file. A class with as many different texts as there are splits is in all of
    them. Raises InvalidExamples when a split would stay empty.
    """
    spool.run("UPDATE rows SET split = origin WHERE reason IS NULL AND origin != 'file'")
    spool.database.create_function("drawn", 1, _Draw(seed), deterministic=True)
    _make_units(spool, splits=len(shares))
    spool.temporary("units", "SELECT unit, min(label) AS label FROM kept_file GROUP BY unit")
    _write_quotas(spool, shares, seed=seed)
    spool.temporary(
        "assigned",
        "SELECT unit, CASE WHEN place <= train THEN 'train'"
        " WHEN place <= train + validation THEN 'validation' ELSE 'test' END AS split FROM"
        " (SELECT unit, label, row_number() OVER (PARTITION BY label ORDER BY drawn(unit)) AS"
        " place FROM temp.units) JOIN temp.quotas USING (label)",
    )
    spool.run("CREATE INDEX temp.assigned_by_unit ON assigned (unit)")
    spool.run(
        "UPDATE rows SET split = (SELECT split FROM temp.assigned a WHERE a.unit = rows.unit)"
        " WHERE reason IS NULL AND origin = 'file'"
    )
    _refuse_empty(spool)


class _Draw:
    """A hash that stands for a random number, drawn anew for every seed."""

    def __init__(self, seed: int) -> None:
        self._seed = f"{seed}/".encode()

    def __call__(self, value: bytes) -> bytes:
        return hashlib.blake2b(self._seed + value, digest_size=16).digest()


def _make_units(spool: Spool, *, splits: int) -> None:
    """Say which rows stay together: those with the same words, in whatever order.

    Rows with the same words in another order and other labels are different examples, and a
    class that would have too few units for every split is cut by whole texts.
    """
    spool.run("CREATE INDEX by_bag ON rows (bag)")
    spool.temporary(
        "bags",
        "SELECT bag, min(label) AS label FROM kept_file GROUP BY bag"
        " HAVING count(DISTINCT label) = 1",
    )
    spool.temporary(
        "scarce", "SELECT label FROM temp.bags GROUP BY label HAVING count(*) < ?", (splits,)
    )
    spool.run("CREATE INDEX temp.bags_by_bag ON bags (bag)")
    spool.run(
        "UPDATE rows SET unit = CASE WHEN label NOT IN (SELECT label FROM temp.scarce)"
        " AND bag IN (SELECT bag FROM temp.bags) THEN bag ELSE words END"
        " WHERE reason IS NULL AND origin = 'file'"
    )
    spool.run("CREATE INDEX by_unit ON rows (unit)")


def _write_quotas(spool: Spool, shares: Mapping[str, float], *, seed: int) -> None:
    counts = spool.select("SELECT label, count(*) FROM temp.units GROUP BY label")
    draw = _Draw(seed)
    quotas = []
    for label, count in list(counts):
        cut = quota(int(str(count)), shares, tie=draw(str(label).encode()))
        quotas.append((label, cut.get("train", 0), cut.get("validation", 0)))
    spool.run("DROP TABLE IF EXISTS temp.quotas")
    spool.run("CREATE TEMP TABLE quotas (label TEXT PRIMARY KEY, train INT, validation INT)")
    spool.database.executemany("INSERT INTO temp.quotas VALUES (?, ?, ?)", quotas)


def quota(count: int, shares: Mapping[str, float], *, tie: bytes) -> dict[str, int]:
    """Divide `count` by shares: largest remainder, then at least one for each that can have one.

    `tie` decides between equal remainders, so that no split is favoured in all classes.
    """
    exact = {split: count * share for split, share in shares.items()}
    cut = {split: int(wanted) for split, wanted in exact.items()}
    names = sorted(shares, key=lambda split: hashlib.blake2b(tie + split.encode()).digest())
    by_remainder = sorted(names, key=lambda split: cut[split] - exact[split])
    for split in by_remainder[: count - sum(cut.values())]:
        cut[split] += 1
    needy = [name for name in _ORDER_OF_NEED if name in shares][:count]
    for split in needy:
        if not cut[split]:
            cut[max(cut, key=lambda name: (cut[name], name not in needy))] -= 1
            cut[split] += 1
    return cut


def _refuse_empty(spool: Spool) -> None:
    for split in SPLITS:
        if not spool.count("kept", "split = ?", (split,)):
            raise InvalidExamples(
                f"the {split} split would be empty: a class with at least three different texts "
                "is needed to cut all splits, and a given split needs a row of its own"
            )


def near_repeats_between_splits(spool: Spool, splits: Sequence[str]) -> list[Problem]:
    """Tell of rows in `splits` whose distinct words are those of a train row."""
    found = []
    for split in splits:
        count = spool.temporary(
            "near",
            "SELECT h.id, (SELECT min(t.id) FROM kept t WHERE t.bag = h.bag AND"
            " t.split = 'train') AS other FROM kept h WHERE h.split = ? AND EXISTS"
            " (SELECT 1 FROM kept t WHERE t.bag = h.bag AND t.split = 'train')",
            (split,),
        )
        if count:
            found.append(_near_problem(spool, split, count))
    return found


def _near_problem(spool: Spool, split: str, count: int) -> Problem:
    query = (
        "SELECT h.origin, h.number, h.text, h.label, t.origin, t.number, t.text, t.label"
        " FROM (SELECT * FROM temp.near ORDER BY id LIMIT ?) d"
        " CROSS JOIN rows h ON h.id = d.id CROSS JOIN rows t ON t.id = d.other"
    )
    examples = tuple(
        {
            **spool.place(origin, number),
            "text": shown(text),
            "label": label,
            "train": {**spool.place(of, line), "text": shown(other), "label": other_label},
        }
        for origin, number, text, label, of, line, other, other_label in spool.select(
            query, (EXAMPLES_SHOWN,)
        )
    )
    message = (
        f"{counted(count, 'row')} of the {split} split {'has' if count == 1 else 'have'} the same "
        "words as a train row, in another order or number"
    )
    return Problem("near_duplicates", "advice", count, message, examples=examples)
