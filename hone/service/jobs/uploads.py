"""Uploads in parts, each of which lies on disk until the upload becomes a file.

    <folder>/.incoming/<name>   a part that is being written
    <folder>/<part id>          a part

An upload is `pending` until it is completed, cancelled, or expired.
"""

import contextlib
import hashlib
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

from sqlalchemy import Connection, delete, func, insert, select, update

from hone.models.errors import Conflict, HoneError, NotFound
from hone.service.errors import InvalidRequest, TooLarge
from hone.service.jobs import incoming as arrival
from hone.service.jobs.database import Database
from hone.service.jobs.errors import disk_errors
from hone.service.jobs.files import Files, NewFile, StoredFile, base_name
from hone.service.jobs.ids import Clock, new_id, unix_seconds
from hone.service.jobs.incoming import Incoming
from hone.service.jobs.pages import columns_of, read_rows
from hone.service.jobs.tables import upload_parts, uploads

MOST_BYTES = 8 * 2**30
MOST_PART_BYTES = 64 * 2**20
MOST_PARTS = 10_000
LIFETIME_S = 3600

UploadStatus = Literal["pending", "completed", "cancelled", "expired"]
_PARTS = "upload parts"
_CHUNK_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class NewUpload:
    """What a client announces: the whole size, and what the file is to be."""

    owner: str
    filename: str
    bytes: int
    mime_type: str
    purpose: str
    file_expires_after_s: int | None = None


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload's row; `file_id` is set once it is completed."""

    id: str
    owner: str
    filename: str
    bytes: int
    mime_type: str
    purpose: str
    status: UploadStatus
    file_expires_after_s: int | None
    file_id: str | None
    created_at: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class Part:
    """A part's row."""

    id: str
    upload_id: str
    bytes: int
    created_at: int


class Uploads:
    """The uploads of all owners."""

    def __init__(
        self, database: Database, files: Files, folder: Path, *, clock: Clock = time.time
    ) -> None:
        self.folder = folder
        self._database, self._files, self._clock = database, files, clock

    def create(self, new: NewUpload, *, most_bytes: int = MOST_BYTES) -> Upload:
        """Begin an upload. TooLarge, or InvalidInput for no bytes or no name."""
        if new.bytes < 1:
            raise InvalidRequest("an upload has at least one byte", param="bytes")
        if new.bytes > most_bytes:
            raise TooLarge(f"an upload has at most {most_bytes} bytes", param="bytes")
        now = unix_seconds(self._clock)
        values: dict[str, Any] = {
            "id": new_id("upload_"),
            "owner": new.owner,
            "filename": base_name(new.filename),
            "bytes": new.bytes,
            "mime_type": new.mime_type,
            "purpose": new.purpose,
            "file_expires_after_s": new.file_expires_after_s,
            "status": "pending",
            "created_at": now,
            "expires_at": now + LIFETIME_S,
        }
        added = insert(uploads).values(**values).returning(*columns_of(Upload, uploads))
        with self._database.writing() as connection:
            return Upload(**connection.execute(added).mappings().one())

    def get(self, owner: str, id_: str) -> Upload:
        """Return an owner's upload as it is now; NotFound."""
        with self._database.reading() as connection:
            return self._get(connection, owner, id_)

    def incoming(self, *, most_bytes: int = MOST_PART_BYTES) -> AbstractContextManager[Incoming]:
        """Give a part to write in chunks, which `add_part` then keeps."""
        return arrival.incoming(self.folder, most_bytes)

    def add_part(self, owner: str, id_: str, content: Incoming) -> Part:
        """Keep a part. Conflict if the upload is not pending, InvalidInput if it is too much."""
        if content.size < 1:
            raise InvalidRequest("a part has at least one byte", param="data")
        content.flush()
        with self._database.writing() as connection:
            self._database.lock(connection, _PARTS)
            upload = self._pending(connection, owner, id_, lock=True)
            _check_room(connection, upload, content.size)
            part = Part(new_id("part_"), id_, content.size, unix_seconds(self._clock))
            content.place(self.folder / part.id)
            values = {name: getattr(part, name) for name in Part.__dataclass_fields__}
            connection.execute(insert(upload_parts).values(**values))
            return part

    def complete(
        self, owner: str, id_: str, part_ids: Sequence[str], *, md5: str | None = None
    ) -> tuple[Upload, StoredFile]:
        """Make one file of the parts in the order given, all or nothing.

        InvalidInput for a part of another upload or one named twice, for a sum of bytes that is
        not what was announced, and for another MD5. Conflict if the upload is not pending. One that
        is completed already gives the file that it became: its first answer may have been lost.
        """
        with self._database.reading() as connection:
            upload = self._get(connection, owner, id_)
        if upload.status == "completed" and upload.file_id is not None:
            return upload, self._files.get(owner, upload.file_id)
        with self._database.reading() as connection:
            upload = self._pending(connection, owner, id_)
            _check_parts(connection, upload, part_ids)
        new = NewFile(
            owner, upload.purpose, upload.filename, expires_after_s=upload.file_expires_after_s
        )
        with self._files.incoming(most_bytes=upload.bytes) as content:
            found = self._join(part_ids, content)
            if md5 is not None and found != md5.strip().lower():
                raise InvalidRequest("the content has another MD5 checksum", param="md5")
            stored = self._files.add(
                content, new, also=lambda connection, file: _end(connection, id_, file.id)
            )
        self._try_to_drop(id_)
        return replace(upload, status="completed", file_id=stored.id), stored

    def cancel(self, owner: str, id_: str) -> Upload:
        """End a pending upload; Conflict for another one."""
        with self._database.writing() as connection:
            upload = self._pending(connection, owner, id_, lock=True)
            _change(connection, id_, status="cancelled")
        self._try_to_drop(id_)
        return replace(upload, status="cancelled")

    def expire(self) -> int:
        """End every upload whose time has come, and return how many."""
        due = (uploads.c.status == "pending", uploads.c.expires_at <= unix_seconds(self._clock))
        ended = update(uploads).where(*due).values(status="expired").returning(uploads.c.id)
        with self._database.writing() as connection:
            ids = [str(id_) for id_ in connection.scalars(ended)]
        for id_ in ids:
            self._try_to_drop(id_)
        return len(ids)

    def sweep(self) -> int:
        """Remove what kills have left, and return how many files that were. For the start."""
        removed = arrival.sweep(self.folder)
        over = select(uploads.c.id).join(upload_parts).where(uploads.c.status != "pending")
        with self._database.reading() as connection:
            ended = {str(id_) for id_ in connection.scalars(over)}
        for id_ in sorted(ended):
            self._drop_parts(id_)
        return removed + self._remove_rowless()

    def _remove_rowless(self) -> int:
        """Remove parts without a row, while nobody can add one."""
        if not self.folder.is_dir():
            return 0
        with self._database.writing() as connection, disk_errors():
            self._database.lock(connection, _PARTS)
            kept = set(connection.scalars(select(upload_parts.c.id)))
            lost = [path for path in self.folder.glob("part_*") if path.name not in kept]
            for path in lost:
                path.unlink(missing_ok=True)
            return len(lost)

    def _join(self, part_ids: Iterable[str], content: Incoming) -> str:
        """Write the parts one after the other, and return the MD5 of the whole."""
        md5 = hashlib.md5(usedforsecurity=False)
        for part_id in part_ids:
            with disk_errors(), self._open_part(part_id) as part:
                while chunk := part.read(_CHUNK_BYTES):
                    md5.update(chunk)
                    content.write(chunk)
        return md5.hexdigest()

    def _open_part(self, part_id: str) -> BinaryIO:
        try:
            return (self.folder / part_id).open("rb")
        except FileNotFoundError:
            raise Conflict("the upload was ended meanwhile") from None

    def _get(self, connection: Connection, owner: str, id_: str, *, lock: bool = False) -> Upload:
        found = select(*columns_of(Upload, uploads)).where(
            uploads.c.id == id_, uploads.c.owner == owner
        )
        rows = read_rows(connection, Upload, found.with_for_update() if lock else found)
        if not rows:
            raise NotFound("there is no upload with this id")
        if rows[0].status == "pending" and rows[0].expires_at <= unix_seconds(self._clock):
            return replace(rows[0], status="expired")
        return rows[0]

    def _pending(
        self, connection: Connection, owner: str, id_: str, *, lock: bool = False
    ) -> Upload:
        upload = self._get(connection, owner, id_, lock=lock)
        if upload.status != "pending":
            raise Conflict(f"the upload is {upload.status}")
        return upload

    def _try_to_drop(self, id_: str) -> None:
        with contextlib.suppress(HoneError):  # else the next sweep does it
            self._drop_parts(id_)

    def _drop_parts(self, id_: str) -> None:
        """Remove the parts of an upload that is over: files first, so that no file lacks a row."""
        mine = upload_parts.c.upload_id == id_
        with self._database.writing() as connection, disk_errors():
            for part_id in connection.scalars(select(upload_parts.c.id).where(mine)):
                (self.folder / part_id).unlink(missing_ok=True)
            connection.execute(delete(upload_parts).where(mine))


def _check_room(connection: Connection, upload: Upload, size: int) -> None:
    counted = select(func.count(), func.coalesce(func.sum(upload_parts.c.bytes), 0))
    mine = counted.where(upload_parts.c.upload_id == upload.id)
    count, total = connection.execute(mine).one()
    if total + size > upload.bytes:
        raise InvalidRequest("the parts have more bytes than the upload announced", param="data")
    if count >= MOST_PARTS:
        raise InvalidRequest(f"an upload has at most {MOST_PARTS} parts", param="data")


def _check_parts(connection: Connection, upload: Upload, part_ids: Sequence[str]) -> None:
    mine = upload_parts.c.upload_id == upload.id
    rows = connection.execute(select(upload_parts.c.id, upload_parts.c.bytes).where(mine))
    sizes = {str(id_): int(size) for id_, size in rows}
    if len(set(part_ids)) != len(part_ids) or not set(part_ids) <= sizes.keys():
        raise InvalidRequest("part_ids names the upload's own parts, each once", param="part_ids")
    total = sum(sizes[id_] for id_ in part_ids)
    if total != upload.bytes:
        raise InvalidRequest(
            f"the parts have {total} bytes; the upload announced {upload.bytes}", param="part_ids"
        )


def _end(connection: Connection, id_: str, file_id: str) -> None:
    _change(connection, id_, status="completed", file_id=file_id)


def _change(connection: Connection, id_: str, **values: str) -> None:
    pending = (uploads.c.id == id_, uploads.c.status == "pending")
    if connection.execute(update(uploads).where(*pending).values(**values)).rowcount == 0:
        raise Conflict("the upload was ended meanwhile")
