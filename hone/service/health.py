"""Whether the process is alive, has started, and may have traffic."""

import asyncio
import time

from hone.models.errors import HoneError
from hone.service.errors import NotReady
from hone.service.jobs.naming import is_job_name
from hone.service.pool import ModelPool
from hone.service.schemas import Health
from hone.service.settings import Settings

STALL_S = 30.0
"""Texts wait and no batch has ended for this long: the worker hangs, a restart is due."""

_PROBE_TIMEOUT_S = 5.0
_PROBE_FRESH_S = 1.0


class HealthChecks:
    """What `/livez`, `/startupz` and `/readyz` answer."""

    def __init__(self, pool: ModelPool, settings: Settings) -> None:
        self._pool = pool
        self._settings = settings
        self.draining = False
        self._probing: asyncio.Task[None] | None = None
        self._probed_at = float("-inf")

    def live(self) -> Health:
        """Return ok while every batcher turns; NotReady when one has stalled."""
        for model in self._pool.loaded():
            if model.stalled(STALL_S):
                raise NotReady(f"{model.id} has texts waiting and has not moved for {STALL_S:g} s.")
        return self._health("live")

    def started(self) -> Health:
        """Return ok once the first look at the store is over, however it ended."""
        if not self._pool.started:
            raise NotReady("The service is starting.")
        return self._health("started")

    async def ready(self) -> Health:
        """Return ok if this service should get traffic.

        It should when it is not draining, has loaded every model named at its start (or any, if
        none was named; or none, if it trains and the store is empty), and each loaded model
        classifies a text through its queue. A model that cannot be loaded does not take the
        others' traffic away.
        """
        if self.draining:
            raise NotReady("The service is stopping.")
        self.started()
        absent = sorted(set(self._settings.models) - set(self._pool.current))
        if absent or not (self._pool.current or self._may_be_empty):
            lacking = f"These models are not loaded: {', '.join(absent)}."
            raise NotReady(lacking if absent else "No model is loaded yet.")
        await self._probe()
        return self._health("ready")

    @property
    def _may_be_empty(self) -> bool:
        """Whether a service without a model has work: it trains the first ones."""
        return self._settings.run_jobs and not self._settings.models and not self._pool.missing()

    async def _probe(self) -> None:
        """Ask every model, once for all who want to know within a second."""
        if self._probing is None and time.monotonic() - self._probed_at < _PROBE_FRESH_S:
            return
        if self._probing is None:
            self._probing = asyncio.create_task(self._ask_all())
            self._probing.add_done_callback(self._probe_ended)
        await asyncio.shield(self._probing)

    async def _ask_all(self) -> None:
        for model in list(self._pool.current.values()):
            try:
                await model.probe(_PROBE_TIMEOUT_S)
            except HoneError as error:
                if self._pool.current.get(model.facts.name) is model:
                    raise NotReady(str(error)) from error

    def _probe_ended(self, probe: asyncio.Task[None]) -> None:
        self._probing = None
        if not probe.cancelled() and probe.exception() is None:
            self._probed_at = time.monotonic()

    def _health(self, status: str) -> Health:
        """Return the answer, without the models that are one owner's: anybody may ask."""
        loaded = self._pool.current
        models = sorted(loaded[name].id for name in loaded if not is_job_name(name))
        missing = [name for name in self._pool.missing() if not is_job_name(name)]
        return Health(status=status, models=models, missing=missing)
