"""The answers on disk: every call is written down before it is made and when it ends.

SQLite in WAL mode, synchronised with each answer: a run that is killed at any point, by a power
cut too, finds every answer that had arrived. A run whose process is killed also knows of the
calls that were under way: they may have been billed, and count against the budget with what they
might have cost at most.
"""

import queue
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hone.models.errors import InvalidInput
from hone.models.manifest import sha256_of_json
from hone.models.prompting.usage import Usage

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
class _Write:
    """One statement that waits to be written, and who is told of it.

    `lasting` says that it must survive a power cut, and not only the end of the process.
    """

    statement: str
    values: tuple[Any, ...]
    done: "Future[int]"
    lasting: bool


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
    """The calls of one run folder. Thread-safe; one process at a time.

    A thread of its own writes: what waits when it comes round goes into one transaction, so that
    many calls at once share one synchronisation of the disk.
    """

    def __init__(self, path: Path) -> None:
        self._reading = threading.Lock()
        self._waiting: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        try:
            self._writer, self._reader = _connection(path), _connection(path)
        except sqlite3.DatabaseError:
            raise InvalidInput(f"{path} is not a file of answers that can be read") from None
        self._thread = threading.Thread(target=self._write_on, name="answers", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what waits, and close the file."""
        self._waiting.put(None)
        self._thread.join()
        self._writer.close()
        self._reader.close()

    def begin(
        self, key: str, *, contender: str, item: str, repeat: int, most_usd: float
    ) -> "Future[int]":
        """Write down that a call is made, and give its number."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        return self._write(
            "INSERT INTO calls (key, contender, item, repeat, sent, most_usd, state)"
            " VALUES (?, ?, ?, ?, ?, ?, 'sent')",
            (key, contender, item, repeat, now, most_usd),
            lasting=False,
        )

    def answered(
        self, call: int, body: bytes, *, seconds: float, usage: Usage, usd: float | None
    ) -> "Future[int]":
        """Write an answer down."""
        columns = usage.model_dump()
        return self._end(call, "answered", seconds=seconds, body=body, usd=usd, **columns)

    def failed(
        self, call: int, error: str, *, unclear: bool, usage: Usage | None, usd: float | None
    ) -> "Future[int]":
        """Write down why there is none; `unclear` says that the call may have been billed."""
        counted = {} if usage is None else usage.model_dump()
        state = "unclear" if unclear else "failed"
        return self._end(call, state, error=error, usd=usd, **counted)

    def _end(self, call: int, state: str, **columns: Any) -> "Future[int]":  # noqa: ANN401 - by column
        named = ", ".join(f"{name} = ?" for name in ("state", *columns))
        return self._write(
            f"UPDATE calls SET {named} WHERE id = ?",  # noqa: S608 - our own columns' names
            (state, *columns.values(), call),
            lasting=True,
        )

    def _write(self, statement: str, values: tuple[Any, ...], *, lasting: bool) -> "Future[int]":
        done: Future[int] = Future()
        self._waiting.put(_Write(statement, values, done, lasting))
        return done

    def _write_on(self) -> None:
        """Write whatever waits, until the file is closed."""
        more = True
        while more:
            writes = [self._waiting.get()]
            with suppress(queue.Empty):
                while writes[-1] is not None:
                    writes.append(self._waiting.get_nowait())
            more = writes[-1] is not None
            self._write_together([write for write in writes if write is not None])

    def _write_together(self, writes: "Sequence[_Write]") -> None:
        """Make one transaction of several writes; each learns of its row, or of what went wrong."""
        level = "FULL" if any(write.lasting for write in writes) else "NORMAL"
        try:
            self._writer.execute(f"PRAGMA synchronous={level}")
            self._writer.execute("BEGIN IMMEDIATE")
            rows = [self._writer.execute(w.statement, w.values).lastrowid for w in writes]
            self._writer.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                self._writer.execute("ROLLBACK")
            for write in writes:
                _tell(write.done, error)
            return
        for write, row in zip(writes, rows, strict=True):
            _tell(write.done, row or 0)

    def known(self, key: str) -> Known:
        """Return what is known of one question."""
        with self._reading:
            rows = self._reader.execute(
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
        with self._reading:
            usd, unclear, calls, unpriced = self._reader.execute(
                "SELECT TOTAL(usd), TOTAL(CASE WHEN state IN ('sent', 'unclear') AND usd IS NULL"
                " THEN most_usd END), COUNT(*), TOTAL(state = 'answered' AND usd IS NULL)"
                " FROM calls"
            ).fetchone()
        return Sums(float(usd), float(unclear), int(calls), int(unpriced))

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield every call as it was written down, for a recount."""
        with self._reading:
            found = self._reader.execute("SELECT * FROM calls ORDER BY id")
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


def _connection(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=60)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute(_TABLE)
    database.execute(_INDEX)
    return database


def _tell(done: "Future[int]", outcome: int | sqlite3.Error) -> None:
    """Hand a result over, unless whoever waited for it has gone."""
    if not done.set_running_or_notify_cancel():
        return
    if isinstance(outcome, int):
        done.set_result(outcome)
    else:
        done.set_exception(InvalidInput(f"the answers cannot be written down: {outcome}"))


def _usage(values: Sequence[Any]) -> Usage:
    counting, prompt, completion, cached, written = values
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=cached,
        cache_write_tokens=written,
        counting=counting,
    )
