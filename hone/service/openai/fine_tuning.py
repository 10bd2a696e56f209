"""`/v1/fine_tuning/jobs`: jobs of the modern API."""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence

from fastapi import FastAPI, Request, Response

from hone.models.errors import NotFound
from hone.models.names import checkpoints_of
from hone.models.registry import Registry
from hone.service.access import Caller, caller_of
from hone.service.errors import NoSuchItem
from hone.service.jobs import messages
from hone.service.jobs.events import NewEvent
from hone.service.jobs.files import StoredFile
from hone.service.jobs.pages import Cursor
from hone.service.jobs.records import Flavour, Job
from hone.service.jobs.tasks.kinds import KINDS
from hone.service.openai.bodies import read_fields, read_json, read_nothing
from hone.service.openai.job_making import JobMaker
from hone.service.openai.job_requests import TASKS, read_job
from hone.service.openai.lists import Pieces, list_answer, list_body
from hone.service.openai.objects import (
    CheckpointList,
    EventList,
    JobList,
    JobObject,
    checkpoint_object,
    event_object,
    job_object,
)
from hone.service.openai.once import keyed
from hone.service.openai.paging import ends, read_cursor
from hone.service.openai.route_list import JSON_BODY, RouteList
from hone.service.openai.store_calls import asked, note, refusals
from hone.service.settings import Settings
from hone.service.state import State

_METADATA = re.compile(r"metadata\[(.{1,64})\]", re.DOTALL)
_MOST_FILTERS = 16
_NEW = {
    "type": "object",
    "required": ["model", "training_file"],
    "properties": {
        "model": {"type": "string", "description": "A base, or a fine-tuned model to go on from."},
        "training_file": {"type": "string"},
        "validation_file": {"type": "string"},
        "suffix": {"type": "string", "maxLength": 64},
        "seed": {"type": "integer"},
        "task": {"type": "string", "enum": list(TASKS)},
        "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
        "method": {"type": "object"},
        "hyperparameters": {"type": "object", "deprecated": True},
    },
}

Steps = Callable[[Job], list[NewEvent]]


class JobSteps:
    """Cancels, pauses and resumes jobs of one kind. Its calls block."""

    def __init__(self, state: State, flavour: Flavour) -> None:
        self._state, self._flavour = state, flavour

    def get(self, owner: str, id_: str) -> Job:
        """Return an owner's job of this kind; NoSuchItem."""
        with refusals():
            job = self._state.records.get(owner, id_)
        if job.flavour != self._flavour:
            raise NoSuchItem("There is no fine-tuning job with this id.")
        return job

    def cancel(self, caller: Caller, id_: str) -> Job:
        """End a job, or have its worker end it."""
        return self._step(caller, id_, "job.cancel", self._state.records.cancel, messages.cancelled)

    def pause(self, caller: Caller, id_: str) -> Job:
        """Hold a job, or have its worker hold it."""
        paused = [NewEvent("The job has been paused")]
        return self._step(caller, id_, "job.pause", self._state.records.pause, lambda _: paused)

    def resume(self, caller: Caller, id_: str) -> Job:
        """Queue a paused job again."""
        resumed = [NewEvent("The job has been resumed")]
        return self._step(caller, id_, "job.resume", self._state.records.resume, lambda _: resumed)

    def _step(
        self, caller: Caller, id_: str, action: str, step: Callable[..., Job], events: Steps
    ) -> Job:
        job = self.get(caller.owner, id_)
        with refusals():
            done = step(caller.owner, id_, events=events(job))
        note(self._state.audit, caller, action, id_)
        return done


class FineTuningRoutes:
    """The routes of modern jobs."""

    def __init__(self, state: State, settings: Settings, maker: JobMaker) -> None:
        self._state, self._settings, self._maker = state, settings, maker
        self._steps = JobSteps(state, "modern")
        self._registry = Registry(settings.store)

    async def create(self, request: Request) -> Response:
        """Create a job. It begins when its files were read and no job is before it."""
        caller = caller_of(request.scope)
        body = await read_json(request, self._settings.max_body_bytes)
        new = read_job(read_fields(body), caller.owner)
        key = keyed(request, caller, "fine_tuning.jobs", body)
        answer = await asyncio.to_thread(self._maker.create, new, caller, _render, key)
        return Response(answer, media_type="application/json")

    async def list(
        self, request: Request, limit: str | None = None, after: str | None = None
    ) -> Response:
        """List jobs, newest first, a page at a time; `metadata[key]=value` chooses among them."""
        owner, cursor = caller_of(request.scope).owner, read_cursor(limit, after)
        return await list_answer(self._listed, owner, _filters(request), cursor)

    def _listed(self, owner: str, metadata: Mapping[str, str], cursor: Cursor) -> Pieces:
        records = self._state.records
        page = records.list(owner, flavour="modern", metadata=metadata, cursor=cursor)
        return list_body(map(job_object, page.items), has_more=page.has_more)

    async def get(self, request: Request, job_id: str) -> JobObject:
        """Describe a job."""
        return job_object(await asked(self._steps.get, caller_of(request.scope).owner, job_id))

    async def cancel(self, request: Request, job_id: str) -> JobObject:
        """Cancel a job; the process of one that runs ends within seconds."""
        return await self._step(request, self._steps.cancel, job_id)

    async def pause(self, request: Request, job_id: str) -> JobObject:
        """Pause a job; one that runs writes a checkpoint first."""
        return await self._step(request, self._steps.pause, job_id)

    async def resume(self, request: Request, job_id: str) -> JobObject:
        """Resume a paused job."""
        return await self._step(request, self._steps.resume, job_id)

    async def _step(
        self, request: Request, step: Callable[[Caller, str], Job], job_id: str
    ) -> JobObject:
        await read_nothing(request, self._settings.max_body_bytes)
        return job_object(await asked(step, caller_of(request.scope), job_id))

    async def events(
        self, request: Request, job_id: str, limit: str | None = None, after: str | None = None
    ) -> Response:
        """List a job's events, newest first, a page at a time."""
        owner, cursor = caller_of(request.scope).owner, read_cursor(limit, after)
        return await list_answer(self._listed_events, owner, job_id, cursor)

    def _listed_events(self, owner: str, job_id: str, cursor: Cursor) -> Pieces:
        self._steps.get(owner, job_id)
        page = self._state.events.list(owner, job_id, cursor)
        return list_body(map(event_object, page.items), has_more=page.has_more)

    async def checkpoints(
        self, request: Request, job_id: str, limit: str | None = None, after: str | None = None
    ) -> Response:
        """List a job's checkpoints, newest first, a page at a time.

        Of a model that writes text, those that can be asked by their name.
        """
        owner, cursor = caller_of(request.scope).owner, read_cursor(limit, after, default=10)
        return await list_answer(self._listed_checkpoints, owner, job_id, cursor)

    def _sampled(self, job: Job) -> Sequence[int] | None:
        """Return the steps whose weights can be asked; None for a task that keeps only metrics."""
        kinds = [kind for kind in KINDS.values() if kind.name == job.given.get("task")]
        if not any(kind.sampled_checkpoints for kind in kinds):
            return None
        try:
            return self._registry.listing(checkpoints_of(job.store_model)).versions
        except NotFound:
            return []

    def _listed_checkpoints(self, owner: str, job_id: str, cursor: Cursor) -> Pieces:
        job = self._steps.get(owner, job_id)
        steps = self._sampled(job)
        page = self._state.checkpoints.list(owner, job_id, cursor, steps=steps)
        both_ends = ends(one.id for one in page.items)
        return list_body(map(checkpoint_object, page.items), **both_ends, has_more=page.has_more)


def add_fine_tuning_routes(app: FastAPI, state: State, settings: Settings, maker: JobMaker) -> None:
    """Add the routes of modern jobs."""
    jobs = FineTuningRoutes(state, settings, maker)
    routes = RouteList(app, "/v1/fine_tuning/jobs", "fine-tuning")
    new, item = (JSON_BODY, _NEW), "/{job_id}"
    create = "create_fine_tuning_job"
    routes.add("POST", "", jobs.create, name=create, answer=JobObject, body=new)
    routes.add("GET", "", jobs.list, name="list_fine_tuning_jobs", answer=JobList)
    routes.add("GET", item, jobs.get, name="get_fine_tuning_job")
    routes.add("POST", f"{item}/cancel", jobs.cancel, name="cancel_fine_tuning_job")
    routes.add("POST", f"{item}/pause", jobs.pause, name="pause_fine_tuning_job")
    routes.add("POST", f"{item}/resume", jobs.resume, name="resume_fine_tuning_job")
    name = "list_fine_tuning_events"
    routes.add("GET", f"{item}/events", jobs.events, name=name, answer=EventList)
    name = "list_fine_tuning_checkpoints"
    routes.add("GET", f"{item}/checkpoints", jobs.checkpoints, name=name, answer=CheckpointList)


def _render(job: Job, _: Mapping[str, StoredFile]) -> bytes:
    return job_object(job).model_dump_json().encode()


def _filters(request: Request) -> dict[str, str]:
    """Return what `metadata[key]=value` in the address asks for."""
    named = ((_METADATA.fullmatch(name), value) for name, value in request.query_params.items())
    found = {match[1]: value for match, value in named if match}
    return dict(list(found.items())[:_MOST_FILTERS])
