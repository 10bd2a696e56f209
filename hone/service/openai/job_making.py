"""Creating a job, old or new: its files and its base are looked at, and it is stored once."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from hone.models.errors import NotFound
from hone.service.access import Caller
from hone.service.errors import InvalidRequest, ModelNotFound
from hone.service.jobs import messages
from hone.service.jobs.events import append
from hone.service.jobs.files import StoredFile
from hone.service.jobs.idempotency import Request as KeyedRequest
from hone.service.jobs.origins import Origin
from hone.service.jobs.records import Job, NewJob
from hone.service.jobs.settings import RunnerSettings
from hone.service.jobs.tasks.kinds import KINDS
from hone.service.openai.files import FINE_TUNE
from hone.service.openai.once import Finish, do_once
from hone.service.openai.store_calls import note
from hone.service.settings import Settings
from hone.service.state import State

_USUAL_TASK = KINDS["text-classification"].name

Render = Callable[[Job, Mapping[str, StoredFile]], bytes]
"""Writes the answer for a job and the files that it names."""


@dataclass(frozen=True, slots=True)
class JobMaker:
    """Creates jobs. Its calls block."""

    state: State
    settings: Settings
    runner: RunnerSettings

    def create(
        self, new: NewJob, caller: Caller, render: Render, key: KeyedRequest | None
    ) -> bytes:
        """Store a job and return the answer's body.

        InvalidRequest for a file that cannot be used, ModelNotFound for an unknown base,
        Overloaded when the owner has enough unfinished jobs.
        """

        def work(finish: Finish) -> bytes:
            files = self._files(new)
            asked = self._with_task(new)

            def also(connection: Connection, job: Job) -> None:
                append(connection, job.id, messages.created(job), job.created_at)
                finish(connection, render(job, files))

            most = self._most_unfinished(caller)
            job = self.state.records.create(asked, most_unfinished=most, also=also)
            note(self.state.audit, caller, "job.create", job.id)
            return render(job, files)

        return do_once(self.state.idempotency, key, work)

    def _most_unfinished(self, caller: Caller) -> int:
        own = caller.key.queued_jobs if caller.key else None
        return self.settings.max_queued_jobs if own is None else own

    def _files(self, new: NewJob) -> dict[str, StoredFile]:
        named = {"training_file": new.training_file, "validation_file": new.validation_file}
        found = [self._file(new.owner, id_, param) for param, id_ in named.items() if id_]
        return {file.id: file for file in found}

    def _file(self, owner: str, id_: str, param: str) -> StoredFile:
        try:
            file = self.state.files.get(owner, id_)
        except NotFound:
            message = f"The file {id_[:80]!r} does not exist."
            raise InvalidRequest(message, param=param, code="file_not_found") from None
        if file.purpose != FINE_TUNE:
            message = f"The file {file.id!r} is for {file.purpose!r}, not for '{FINE_TUNE}'."
            raise InvalidRequest(message, param=param, code="invalid_file_purpose")
        return file

    def _with_task(self, new: NewJob) -> NewJob:
        """Return the job with what its base is for, where that is not to classify texts.

        ModelNotFound for what is neither a base nor a fine-tuned model of the owner's,
        InvalidRequest for a method that the base cannot be trained with.
        """
        offered = self.runner.all_bases.get(new.model)
        if offered is not None:
            kind = KINDS[offered.settled_task]
            refused = kind.method_refusal(new.method, Origin(new.model, offered.base))
            if refused is not None:
                raise InvalidRequest(refused.message, param=refused.param, code=refused.code)
            given = dict(new.given or {})
            if kind.name != _USUAL_TASK:
                given.setdefault("task", kind.name)
            return dataclasses.replace(new, given=given)
        try:
            self.state.models.get(new.owner, new.model)
        except NotFound:
            known = ", ".join(self.runner.all_bases)
            message = f"There is no base {new.model[:80]!r} to fine-tune; there are: {known}."
            raise ModelNotFound(message) from None
        return new
