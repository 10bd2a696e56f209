"""`/v1/files`: content goes to the disk as it comes, and is checked line by line afterwards.

The legacy command line sends the path that its user typed as the file's name, and asks first
whether a file has that path for its id: `GET /v1/files/%2Fhome%2Fme%2Ftrain.jsonl` is a 404.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import BinaryIO, Literal

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import Connection

from hone.models.errors import HoneError
from hone.models.imaging.archives import ArchiveBounds
from hone.service.access import Caller, caller_of
from hone.service.errors import InvalidRequest, NoSuchItem
from hone.service.jobs.checking import check
from hone.service.jobs.errors import disk_errors
from hone.service.jobs.files import FileStatus, NewFile, StoredFile
from hone.service.jobs.incoming import Incoming
from hone.service.jobs.pages import Cursor
from hone.service.jobs.validation import check_start
from hone.service.openai.bodies import allow_time
from hone.service.openai.forms import Form, read_form
from hone.service.openai.lists import Pieces, list_answer, list_body
from hone.service.openai.objects import DeletedObject, FileList, FileObject, file_object
from hone.service.openai.once import Finish, do_once, keyed
from hone.service.openai.paging import ends, read_cursor, read_order
from hone.service.openai.route_list import FORM_BODY, RouteList
from hone.service.openai.store_calls import asked, note, noted
from hone.service.settings import Settings
from hone.service.state import State

logger = logging.getLogger(__name__)

FINE_TUNE = "fine-tune"
PURPOSES = (FINE_TUNE, "assistants", "batch", "vision", "user_data", "evals")
"""What a client may upload for; all but the first are only kept."""

_SOONEST_S, _LATEST_S = 3600, 2_592_000
_FIRST_WAIT_S = 1.0
"""For how long an upload's answer waits for the check: small files are answered as processed."""

_CHUNK_BYTES = 256 * 2**10
_FORM = {
    "type": "object",
    "required": ["file", "purpose"],
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "purpose": {"type": "string", "enum": list(PURPOSES)},
        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
        "expires_after[seconds]": {"type": "integer", "minimum": _SOONEST_S, "maximum": _LATEST_S},
    },
}


class FileChecks:
    """Reads files for fine-tuning in the background, each once at a time."""

    def __init__(self, state: State, bounds: ArchiveBounds) -> None:
        self._files, self._bounds = state.files, bounds
        self._running: dict[str, asyncio.Task[None]] = {}
        self._one = asyncio.Semaphore(1)

    async def start(self, file: StoredFile, wait_s: float = 0.0) -> None:
        """Check a file that was not checked yet, and wait for it up to `wait_s` seconds."""
        if file.purpose != FINE_TUNE or file.status != "uploaded":
            return
        check = self._running.get(file.id)
        if check is None:
            check = self._running[file.id] = asyncio.create_task(self._check(file))
            check.add_done_callback(lambda _: self._running.pop(file.id, None))
        if wait_s:
            await asyncio.wait({check}, timeout=wait_s)

    async def _check(self, file: StoredFile) -> None:
        async with self._one:
            try:
                await asyncio.to_thread(self._check_now, file)
            except HoneError as error:  # it was deleted meanwhile; or the next look tries again
                logger.info("file not checked", extra={"file": file.id, "reason": str(error)})

    def _check_now(self, file: StoredFile) -> None:
        details = check(self._files.path(file.owner, file.id), self._bounds).details
        self._files.mark(file.id, "processed" if details is None else "error", details)


class FileRoutes:
    """The routes of files."""

    def __init__(self, state: State, settings: Settings, checks: FileChecks) -> None:
        self._state, self._settings, self._checks = state, settings, checks

    async def create(self, request: Request) -> Response:
        """Upload a file. For `fine-tune` it is checked: its status says how that went."""
        caller = caller_of(request.scope)
        most = self._settings.max_file_bytes
        allow_time(request, self._settings.upload_timeout_s)
        entering = self._state.files.incoming(most_bytes=most)
        content = await asyncio.to_thread(entering.__enter__)
        try:
            form = await read_form(request, content, file_field="file", most=most)
            new = _new_file(form, caller)
            body = await asked(self._keep, request, caller, content, new)
        finally:
            await asyncio.to_thread(entering.__exit__, None, None, None)
        return Response(await self._checked(caller, body), media_type="application/json")

    def _keep(self, request: Request, caller: Caller, content: Incoming, new: NewFile) -> bytes:
        if new.purpose == FINE_TUNE:
            _refuse_other_formats(content)
        facts = [content.sha256, new.purpose, new.filename, new.expires_after_s]
        key = keyed(request, caller, "files", orjson.dumps(facts))

        def work(finish: Finish) -> bytes:
            def also(connection: Connection, stored: StoredFile) -> None:
                finish(connection, _body(stored))

            stored = self._state.files.add(content, new, also=also)
            note(self._state.audit, caller, "file.create", stored.id)
            return _body(stored)

        return do_once(self._state.idempotency, key, work)

    async def _checked(self, caller: Caller, body: bytes) -> bytes:
        """Return the file as it is after a moment's check; as it was if it is gone already."""
        try:
            file = await asked(self._state.files.get, caller.owner, orjson.loads(body)["id"])
            await self._checks.start(file, _FIRST_WAIT_S)
            return _body(await asked(self._state.files.get, caller.owner, file.id))
        except NoSuchItem:
            return body

    async def list(
        self,
        request: Request,
        purpose: str | None = None,
        limit: str | None = None,
        after: str | None = None,
        order: Literal["asc", "desc"] | str | None = None,
    ) -> Response:
        """List files, newest first, a page at a time."""
        cursor = read_cursor(limit, after, default=10_000, oldest_first=read_order(order))
        owner = caller_of(request.scope).owner
        return await list_answer(self._listed, owner, purpose or None, cursor)

    def _listed(self, owner: str, purpose: str | None, cursor: Cursor) -> Pieces:
        page = self._state.files.list(owner, purpose=purpose, cursor=cursor)
        both_ends = ends(file.id for file in page.items)
        return list_body(map(file_object, page.items), **both_ends, has_more=page.has_more)

    async def get(self, request: Request, file_id: str) -> FileObject:
        """Describe a file."""
        file = await asked(self._state.files.get, caller_of(request.scope).owner, file_id)
        await self._checks.start(file)
        return file_object(file)

    async def content(self, request: Request, file_id: str) -> Response:
        """Give a file's content."""
        owner = caller_of(request.scope).owner
        file = await asked(self._state.files.get, owner, file_id)
        opened = await asyncio.to_thread(self._open, file)
        headers = {"content-length": str(file.bytes), "x-content-type-options": "nosniff"}
        headers["content-disposition"] = "attachment"
        return StreamingResponse(_chunks(opened), headers=headers, media_type=_media_type(file))

    def _open(self, file: StoredFile) -> BinaryIO:
        try:
            with disk_errors():
                return (self._state.files.folder / file.sha256).open("rb")
        except HoneError:
            self._state.files.get(file.owner, file.id)  # deleted in this moment: a 404
            raise

    async def delete(self, request: Request, file_id: str) -> DeletedObject:
        """Delete a file."""
        caller = caller_of(request.scope)
        delete = noted(self._state.audit, caller, "file.delete", self._state.files.delete)
        await asked(delete, caller.owner, file_id)
        return DeletedObject(id=file_id, object="file")


def add_file_routes(app: FastAPI, state: State, settings: Settings, checks: FileChecks) -> None:
    """Add the routes of files. An id may be a path with slashes: what is longer comes first."""
    files = FileRoutes(state, settings, checks)
    routes = RouteList(app, "/v1/files", "files")
    form = (FORM_BODY, _FORM)
    routes.add("POST", "", files.create, name="create_file", answer=FileObject, body=form)
    routes.add("GET", "", files.list, name="list_files", answer=FileList)
    routes.add_raw("/{file_id}/content", files.content, name="get_file_content")
    routes.add("GET", "/{file_id:path}", files.get, name="get_file")
    routes.add("DELETE", "/{file_id:path}", files.delete, name="delete_file")


def take_expiry(anchor: object, seconds: object) -> int | None:
    """Return after how many seconds a file goes; None if it stays."""
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise InvalidRequest("The anchor must be 'created_at'.", param="expires_after[anchor]")
    text = str(seconds)
    fits = text.isascii() and text.isdigit() and len(text) < 9
    if not fits or not _SOONEST_S <= int(text) <= _LATEST_S:
        message = f"It must be a whole number from {_SOONEST_S} to {_LATEST_S}."
        raise InvalidRequest(message, param="expires_after[seconds]")
    return int(text)


def check_purpose(purpose: str | None) -> str:
    """Return what a client may upload for; InvalidRequest for anything else."""
    if purpose not in PURPOSES:
        message = f"'purpose' must be one of {', '.join(PURPOSES)}."
        raise InvalidRequest(message, param="purpose", code="invalid_purpose")
    return purpose


def _new_file(form: Form, caller: Caller) -> NewFile:
    purpose = check_purpose(form.take("purpose"))
    expires = take_expiry(form.take("expires_after[anchor]"), form.take("expires_after[seconds]"))
    form.end()
    if form.filename is None:
        message = "The form has no file in the field 'file'."
        raise InvalidRequest(message, param="file", code="missing_required_parameter")
    status: FileStatus = "uploaded" if purpose == FINE_TUNE else "processed"
    return NewFile(caller.owner, purpose, form.filename, status, expires)


def _refuse_other_formats(content: Incoming) -> None:
    message = check_start(content.path)
    if message is not None:
        raise InvalidRequest(message, param="file", code="invalid_file_format")


def _body(file: StoredFile) -> bytes:
    return file_object(file).model_dump_json().encode()


def _media_type(file: StoredFile) -> str:
    return "text/csv" if file.purpose == "fine-tune-results" else "application/octet-stream"


async def _chunks(file: BinaryIO) -> AsyncIterator[bytes]:
    with file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
            yield chunk
