"""`/v1/models`: the models of the store, and each owner's fine-tuned ones, by ids old and new.

`curie:ft-acme-2026-01-31-12-00-00` and `ft:minilm:acme:suffix:abc` are asked for raw by newer
clients and percent-encoded by older ones; the address is decoded before it comes here.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request, Response

from hone.models.errors import HoneError, NotFound
from hone.models.names import ModelReference, checkpoints_of, parse_reference
from hone.models.registry import Registry
from hone.service.access import Caller, caller_of
from hone.service.directory import ModelDirectory
from hone.service.errors import ModelNotFound
from hone.service.jobs.fine_tuned import FineTunedModel
from hone.service.jobs.leftovers import remove_all_versions
from hone.service.jobs.naming import is_checkpoint_name, is_job_name
from hone.service.openai.lists import list_answer, list_body
from hone.service.openai.objects import DeletedObject
from hone.service.openai.route_list import RouteList
from hone.service.openai.store_calls import note
from hone.service.pool import ModelPool
from hone.service.schemas import ModelBody, ModelList
from hone.service.state import State

logger = logging.getLogger(__name__)


class ModelObject(ModelBody):
    """A model, as clients before 2023 know it too: `parent` is what it was fine-tuned from."""

    root: str
    parent: str | None = None
    permission: tuple[dict[str, Any], ...] = ()
    shutdown_date: str | None = None


class ModelObjectList(ModelList):
    """All models that the caller may use."""

    data: list[ModelObject]  # type: ignore[assignment]


class ModelRoutes:
    """The routes of models."""

    def __init__(self, directory: ModelDirectory, pool: ModelPool, state: State) -> None:
        self._directory, self._pool, self._state = directory, pool, state
        self._registry = Registry(pool.host.settings.store)

    async def list(self, request: Request) -> Response:
        """List the models, each at the version that a request without one gets.

        One that cannot be described, such as one with a broken manifest, is left out.
        """
        caller = caller_of(request.scope)
        shared = [name for name in self._directory.shared() if caller.may_use_model(name)]
        described = [await self._shared_if_any(name) for name in shared]
        data = [body for body in described if body is not None]
        await asyncio.to_thread(self._directory.look)
        for model in self._directory.fine_tuned_of(caller.owner):
            if caller.may_use_model(model.id):
                data += [body] if (body := await self._if_there(model)) else []
        return await list_answer(list_body, data)

    async def get(self, request: Request, model_id: str) -> ModelObject:
        """Describe a model (`support`), one version of it (`support@3`), or a fine-tuned one."""
        caller = caller_of(request.scope)
        if is_job_name(model_id) or not caller.may_use_model(model_id):
            raise _no_model(model_id)
        try:
            fine_tuned = await asyncio.to_thread(self._fine_tuned, caller.owner, model_id)
        except NotFound:
            try:
                return await self._shared(parse_reference(model_id))
            except HoneError:
                raise _no_model(model_id) from None
        body = await self._if_there(fine_tuned)
        if body is None:
            raise _no_model(model_id)
        return body

    def _fine_tuned(self, owner: str, model_id: str) -> FineTunedModel:
        checkpoint = self._checkpoint(owner, model_id)
        return self._state.models.get(owner, model_id) if checkpoint is None else checkpoint

    async def delete(self, request: Request, model_id: str) -> DeletedObject:
        """Delete a fine-tuned model with its weights and checkpoints, or one checkpoint's weights.

        Requests on the way are answered.
        """
        caller = caller_of(request.scope)
        await asyncio.to_thread(self._delete, caller, model_id)
        await asyncio.to_thread(self._directory.look)
        return DeletedObject(id=model_id, object="model")

    def _delete(self, caller: Caller, model_id: str) -> None:
        try:
            if not caller.may_use_model(model_id):
                raise _no_model(model_id)
            checkpoint = self._checkpoint(caller.owner, model_id)
            gone = checkpoint or self._state.models.delete(caller.owner, model_id)
            if checkpoint is not None:
                self._registry.remove(gone.store_model, gone.store_version)
        except NotFound:
            raise _no_model(model_id) from None
        note(self._state.audit, caller, "model.delete", model_id)
        if checkpoint is None:
            self._remove_bundles(gone)

    def _checkpoint(self, owner: str, model_id: str) -> FineTunedModel | None:
        if not is_checkpoint_name(model_id):
            return None
        return self._state.checkpoints.find(owner, model_id)

    def _remove_bundles(self, gone: FineTunedModel) -> None:
        """Remove a deleted model's bundle, and the checkpoints of its job."""
        for remove in (
            lambda: self._registry.remove(gone.store_model, gone.store_version),
            lambda: remove_all_versions(self._registry, checkpoints_of(gone.store_model)),
        ):
            try:
                remove()
            except (HoneError, OSError) as error:  # nobody can ask for it any more
                told = {"model": gone.id, "reason": str(error)}
                logger.warning("bundle not removed", extra=told)

    async def _if_there(self, model: FineTunedModel) -> ModelObject | None:
        reference = ModelReference(model.store_model, version=model.store_version)
        try:
            body = await self._described(reference, (model.store_version,), {})
        except (HoneError, OSError):
            return None
        changes = {
            "id": model.id,
            "created": model.created_at,
            "owned_by": model.owner,
            "root": model.base,
            "parent": model.base,
        }
        return body.model_copy(update=changes)

    async def _shared_if_any(self, name: str) -> ModelObject | None:
        """Return a model's body, or None: one that is broken or just removed hides no other."""
        try:
            return await self._shared(ModelReference(name))
        except HoneError:
            return None

    async def _shared(self, reference: ModelReference) -> ModelObject:
        listing = self._pool.listing(reference.model)
        return await self._described(reference, listing.versions, listing.aliases)

    async def _described(
        self, reference: ModelReference, versions: Sequence[int], aliases: dict[str, int]
    ) -> ModelObject:
        current = self._pool.current.get(reference.model)
        serves = reference == ModelReference(reference.model) and current is not None
        version = current.facts.version if serves and current else self._version(reference)
        facts = await self._pool.facts(reference.model, version)
        loaded = next((one for one in self._pool.loaded() if one.id == str(facts)), None)
        return ModelObject(
            id=str(reference),
            root=facts.name,
            created=facts.created,
            version=facts.version,
            versions=[*versions],
            aliases=aliases,
            labels=list(facts.labels),
            loaded=loaded is not None,
            variant=loaded.variant if loaded else None,
            device=loaded.device if loaded else None,
            layout=str(loaded.layout) if loaded else None,
            digest=facts.digest,
        )

    def _version(self, reference: ModelReference) -> int:
        if reference.version is not None:
            return reference.version
        return self._pool.listing(reference.model).resolve(reference)


def add_model_routes(
    app: FastAPI, directory: ModelDirectory, pool: ModelPool, state: State
) -> None:
    """Add the routes of models; an id may have any characters."""
    models = ModelRoutes(directory, pool, state)
    routes = RouteList(app, "/v1/models", "models")
    routes.add("GET", "", models.list, name="list_models", answer=ModelObjectList)
    routes.add("GET", "/{model_id:path}", models.get, name="get_model")
    routes.add("DELETE", "/{model_id:path}", models.delete, name="delete_model")


def _no_model(name: str) -> ModelNotFound:
    return ModelNotFound(f"There is no model {name[:80]!r}.")
