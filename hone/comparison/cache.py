"""The answers on disk: every call is written down before it is made and when it ends.

SQLite in WAL mode, synchronised at each commit: a run that is killed at any point, by a power cut
too, finds every answer that had arrived, and knows of every call that was under way. Those may
have been billed, and count against the budget with what they might have cost at most.
"""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hone.comparison.outcomes import Usage
from hone.models.errors import InvalidInput
from hone.models.manifest import sha256_of_json

ANSWERS_FILE = "answers.db"

_TABLE = """
CREATE TABLE IF NOT EXISTS calls (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    contender TEXT NOT NULL,
    item TEXT NOT NULL,
    repeat INTEGER NOT NULL,
    sent TEXT NOT NULL,
    most_usd REAL NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('sent', 'answered', 'failed', 'unclear')),
    seconds REAL,
    body BLOB,
    error TEXT,
    counting TEXT,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    cached_tokens INTEGER,
    cache_write_tokens INTEGER,
    usd REAL
) STRICT
"""
_INDEX = "CREATE INDEX IF NOT EXISTS calls_by_key ON calls (key, state)"


def key_of(*, address: str, path: str, body: object, repeat: int) -> str:
    """Return the hash of everything that determines an answer: where, what, and which repeat."""
    return sha256_of_json({"address": address, "path": path, "body": body, "repeat": repeat})


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one question: its answer, if it has one, and what all its calls took."""

    body: bytes | None
    seconds: float | None
    usage: Usage
    spent: Usage
    calls: int


@dataclass(frozen=True, slots=True)
class Sums:
    """What all calls of the folder cost, in dollars, and how many calls have no known price.

    `unclear_usd` is what calls without a whole answer may have cost at most; such a call can have
    been billed, or not.
    """

    usd: float
    unclear_usd: float
    calls: int
    unpriced_calls: int


class AnswerCache:
    """The calls of one run folder. Thread-safe; one process at a time."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        try:
            self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.execute(_TABLE)
            self._database.execute(_INDEX)
        except sqlite3.DatabaseError:
            raise InvalidInput(f"{path} is not a file of answers that can be read") from None

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def begin(self, key: str, *, contender: str, item: str, repeat: int, most_usd: float) -> int:
        """Write down that a call is made, and return its number."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        with self._lock:
            done = self._database.execute(
                "INSERT INTO calls (key, contender, item, repeat, sent, most_usd, state)"
                " VALUES (?, ?, ?, ?, ?, ?, 'sent')",
                (key, contender, item, repeat, now, most_usd),
            )
        return int(done.lastrowid or 0)

    def answered(
        self, call: int, body: bytes, *, seconds: float, usage: Usage, usd: float | None
    ) -> None:
        """Write an answer down."""
        self._end(call, "answered", seconds=seconds, body=body, usd=usd, **_columns(usage))

    def failed(
        self, call: int, error: str, *, unclear: bool, usage: Usage | None, usd: float | None
    ) -> None:
        """Write down why there is none; `unclear` says that the call may have been billed."""
        counted = {} if usage is None else _columns(usage)
        state = "unclear" if unclear else "failed"
        self._end(call, state, error=error, usd=usd, **counted)

    def _end(self, call: int, state: str, **columns: Any) -> None:  # noqa: ANN401 - by column
        named = ", ".join(f"{name} = ?" for name in ("state", *columns))
        with self._lock:
            self._database.execute(
                f"UPDATE calls SET {named} WHERE id = ?",  # noqa: S608 - our own columns' names
                (state, *columns.values(), call),
            )

    def known(self, key: str) -> Known:
        """Return what is known of one question."""
        with self._lock:
            rows = self._database.execute(
                "SELECT state, seconds, body, counting, prompt_tokens, completion_tokens,"
                " cached_tokens, cache_write_tokens FROM calls WHERE key = ? ORDER BY id",
                (key,),
            ).fetchall()
        answer = next((row for row in rows if row[0] == "answered"), None)
        usages = [_usage(row[3:]) for row in rows if row[3] is not None]
        return Known(
            body=None if answer is None else answer[2],
            seconds=None if answer is None else answer[1],
            usage=Usage() if answer is None or answer[3] is None else _usage(answer[3:]),
            spent=sum_usage(usages),
            calls=len(rows),
        )

    def sums(self) -> Sums:
        """Return what all calls cost, killed and failed ones included."""
        with self._lock:
            usd, unclear, calls, unpriced = self._database.execute(
                "SELECT TOTAL(usd), TOTAL(CASE WHEN state IN ('sent', 'unclear') AND usd IS NULL"
                " THEN most_usd END), COUNT(*), TOTAL(state = 'answered' AND usd IS NULL)"
                " FROM calls"
            ).fetchone()
        return Sums(float(usd), float(unclear), int(calls), int(unpriced))

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield every call as it was written down, for a recount."""
        with self._lock:
            found = self._database.execute("SELECT * FROM calls ORDER BY id")
            names = [column[0] for column in found.description]
            rows = found.fetchall()
        yield from (dict(zip(names, row, strict=True)) for row in rows)


@contextmanager
def open_cache(folder: Path) -> Iterator[AnswerCache]:
    """Open a run folder's answers, made if they are not there."""
    cache = AnswerCache(folder / ANSWERS_FILE)
    try:
        yield cache
    finally:
        cache.close()


def sum_usage(usages: Sequence[Usage]) -> Usage:
    """Return tokens together; counted as the least exactly counted among them."""
    order = ("none", "measured", "exact", "estimated")
    counting = max((usage.counting for usage in usages), key=order.index, default="none")
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in usages),
        completion_tokens=sum(usage.completion_tokens for usage in usages),
        cached_tokens=sum(usage.cached_tokens for usage in usages),
        cache_write_tokens=sum(usage.cache_write_tokens for usage in usages),
        counting=counting,
    )


def _columns(usage: Usage) -> dict[str, Any]:
    return usage.model_dump()


def _usage(values: Sequence[Any]) -> Usage:
    counting, prompt, completion, cached, written = values
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=cached,
        cache_write_tokens=written,
        counting=counting,
    )
