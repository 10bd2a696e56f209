"""All rows of a run in a temporary SQLite file, so that memory stays flat however many there are.

Every row and every unreadable line of the input has exactly one line in the table `rows`. It is
kept while its `reason` is NULL; otherwise the reason says why it was dropped.
"""

import hashlib
import sqlite3
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, cast

from hone.models.examples import Example, words_key

Origin = Literal["file", "validation", "test"]
"""FILE itself, or a split that came in a file of its own."""

SHOWN_CHARACTERS = 300
"""How much of a text stands in an example of a problem."""

_BATCH = 2000

_SCHEMA = """
CREATE TABLE rows (
    id INTEGER PRIMARY KEY,
    origin TEXT NOT NULL,
    number INTEGER NOT NULL,
    text TEXT,
    label TEXT,
    words BLOB,      -- digest of words_key(text): the same text but for case and punctuation
    bag BLOB,        -- digest of its distinct words in order of the alphabet
    unit BLOB,       -- rows with one unit go into one split
    split TEXT,
    reason TEXT,     -- why the row was dropped; NULL while it is kept
    detail TEXT
);
CREATE TABLE lengths (id INTEGER PRIMARY KEY, tokens INTEGER NOT NULL);
CREATE VIEW kept AS SELECT * FROM rows WHERE reason IS NULL;
CREATE VIEW kept_file AS SELECT * FROM rows WHERE reason IS NULL AND origin = 'file';
"""


class SpooledRow(NamedTuple):
    """What is written of one input row. `reason` and `detail` are set for a dropped one."""

    origin: Origin
    number: int
    text: str | None
    label: str | None
    words: bytes | None = None
    bag: bytes | None = None
    reason: str | None = None
    detail: str | None = None


def kept_row(origin: Origin, number: int, text: str, label: str) -> SpooledRow:
    """Return a usable row with the digests that say which rows are alike."""
    words = words_key(text)
    bag = " ".join(sorted(set(words.split())))
    return SpooledRow(origin, number, text, label, _digest(words), _digest(bag))


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def folded_label(label: str) -> str:
    """Return what spellings of one label share: NFKC, no case, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", label).casefold().split())


class Spool:
    """The table and the few statements that every check uses. A context manager.

    `files` are the names of the files by what they are; `numbered` tells whether a row's number
    is a place in them.
    """

    def __init__(self, path: Path, files: Mapping[Origin, str], *, numbered: bool = True) -> None:
        self.files = files
        self.numbered = numbered
        self.database = sqlite3.connect(path, isolation_level=None)
        self.database.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA locking_mode=EXCLUSIVE;"
            "PRAGMA cache_size=-8192; PRAGMA temp_store=FILE;" + _SCHEMA
        )
        self.database.create_function("folded", 1, folded_label, deterministic=True)
        self.database.create_function("trimmed", 1, str.strip, deterministic=True)

    def __enter__(self) -> "Spool":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.database.close()

    def add(self, rows: Iterable[SpooledRow]) -> None:
        """Write rows in the order they come in."""
        self.database.execute("BEGIN")
        self.database.executemany(
            "INSERT INTO rows (origin, number, text, label, words, bag, reason, detail)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        self.database.execute("COMMIT")

    def index(self) -> None:
        """Make the lookups quick; call it once, after all rows are in."""
        self.database.execute("CREATE INDEX by_words ON rows (words, label)")

    def count(
        self, table: str = "kept", where: str = "TRUE", parameters: Sequence[object] = ()
    ) -> int:
        """Return how many lines of a table or view fulfil a condition."""
        statement = f"SELECT count(*) FROM {table} WHERE {where}"  # noqa: S608 - words of ours
        return int(self.database.execute(statement, parameters).fetchone()[0])

    def number(self, query: str, parameters: Sequence[object] = ()) -> int:
        """Return the one number that a query gives; 0 for NULL."""
        found = self.database.execute(query, parameters).fetchone()
        return int(found[0] or 0) if found else 0

    def select(self, query: str, parameters: Sequence[object] = ()) -> Iterator[tuple[object, ...]]:
        """Yield the lines of a query without holding more than a few of them."""
        with closing(self.database.cursor()) as cursor:
            cursor.execute(query, parameters)
            while batch := cursor.fetchmany(_BATCH):
                yield from batch

    def run(self, statement: str, parameters: Sequence[object] = ()) -> None:
        """Run one statement."""
        self.database.execute(statement, parameters)

    def temporary(self, name: str, query: str, parameters: Sequence[object] = ()) -> int:
        """Put the answer of a query into a temporary table; return how many lines it has."""
        self.database.execute(f"DROP TABLE IF EXISTS temp.{name}")
        self.database.execute(f"CREATE TEMP TABLE {name} AS {query}", parameters)
        return self.count(f"temp.{name}")

    def drop(self, table: str, reason: str) -> None:
        """Give the rows whose `id` stands in a table a reason to be dropped."""
        self.database.execute(
            f"UPDATE rows SET reason = ? WHERE id IN (SELECT id FROM {table})",  # noqa: S608
            (reason,),
        )

    def dropped(self) -> dict[str, int]:
        """Return how many rows were dropped for which reason."""
        query = (
            "SELECT reason, count(*) FROM rows WHERE reason IS NOT NULL GROUP BY reason"
            " ORDER BY min(id)"
        )
        return {str(reason): int(str(count)) for reason, count in self.select(query)}

    def examples(self, split: str) -> Iterator[Example]:
        """Yield a split's rows in the order of the input."""
        query = "SELECT text, label FROM kept WHERE split = ? ORDER BY id"
        for text, label in self.select(query, (split,)):
            yield Example(str(text), str(label))

    def place(self, origin: object, number: object) -> dict[str, object]:
        """Return where a row stands, for an example of a problem."""
        found: dict[str, object] = {"file": self.files[cast("Origin", origin)]}
        return found | {"line": number} if self.numbered else found


def shown(text: object) -> str:
    """Shorten a text for an example."""
    whole = str(text)
    return whole if len(whole) <= SHOWN_CHARACTERS else whole[:SHOWN_CHARACTERS] + "…"
