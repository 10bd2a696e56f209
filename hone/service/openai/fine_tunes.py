"""`/v1/fine-tunes`: jobs of the API that the client 0.28.1 and its command line speak.

Its stream of events replays them from the start and goes on live; in silence it sends comments,
which that client passes over; it ends with `[DONE]`. Each frame has the event's number as its id:
who sends that back in `Last-Event-ID` goes on behind it.
"""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping

from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from hone.service.access import caller_of
from hone.service.errors import InvalidRequest, NotReady, answer_for
from hone.service.jobs.events import Event
from hone.service.jobs.files import StoredFile
from hone.service.jobs.pages import Cursor
from hone.service.jobs.records import Job
from hone.service.openai.bodies import read_fields, read_json, read_nothing
from hone.service.openai.fine_tuning import JobSteps
from hone.service.openai.following import Interrupted, JobFeeds
from hone.service.openai.job_making import JobMaker
from hone.service.openai.job_requests import TASKS, read_fine_tune
from hone.service.openai.lists import Pieces, list_answer, list_body
from hone.service.openai.objects import (
    DeletedObject,
    FineTune,
    FineTuneEventList,
    FineTuneList,
    fine_tune,
    fine_tune_event,
)
from hone.service.openai.once import keyed
from hone.service.openai.route_list import JSON_BODY, RouteList
from hone.service.openai.store_calls import asked, noted
from hone.service.settings import Settings
from hone.service.state import State

_NEW = {
    "type": "object",
    "required": ["training_file"],
    "properties": {
        "training_file": {"type": "string"},
        "validation_file": {"type": "string"},
        "model": {"type": "string", "default": "curie"},
        "n_epochs": {"type": "integer"},
        "batch_size": {"type": "integer"},
        "learning_rate_multiplier": {"type": "number"},
        "prompt_loss_weight": {"type": "number"},
        "compute_classification_metrics": {"type": "boolean"},
        "classification_n_classes": {"type": "integer"},
        "classification_positive_class": {"type": "string"},
        "classification_betas": {"type": "array", "items": {"type": "number"}},
        "suffix": {"type": "string", "maxLength": 40},
        "task": {"type": "string", "enum": list(TASKS)},
    },
}

_PING = b": ping\n\n"
_DONE = b"data: [DONE]\n\n"
_PAGE_ITEMS = 1000
_TRUE, _FALSE = {"true", "True", "1"}, {None, "", "false", "False", "0"}


class FineTuneRoutes:
    """The routes of legacy jobs."""

    def __init__(self, state: State, settings: Settings, maker: JobMaker, feeds: JobFeeds) -> None:
        self._state, self._settings = state, settings
        self._maker, self._feeds = maker, feeds
        self._steps = JobSteps(state, "legacy")

    async def create(self, request: Request) -> Response:
        """Create a fine-tune. It begins when its files were read and no job is before it."""
        caller = caller_of(request.scope)
        body = await read_json(request, self._settings.max_body_bytes)
        new = read_fine_tune(read_fields(body), caller.owner)
        key = keyed(request, caller, "fine-tunes", body)
        answer = await asyncio.to_thread(self._maker.create, new, caller, _render, key)
        return Response(answer, media_type="application/json")

    async def list(self, request: Request) -> Response:
        """List all fine-tunes, oldest first."""
        return await list_answer(self._listed, caller_of(request.scope).owner)

    def _listed(self, owner: str) -> Pieces:
        return list_body(self._all(owner))

    def _all(self, owner: str) -> Iterator[FineTune]:
        """Yield all of an owner's jobs: these clients know no pages."""
        cursor, more = Cursor(limit=_PAGE_ITEMS, oldest_first=True), True
        while more:
            page = self._state.records.list(owner, flavour="legacy", cursor=cursor)
            named = {id_ for job in page.items for id_ in _named(job)}
            files = self._state.files.described(owner, named)
            yield from (fine_tune(job, files) for job in page.items)
            more = page.has_more
            if more:
                cursor = dataclasses.replace(cursor, after=page.items[-1].id)

    async def get(self, request: Request, fine_tune_id: str) -> Response:
        """Describe a fine-tune, with all its events."""
        return await self._described(caller_of(request.scope).owner, fine_tune_id)

    async def _described(self, owner: str, id_: str) -> Response:
        body = await asked(self._body, owner, id_)
        return Response(body, media_type="application/json")

    def _body(self, owner: str, id_: str) -> bytes:
        job = self._steps.get(owner, id_)
        files = self._state.files.described(owner, _named(job))
        return fine_tune(job, files, list(self._events_of(owner, id_))).model_dump_json().encode()

    def _events_of(self, owner: str, id_: str) -> Iterator[Event]:
        """Yield all events of a job."""
        number, more = 0, True
        while more:
            found = self._state.events.after(owner, id_, number, limit=_PAGE_ITEMS)
            yield from found
            more = len(found) == _PAGE_ITEMS
            number = found[-1].number if found else number

    async def cancel(self, request: Request, fine_tune_id: str) -> Response:
        """Cancel a fine-tune; the process of one that runs ends within seconds."""
        await read_nothing(request, self._settings.max_body_bytes)
        caller = caller_of(request.scope)
        await asked(self._steps.cancel, caller, fine_tune_id)
        return await self._described(caller.owner, fine_tune_id)

    async def delete(self, request: Request, fine_tune_id: str) -> DeletedObject:
        """Delete a fine-tune that is over; its model stays."""
        caller = caller_of(request.scope)
        await asked(self._steps.get, caller.owner, fine_tune_id)
        delete = noted(self._state.audit, caller, "job.delete", self._state.records.delete)
        await asked(delete, caller.owner, fine_tune_id)
        return DeletedObject(id=fine_tune_id, object="fine-tune")

    async def events(
        self, request: Request, fine_tune_id: str, stream: str | None = None
    ) -> Response:
        """List a fine-tune's events, oldest first; with `stream=true`, follow them."""
        owner = caller_of(request.scope).owner
        await asked(self._steps.get, owner, fine_tune_id)
        if stream in _TRUE:
            number = _resumed_after(request)
            frames = self._frames(owner, fine_tune_id, number)
            headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
            return StreamingResponse(frames, media_type="text/event-stream", headers=headers)
        if stream not in _FALSE:
            raise InvalidRequest("'stream' must be true or false.", param="stream")
        return await list_answer(self._listed_events, owner, fine_tune_id)

    def _listed_events(self, owner: str, id_: str) -> Pieces:
        return list_body(map(fine_tune_event, self._events_of(owner, id_)))

    async def _frames(self, owner: str, id_: str, number: int) -> AsyncIterator[bytes]:
        silence_s = self._settings.stream_ping_s
        try:
            async for events in self._feeds.follow(owner, id_, number, silence_s=silence_s):
                yield b"".join(map(_frame, events)) if events else _PING
        except Interrupted:
            error = answer_for(NotReady("The service is stopping; follow again."))
            yield b"data: " + error.body() + b"\n\n"
            return
        yield _DONE


def add_fine_tune_routes(
    app: FastAPI, state: State, settings: Settings, maker: JobMaker, feeds: JobFeeds
) -> None:
    """Add the routes of legacy jobs."""
    tunes = FineTuneRoutes(state, settings, maker, feeds)
    routes = RouteList(app, "/v1/fine-tunes", "fine-tunes")
    new, item = (JSON_BODY, _NEW), "/{fine_tune_id}"
    events = FineTuneEventList
    routes.add("POST", "", tunes.create, name="create_fine_tune", answer=FineTune, body=new)
    routes.add("GET", "", tunes.list, name="list_fine_tunes", answer=FineTuneList)
    routes.add("GET", item, tunes.get, name="get_fine_tune", answer=FineTune)
    routes.add("DELETE", item, tunes.delete, name="delete_fine_tune")
    cancel = "cancel_fine_tune"
    routes.add("POST", f"{item}/cancel", tunes.cancel, name=cancel, answer=FineTune)
    routes.add("GET", f"{item}/events", tunes.events, name="list_fine_tune_events", answer=events)


def _render(job: Job, files: Mapping[str, StoredFile]) -> bytes:
    return fine_tune(job, files, ()).model_dump_json().encode()


def _named(job: Job) -> Iterable[str]:
    yield job.training_file
    if job.validation_file is not None:
        yield job.validation_file
    yield from job.result_files


def _frame(event: Event) -> bytes:
    content = fine_tune_event(event).model_dump_json().encode()
    return b"id: %d\ndata: %s\n\n" % (event.number, content)


def _resumed_after(request: Request) -> int:
    """Return the number of the last event that the client has seen."""
    last = request.headers.get("last-event-id", "")
    return int(last) if last.isascii() and last.isdigit() and len(last) < 16 else 0
