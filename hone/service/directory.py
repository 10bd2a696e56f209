"""Which loaded model a name in a request means, for whom.

A fine-tuned model is asked for by its API id, by its owner alone. Its bundle lies in the store
under its job's id, and that name is nobody's to ask for: whoever could would get round the owner.
All other models of the store are everybody's who has a key that allows them.

A checkpoint of a job that is not over, or that has a model, is asked for in the same way. It lies
in the store under its job's id and step, and is looked up anew with every request.
"""

import asyncio
from collections.abc import Sequence

from hone.models.errors import NotFound
from hone.service.access import Caller
from hone.service.errors import ModelNotFound
from hone.service.jobs.checkpoints import Checkpoints
from hone.service.jobs.fine_tuned import FineTunedModel, FineTunedModels
from hone.service.jobs.naming import is_checkpoint_name, is_job_name
from hone.service.loading import ServedModel
from hone.service.pool import ModelPool

_MARK = ":"
"""It stands in every id of a fine-tuned model, and in no name of the store."""


class ModelDirectory:
    """Fine-tuned models by their ids, in memory. `look` is for a thread, the rest for the loop."""

    def __init__(self, models: FineTunedModels, checkpoints: Checkpoints, pool: ModelPool) -> None:
        self._models, self._checkpoints, self._pool = models, checkpoints, pool
        self._by_id: dict[str, FineTunedModel] = {}

    def look(self) -> None:
        """Read from the job store which models there are."""
        self._by_id = {model.id: model for model in self._models.all()}

    def fine_tuned(self, owner: str, name: str) -> FineTunedModel | None:
        """Return an owner's fine-tuned model, None if it has none of this id."""
        found = self._by_id.get(name)
        return found if found is not None and found.owner == owner else None

    def fine_tuned_of(self, owner: str) -> Sequence[FineTunedModel]:
        """Return an owner's fine-tuned models, oldest first."""
        return [model for model in self._by_id.values() if model.owner == owner]

    def shared(self) -> list[str]:
        """Return the names of the models that are not one owner's."""
        return [name for name in self._pool.names() if not is_job_name(name)]

    async def find(self, caller: Caller, name: str) -> ServedModel:
        """Return the model that a caller's request names; ModelNotFound or NotReady."""
        if is_job_name(name) or not caller.may_use_model(name):
            raise ModelNotFound(f"There is no model {name[:80]!r}.")
        if is_checkpoint_name(name):
            return await self._checkpoint(caller.owner, name)
        found = self.fine_tuned(caller.owner, name)
        if found is None and _MARK in name:  # it may be younger than the last look
            found = await asyncio.to_thread(self._in_store, caller.owner, name)
        return await self._pool.get(name) if found is None else await self._loaded(found)

    def _in_store(self, owner: str, name: str) -> FineTunedModel | None:
        try:
            return self._models.get(owner, name)
        except NotFound:
            return None

    async def _checkpoint(self, owner: str, name: str) -> ServedModel:
        found = await asyncio.to_thread(self._checkpoints.find, owner, name)
        if found is None:
            raise ModelNotFound(f"There is no model {name[:80]!r}.")
        loaded = await self._pool.checkpoint(found.store_model, found.store_version)
        loaded.shown_as = name
        return loaded

    async def _loaded(self, model: FineTunedModel) -> ServedModel:
        loaded = await self._pool.published(model.store_model, model.store_version)
        loaded.shown_as = model.id
        return loaded
