"""Transactions on the job store's database: SQLite in one file, or PostgreSQL by URL.

Calls are synchronous and short; they belong into threads, never on an event loop's thread. A SQLite
file must be on a local disk (not NFS), and is copied with SQLite's backup, never with `cp`.
"""

import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, func, select

from hone.service.jobs.bell import Bell
from hone.service.jobs.connecting import WRITES, connect, sqlite_file, use_write_ahead_log
from hone.service.jobs.driver_errors import driver_errors
from hone.service.jobs.errors import disk_errors
from hone.service.jobs.revisions import upgrade

WAIT_S = 10.0
"""How long a writer waits for another one before it gives up with StoreBusy."""


class Database:
    """Transactions on one database. Safe in threads; a forked process must open its own."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.is_sqlite = engine.dialect.name == "sqlite"
        self.bell = Bell()
        """Rung in this process when there is something new for the runner to do."""
        self._turn = threading.Lock()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give a transaction that is committed at the end, or undone if the block raises.

        On SQLite there is one writer at a time, and what it has read cannot change under it.
        StoreBusy, StoreUnreachable, DiskFull, Conflict (a constraint) or StoreFailed.
        """
        # Threads of this process queue here in turn; SQLite's own waiting is a lottery.
        turn = self._turn if self.is_sqlite else nullcontext()
        with driver_errors(), turn, self.engine.connect() as fresh:
            connection = fresh.execution_options(**{WRITES: True})
            with connection.begin():
                yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a transaction that sees one state of the store, and changes nothing."""
        options: dict[str, Any] = {}
        if not self.is_sqlite:
            options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with driver_errors(), self.engine.connect() as fresh:
            connection = fresh.execution_options(**options)
            with connection.begin():
                yield connection

    def lock(self, connection: Connection, what: str) -> None:
        """Keep every other holder of the same lock out until the transaction ends.

        On SQLite a writing transaction keeps every other one out anyway.
        """
        if not self.is_sqlite:
            connection.execute(select(func.pg_advisory_xact_lock(_lock_number(what))))

    def try_lock(self, connection: Connection, what: str) -> bool:
        """Do as `lock` does, or return False at once if somebody holds it."""
        if self.is_sqlite:
            return True
        return bool(connection.scalar(select(func.pg_try_advisory_xact_lock(_lock_number(what)))))

    def close(self) -> None:
        """Close every connection that is not in use."""
        self.engine.dispose()


def open_database(url: str, *, wait_s: float = WAIT_S) -> Database:
    """Open a database, made or brought up to date first; several processes may do so at once.

    `url` is `sqlite:////absolute/file.db` or `postgresql://user:password@host/name` (a password
    may lie in PostgreSQL's own password file instead). InvalidInput for another kind of URL,
    MissingDependency without the extra `postgres`, StoreUnreachable, StoreBusy, DiskFull or
    StoreFailed.
    """
    engine = connect(url, wait_s)
    database = Database(engine)
    try:
        _bring_up_to_date(database)
    except BaseException:
        database.close()
        raise
    return database


def _bring_up_to_date(database: Database) -> None:
    file = sqlite_file(database.engine)
    with _alone(file) if file else nullcontext():
        if file:
            with driver_errors():
                use_write_ahead_log(database.engine)
        with database.writing() as connection:
            database.lock(connection, "migrations")
            upgrade(connection)


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Hold the lock of a SQLite file's opening: two processes cannot both change its mode."""
    with disk_errors():
        lock = os.open(file.with_name(f".{file.name}.opening"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        with disk_errors():
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _lock_number(what: str) -> int:
    """Return the number of an advisory lock: PostgreSQL names them by 64 signed bits."""
    digest = hashlib.sha256(f"hone:{what}".encode()).digest()
    return int.from_bytes(digest[:8], signed=True)
