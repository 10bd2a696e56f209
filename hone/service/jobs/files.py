"""Files: rows, and their content by its hash.

    <folder>/.incoming/<name>   what is being written
    <folder>/<sha256>           content, shared by all rows of this hash

A row never lacks its content: it is on disk under its address before the row is committed, and is
removed only where no row has it, while nobody can add one. A kill leaves at most content that no
row has; `sweep` removes that at start.
"""

import contextlib
import re
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy import ColumnElement, Connection, insert, or_, select, update

from hone.models.errors import HoneError, InvalidInput, NotFound
from hone.service.jobs import incoming as arrival
from hone.service.jobs.database import Database
from hone.service.jobs.errors import disk_errors
from hone.service.jobs.ids import Clock, new_id, unix_seconds
from hone.service.jobs.incoming import Incoming
from hone.service.jobs.pages import FIRST_PAGE, Cursor, Page, columns_of, read_page, read_rows
from hone.service.jobs.tables import files

MOST_BYTES = 512 * 2**20
"""The most bytes of one file, unless the caller says otherwise."""

FileStatus = Literal["uploaded", "processed", "error"]
_ADDRESS = re.compile(r"[0-9a-f]{64}")
_LONGEST_NAME = 255


@dataclass(frozen=True, slots=True)
class NewFile:
    """What is known of a file besides its content; `expires_after_s` counts from its creation."""

    owner: str
    purpose: str
    filename: str
    status: FileStatus = "uploaded"
    expires_after_s: int | None = None


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file's row. `deleted_at` is set on what only `described` still returns."""

    id: str
    owner: str
    purpose: str
    filename: str
    bytes: int
    sha256: str
    status: FileStatus
    status_details: str | None
    created_at: int
    expires_at: int | None
    deleted_at: int | None


AlsoInsert = Callable[[Connection, StoredFile], None]
"""Something to do in the transaction that inserts the row: both happen, or neither."""


class Files:
    """The files of all owners, in one folder and one table."""

    def __init__(self, database: Database, folder: Path, *, clock: Clock = time.time) -> None:
        self.folder = folder
        self._database, self._clock = database, clock

    def incoming(self, *, most_bytes: int = MOST_BYTES) -> AbstractContextManager[Incoming]:
        """Give a file to write in chunks, which `add` then keeps."""
        return arrival.incoming(self.folder, most_bytes)

    def add(self, content: Incoming, new: NewFile, *, also: AlsoInsert | None = None) -> StoredFile:
        """Keep what was written; InvalidInput for an unusable name. Call it once."""
        content.flush()
        try:
            with self._database.writing() as connection:
                stored = self.insert(connection, content, new)
                if also is not None:
                    also(connection, stored)
                return stored
        except HoneError:
            with contextlib.suppress(HoneError):  # else the next sweep does it
                self._remove_if_unused(content.sha256)
            raise

    def insert(self, connection: Connection, content: Incoming, new: NewFile) -> StoredFile:
        """Keep flushed content in the caller's writing transaction.

        If that is undone, no row is left; the content may be, until the next sweep.
        """
        name = base_name(new.filename)
        self._database.lock(connection, content.sha256)
        content.place(self.folder / content.sha256)
        now = unix_seconds(self._clock)
        expires = None if new.expires_after_s is None else now + new.expires_after_s
        values = {
            "id": new_id("file-"),
            "owner": new.owner,
            "purpose": new.purpose,
            "filename": name,
            "bytes": content.size,
            "sha256": content.sha256,
            "status": new.status,
            "created_at": now,
            "expires_at": expires,
        }
        added = insert(files).values(**values).returning(*columns_of(StoredFile, files))
        return StoredFile(**connection.execute(added).mappings().one())

    def create(self, chunks: Iterable[bytes], new: NewFile) -> StoredFile:
        """Write and keep a file in one call."""
        with self.incoming() as content:
            for chunk in chunks:
                content.write(chunk)
            return self.add(content, new)

    def get(self, owner: str, id_: str) -> StoredFile:
        """Return an owner's file; NotFound if it has none of this id (any more)."""
        found = select(*columns_of(StoredFile, files)).where(
            files.c.id == id_, files.c.owner == owner, *self._living()
        )
        with self._database.reading() as connection:
            return _only(read_rows(connection, StoredFile, found))

    def path(self, owner: str, id_: str) -> Path:
        """Return where a file's content lies, to be read and not written."""
        return self.folder / self.get(owner, id_).sha256

    def described(self, owner: str, ids: Iterable[str]) -> dict[str, StoredFile]:
        """Return an owner's files of these ids, the deleted ones too; unknown ids are left out."""
        found = select(*columns_of(StoredFile, files)).where(
            files.c.id.in_(list(ids)), files.c.owner == owner
        )
        with self._database.reading() as connection:
            return {file.id: file for file in read_rows(connection, StoredFile, found)}

    def list(
        self, owner: str, *, purpose: str | None = None, cursor: Cursor = FIRST_PAGE
    ) -> Page[StoredFile]:
        """Return a page of an owner's files."""
        shown = [*self._living()]
        if purpose is not None:
            shown.append(files.c.purpose == purpose)
        mine = [files.c.owner == owner]
        with self._database.reading() as connection:
            return read_page(connection, StoredFile, files, cursor, mine=mine, shown=shown)

    def mark(self, id_: str, status: FileStatus, details: str | None = None) -> None:
        """Record what became of a file's validation; NotFound if it is gone."""
        change = update(files).where(files.c.id == id_, files.c.deleted_at.is_(None))
        with self._database.writing() as connection:
            done = connection.execute(change.values(status=status, status_details=details))
            if done.rowcount == 0:
                raise _no_file()

    def delete(self, owner: str, id_: str) -> None:
        """Delete an owner's file, and its content unless another row has it; NotFound."""
        mine = (files.c.id == id_, files.c.owner == owner, *self._living())
        gone = update(files).where(*mine).values(deleted_at=unix_seconds(self._clock))
        with self._database.writing() as connection:
            sha256 = connection.scalar(gone.returning(files.c.sha256))
        if sha256 is None:
            raise _no_file()
        self._remove_if_unused(sha256)

    def expire(self) -> int:
        """Delete every file whose time has come, and return how many."""
        now = unix_seconds(self._clock)
        due = (files.c.deleted_at.is_(None), files.c.expires_at <= now)
        gone = update(files).where(*due).values(deleted_at=now).returning(files.c.sha256)
        with self._database.writing() as connection:
            hashes = [str(sha256) for sha256 in connection.scalars(gone)]
        for sha256 in set(hashes):
            self._remove_if_unused(sha256)
        return len(hashes)

    def sweep(self) -> int:
        """Remove what kills have left, and return how many files that were. For the start."""
        removed = arrival.sweep(self.folder)
        with disk_errors():
            entries = self.folder.iterdir() if self.folder.is_dir() else ()
            addresses = [path.name for path in entries if _ADDRESS.fullmatch(path.name)]
        return removed + sum(self._remove_if_unused(sha256) for sha256 in addresses)

    def _remove_if_unused(self, sha256: str) -> bool:
        """Remove content that no row has, while nobody can add a row for it."""
        used = select(files.c.number).where(files.c.sha256 == sha256, files.c.deleted_at.is_(None))
        with self._database.writing() as connection:
            self._database.lock(connection, sha256)
            if connection.execute(used.limit(1)).first() is not None:
                return False
            with disk_errors():
                (self.folder / sha256).unlink(missing_ok=True)
            return True

    def _living(self) -> tuple[ColumnElement[bool], ...]:
        expires, now = files.c.expires_at, unix_seconds(self._clock)
        return files.c.deleted_at.is_(None), or_(expires.is_(None), expires > now)


def base_name(filename: str) -> str:
    """Return the last part of a path as either kind of system writes it; clients send whole paths.

    InvalidInput if nothing is left.
    """
    name = re.split(r"[/\\]", filename)[-1].strip()[:_LONGEST_NAME]
    if not name or name in {".", ".."}:
        raise InvalidInput("the file has no name")
    return name


def _only(rows: list[StoredFile]) -> StoredFile:
    if not rows:
        raise _no_file()
    return rows[0]


def _no_file() -> NotFound:
    return NotFound("there is no file with this id")
