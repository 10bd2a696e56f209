"""The fine-tuning API and the keys in one service: what its routes share, and its chores.

The job store is opened before the address answers, and looked at once a second: for keys that
were made, for models that were fine-tuned. Training is the runner's, in threads and processes of
its own.
"""

import asyncio
import itertools
import logging

from fastapi import FastAPI
from starlette.types import Scope

from hone.models.errors import HoneError
from hone.service.access import Gate, caller_of, guard
from hone.service.directory import ModelDirectory
from hone.service.jobs.settings import load_runner_settings
from hone.service.limits import RateLimits
from hone.service.loading import ServedModel
from hone.service.metrics import Metrics
from hone.service.openai.files import FileChecks, add_file_routes
from hone.service.openai.fine_tunes import add_fine_tune_routes
from hone.service.openai.fine_tuning import add_fine_tuning_routes
from hone.service.openai.following import JobFeeds
from hone.service.openai.job_making import JobMaker
from hone.service.openai.models import add_model_routes
from hone.service.openai.uploads import add_upload_routes
from hone.service.pool import ModelPool
from hone.service.settings import Settings
from hone.service.state import State

logger = logging.getLogger(__name__)

_LOOK_S = 1.0
_LOOKS_BETWEEN_EXPIRIES = 60


class FineTuning:
    """The routes of the fine-tuning API, who may use them, and the models that come of it."""

    def __init__(self, state: State, pool: ModelPool, metrics: Metrics, gate: Gate) -> None:
        self._state, self._pool, self._metrics, self._gate = state, pool, metrics, gate
        self._settings: Settings = pool.host.settings
        self._limits = RateLimits()
        self._directory = ModelDirectory(state.models, state.checkpoints, pool)
        self._runner = load_runner_settings()
        self._checks = FileChecks(state, self._runner.archive_bounds)
        self._feeds = JobFeeds(state)

    async def find(self, name: str, scope: Scope) -> ServedModel:
        """Return the model that a request names, for the one who makes it."""
        return await self._directory.find(caller_of(scope), name)

    def takes_pictures(self) -> bool:
        """Tell whether requests may hold pictures: some model, loaded or resting, is of them."""
        return self._pool.takes_pictures()

    def add_routes(self, app: FastAPI) -> None:
        """Add the routes of files, uploads, jobs and models."""
        state, settings = self._state, self._settings
        maker = JobMaker(state, settings, self._runner)
        add_file_routes(app, state, settings, self._checks)
        add_upload_routes(app, state, settings, self._checks)
        add_fine_tuning_routes(app, state, settings, maker)
        add_fine_tune_routes(app, state, settings, maker, self._feeds)
        add_model_routes(app, self._directory, self._pool, state)

    def guard(self, app: FastAPI) -> None:
        """Put every route behind the check of its key. Call it when all routes are there."""
        public = self._settings.public_metrics
        guard(
            app, gate=self._gate, limits=self._limits, metrics=self._metrics, public_metrics=public
        )

    def look(self) -> None:
        """See which keys and models there are now. Blocks."""
        self._gate.look()
        self._directory.look()

    async def follow(self) -> None:
        """Look again and again, and now and then end what has reached its time.

        What cannot be read stays as it was.
        """
        for looks in itertools.count(1):
            await asyncio.sleep(_LOOK_S)
            try:
                await asyncio.to_thread(self.look)
                if looks % _LOOKS_BETWEEN_EXPIRIES == 0:
                    await asyncio.to_thread(self._state.expire)
            except (HoneError, OSError) as error:
                logger.warning("job store not read", extra={"reason": str(error)})

    async def clean(self) -> None:
        """Remove what killed services left; what cannot be removed now waits for the next start."""
        try:
            await asyncio.to_thread(self._state.sweep)
        except (HoneError, OSError) as error:
            logger.warning("remains not removed", extra={"reason": str(error)})

    @property
    def is_open(self) -> bool:
        """Whether requests are answered without a key."""
        return self._gate.is_open

    def stop_streams(self) -> None:
        """End the streams of events; their clients are told to follow again."""
        self._feeds.stop()
