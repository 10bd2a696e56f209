"""The service's one line to the address that fallbacks are asked at."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hone.models.prompting.calls import Line, connect
from hone.service.fallback.allowance import Allowance
from hone.service.fallback.breaker import Breaker
from hone.service.settings import Settings


class FallbackLine:
    """Connections to the address, places for calls at once, a breaker for each model there, and
    what all calls may cost a day.
    """

    def __init__(self, line: Line, settings: Settings) -> None:
        self.line = line
        self.timeout_s = settings.fallback_timeout_s
        self.places = asyncio.Semaphore(settings.fallback_concurrency)
        self.most_a_request = max(1, settings.fallback_concurrency // 4)
        """How many of the places one request may have at once, so that others get some, too."""
        self.allowance = Allowance(settings.fallback_max_dollars_per_day)
        self._settings = settings
        self._breakers: dict[str, Breaker] = {}

    def breaker(self, model: str) -> Breaker:
        """Return the breaker of a large model: an unknown name does not shut the others out."""
        known = self._breakers.get(model)
        if known is None:
            settings = self._settings
            known = self._breakers[model] = Breaker(
                failures=settings.fallback_failures, pause_s=settings.fallback_pause_s
            )
        return known


@asynccontextmanager
async def fallback_line(settings: Settings) -> AsyncIterator[FallbackLine | None]:
    """Give the line, None where no address is set: then nobody is called."""
    if settings.fallback_url is None:
        yield None
        return
    key = settings.fallback_api_key
    async with connect(
        settings.fallback_url.rstrip("/"),
        key=None if key is None else key.get_secret_value(),
        key_header=settings.fallback_key_header,
        timeout_s=2 * settings.fallback_timeout_s,  # a call is ended before, and counted
        connections=settings.fallback_concurrency,
        agent="hone",
    ) as line:
        yield FallbackLine(line, settings)
