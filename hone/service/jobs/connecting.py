"""From a URL to an engine: SQLite in one file, or PostgreSQL through psycopg."""

import os
import sqlite3
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import ConnectionPoolEntry

from hone.models import durable
from hone.models.errors import InvalidInput, MissingDependency
from hone.service.jobs.errors import StoreFailed, disk_errors
from hone.service.jobs.tables import storable

WRITES = "hone_writes"
"""The execution option of a connection whose next transaction will write."""

_MOST_CONNECTIONS = 20
_STOPPED_WRITER_S = 60
"""After this long PostgreSQL ends a transaction whose process was stopped in the middle of it."""


def connect(url: str, wait_s: float) -> Engine:
    """Return an engine that waits up to `wait_s` seconds for a connection or a lock.

    InvalidInput for a URL of another kind, MissingDependency without psycopg.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise InvalidInput("the job store's URL cannot be understood") from None
    kind = parsed.drivername.partition("+")[0]
    if kind == "sqlite":
        return _sqlite(parsed, wait_s)
    if kind in {"postgresql", "postgres"}:
        return _postgres(parsed, wait_s)
    raise InvalidInput("the job store's URL begins with sqlite:// or postgresql://")


def sqlite_file(engine: Engine) -> Path | None:
    """Return the file of a SQLite engine."""
    return Path(str(engine.url.database)) if engine.dialect.name == "sqlite" else None


def _sqlite(url: URL, wait_s: float) -> Engine:
    if not url.database or url.database == ":memory:" or url.query:
        raise InvalidInput("the job store's SQLite URL names one file and nothing else")
    _make_private_file(Path(url.database))
    engine = _engine(url.set(drivername="sqlite+pysqlite"), wait_s, {"timeout": wait_s})
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _make_private_file(path: Path) -> None:
    """Make an empty file for the owner alone; what SQLite puts beside it gets the same mode."""
    with disk_errors():
        durable.make_folder(path.parent)
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _set_up_sqlite(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    """Flush every commit, enforce foreign keys, and leave BEGIN to `_begin_sqlite`."""
    connection.isolation_level = None
    for pragma in ("synchronous=FULL", "foreign_keys=ON", "journal_size_limit=67108864"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    """Take the write lock at the start: a reader that turns writer could only fail."""
    writes = connection.get_execution_options().get(WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def use_write_ahead_log(engine: Engine) -> None:
    """Put a SQLite file into WAL mode, which lasts: readers and the writer do not wait."""
    raw = engine.raw_connection()
    try:
        mode = raw.cursor().execute("PRAGMA journal_mode=WAL").fetchone()[0]
    finally:
        raw.close()
    if mode != "wal":
        raise StoreFailed("the job store's file cannot be in WAL mode: it needs a local disk")


def _postgres(url: URL, wait_s: float) -> Engine:
    wait_ms = round(wait_s * 1000)
    options = (
        f"-c lock_timeout={wait_ms}"
        f" -c idle_in_transaction_session_timeout={_STOPPED_WRITER_S * 1000}"
        " -c timezone=UTC"
    )
    arguments: dict[str, Any] = {
        "connect_timeout": max(2, round(wait_s)),
        # A server that is gone without a word is noticed in half a minute, not in a quarter hour.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 4,
        "tcp_user_timeout": 30_000,
    }
    if "options" not in url.query:
        arguments["options"] = options
    try:
        return _engine(url.set(drivername="postgresql+psycopg"), wait_s, arguments)
    except ModuleNotFoundError:
        raise MissingDependency("a job store on PostgreSQL", "postgres") from None


def _engine(url: URL, wait_s: float, arguments: dict[str, Any]) -> Engine:
    return create_engine(
        url,
        connect_args=arguments,
        pool_size=5,
        max_overflow=_MOST_CONNECTIONS - 5,
        pool_timeout=wait_s,
        pool_pre_ping=url.drivername.startswith("postgresql"),
        json_serializer=_json,
        json_deserializer=orjson.loads,
        hide_parameters=True,  # rows must not come into logs by way of an error
    )


def _json(value: object) -> str:
    try:
        text = orjson.dumps(value).decode()
    except TypeError:
        raise InvalidInput("a value cannot be stored as JSON") from None
    if "\\u0000" in text:
        _refuse_nul(value)
    return text


def _refuse_nul(value: object) -> None:
    """Raise InvalidInput if a text anywhere in `value` holds NUL."""
    if isinstance(value, str):
        storable(value)
    if isinstance(value, dict):
        for key, inner in value.items():
            _refuse_nul(key)
            _refuse_nul(inner)
    if isinstance(value, list | tuple):
        for inner in value:
            _refuse_nul(inner)
