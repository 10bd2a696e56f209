"""From an error of SQLAlchemy, sqlite3 or psycopg to a HoneError: the one place where it happens.

No message of a driver goes on: it may quote rows.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import exc

from hone.models.errors import Conflict, HoneError, InvalidInput
from hone.service.jobs.errors import DiskFull, StoreBusy, StoreFailed, StoreUnreachable

# A quota and a limit on file sizes show as SQLITE_IOERR_WRITE, a full disk as SQLITE_FULL.
_SQLITE_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE}
_SQLITE_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_SQLITE_UNREACHABLE = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}

_POSTGRES_BUSY = ("55P03", "40001", "40P01", "57014", "25P03", "53300", "53200")
"""Lock not available, serialization failure, deadlock, cancelled, idle too long, too many
connections, out of memory."""
_POSTGRES_GONE = ("08", "57P")
_POSTGRES_FULL = "53100"


@contextmanager
def driver_errors() -> Iterator[None]:
    """Turn whatever the database layer raises into a HoneError."""
    try:
        yield
    except exc.TimeoutError as error:
        raise StoreBusy("every connection to the job store is in use") from error
    except exc.StatementError as error:
        raise _translated(error) from error
    except sqlite3.Error as error:  # a connection used without SQLAlchemy
        raise _from_sqlite(error) from error


def _translated(error: exc.StatementError) -> HoneError:
    original = error.orig
    if isinstance(original, HoneError):  # a column type refused the value
        return original
    if isinstance(error, exc.IntegrityError):
        return Conflict("the job store already holds this, or lacks what it refers to")
    if isinstance(error, exc.DataError):
        return InvalidInput("a value cannot be stored")
    if isinstance(original, sqlite3.Error):
        return _from_sqlite(original)
    return _from_postgres(error)


def _from_sqlite(error: sqlite3.Error) -> HoneError:
    code = getattr(error, "sqlite_errorcode", 0)  # only errors of the library itself have one
    if code in _SQLITE_FULL:
        return DiskFull("the disk of the job store is full")
    if code & 0xFF in _SQLITE_BUSY:
        return StoreBusy("another writer holds the job store")
    if code & 0xFF in _SQLITE_UNREACHABLE:
        return StoreUnreachable("the job store's file cannot be opened for writing")
    return StoreFailed("the job store's file cannot be used")


def _from_postgres(error: exc.StatementError) -> HoneError:
    state = str(getattr(error.orig, "sqlstate", None) or "")
    if state == _POSTGRES_FULL:
        return DiskFull("the disk of the job store is full")
    if state in _POSTGRES_BUSY:
        return StoreBusy("another writer holds the job store")
    lost = isinstance(error, exc.DBAPIError) and error.connection_invalidated
    if state.startswith(_POSTGRES_GONE) or lost or isinstance(error, exc.OperationalError):
        return StoreUnreachable("the job store does not answer")
    return StoreFailed("the job store refused a statement")
