"""`/v1/uploads`: one large file in parts, in any order, joined when it is completed."""

import asyncio

from fastapi import FastAPI, Request

from hone.service.access import Caller, caller_of
from hone.service.errors import InvalidRequest
from hone.service.jobs.files import StoredFile
from hone.service.jobs.uploads import MOST_PART_BYTES, MOST_PARTS, NewUpload, Upload
from hone.service.openai.bodies import allow_time, needed_word, read_fields, read_json, read_nothing
from hone.service.openai.fields import Fields
from hone.service.openai.files import FileChecks, check_purpose, take_expiry
from hone.service.openai.forms import read_form
from hone.service.openai.objects import PartObject, UploadObject, part_object, upload_object
from hone.service.openai.route_list import FORM_BODY, JSON_BODY, RouteList
from hone.service.openai.store_calls import asked, note
from hone.service.settings import Settings
from hone.service.state import State

_MOST_INT = 2**53
_NEW = {
    "type": "object",
    "required": ["bytes", "filename", "mime_type", "purpose"],
    "properties": {
        "bytes": {"type": "integer"},
        "filename": {"type": "string"},
        "mime_type": {"type": "string"},
        "purpose": {"type": "string"},
        "expires_after": {"type": "object"},
    },
}
_COMPLETION = {
    "type": "object",
    "required": ["part_ids"],
    "properties": {
        "part_ids": {"type": "array", "items": {"type": "string"}},
        "md5": {"type": "string"},
    },
}
_PART = {
    "type": "object",
    "required": ["data"],
    "properties": {"data": {"type": "string", "format": "binary"}},
}


_JOINS_AT_ONCE = 2
"""Joining gigabytes takes a thread of those that all calls of the store share."""


class UploadRoutes:
    """The routes of uploads."""

    def __init__(self, state: State, settings: Settings, checks: FileChecks) -> None:
        self._state, self._settings, self._checks = state, settings, checks
        self._joins = asyncio.Semaphore(_JOINS_AT_ONCE)

    async def create(self, request: Request) -> UploadObject:
        """Begin an upload: announce the file and its size. It must be completed in an hour."""
        caller = caller_of(request.scope)
        fields = read_fields(await read_json(request, self._settings.max_body_bytes))
        new = _new_upload(fields, caller)
        most = self._settings.max_upload_bytes
        return upload_object(await asked(self._state.uploads.create, new, most_bytes=most))

    async def add_part(self, request: Request, upload_id: str) -> PartObject:
        """Add a part of up to 64 MiB."""
        owner = caller_of(request.scope).owner
        await asked(self._state.uploads.get, owner, upload_id)
        allow_time(request, self._settings.upload_timeout_s)
        entering = self._state.uploads.incoming()
        content = await asyncio.to_thread(entering.__enter__)
        try:
            form = await read_form(request, content, file_field="data", most=MOST_PART_BYTES)
            form.end()
            part = await asked(self._state.uploads.add_part, owner, upload_id, content)
        finally:
            await asyncio.to_thread(entering.__exit__, None, None, None)
        return part_object(part)

    async def complete(self, request: Request, upload_id: str) -> UploadObject:
        """Make one file of the parts, in the order given."""
        caller = caller_of(request.scope)
        fields = read_fields(await read_json(request, self._settings.max_body_bytes))
        part_ids, md5 = _part_ids(fields), fields.word("md5")
        fields.end()
        async with self._joins:
            upload, file = await asked(self._complete, caller, upload_id, part_ids, md5)
        await self._checks.start(file)
        return upload_object(upload, file)

    def _complete(
        self, caller: Caller, upload_id: str, part_ids: list[str], md5: str | None
    ) -> tuple[Upload, StoredFile]:
        done = self._state.uploads.complete(caller.owner, upload_id, part_ids, md5=md5)
        note(self._state.audit, caller, "file.create", done[1].id)
        return done

    async def cancel(self, request: Request, upload_id: str) -> UploadObject:
        """Give an upload up."""
        await read_nothing(request, self._settings.max_body_bytes)
        owner = caller_of(request.scope).owner
        return upload_object(await asked(self._state.uploads.cancel, owner, upload_id))


def add_upload_routes(app: FastAPI, state: State, settings: Settings, checks: FileChecks) -> None:
    """Add the routes of uploads."""
    uploads = UploadRoutes(state, settings, checks)
    routes = RouteList(app, "/v1/uploads", "uploads")
    item, done = "/{upload_id}", (JSON_BODY, _COMPLETION)
    routes.add("POST", "", uploads.create, name="create_upload", body=(JSON_BODY, _NEW))
    part = (FORM_BODY, _PART)
    routes.add("POST", f"{item}/parts", uploads.add_part, name="add_upload_part", body=part)
    routes.add("POST", f"{item}/complete", uploads.complete, name="complete_upload", body=done)
    routes.add("POST", f"{item}/cancel", uploads.cancel, name="cancel_upload")


def _new_upload(fields: Fields, caller: Caller) -> NewUpload:
    size = fields.whole("bytes", 0, low=0, high=_MOST_INT)
    filename, mime_type = needed_word(fields, "filename"), needed_word(fields, "mime_type")
    purpose = check_purpose(fields.word("purpose"))
    expiry = fields.take("expires_after")
    if expiry is not None and type(expiry) is not dict:
        raise fields.wrong("expires_after", "must be an object")
    seconds = expiry and take_expiry(expiry.get("anchor"), expiry.get("seconds"))
    fields.end()
    return NewUpload(caller.owner, filename, size, mime_type, purpose, seconds or None)


def _part_ids(fields: Fields) -> list[str]:
    found = fields.take("part_ids")
    if type(found) is not list or not 0 < len(found) <= MOST_PARTS:
        message = "'part_ids' must be a list of the parts' ids."
        raise InvalidRequest(message, param="part_ids", code="missing_required_parameter")
    if any(type(id_) is not str for id_ in found):
        raise fields.wrong("part_ids", "holds what is no id")
    return found
