"""Following the events of jobs as they come, for many clients at once.

Followers of one job share one reader of the store and what it read last. Each goes through all
events by their numbers: it misses none and sees none twice, whenever it begins.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from hone.models.errors import HoneError, NotFound
from hone.service.jobs.events import Event
from hone.service.jobs.records import UNFINISHED
from hone.service.state import State

logger = logging.getLogger(__name__)

POLL_S = 0.25
_KEPT = 1000
_BATCH = 500


class Interrupted(Exception):
    """The service stops: the client should follow again, later."""


@dataclass(slots=True)
class _Feed:
    """One job's events as its followers share them; `moved` is set and replaced at each change."""

    recent: deque[Event] = field(default_factory=lambda: deque(maxlen=_KEPT))
    last: int = 0
    over: bool = False
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    followers: int = 0
    reader: asyncio.Task[None] | None = None

    def tell(self) -> None:
        """Wake all followers."""
        self.moved.set()
        self.moved = asyncio.Event()

    def since(self, number: int) -> Sequence[Event] | None:
        """Return the events after `number`; None if some of them are not here any more."""
        if number >= self.last:
            return ()
        if not self.recent or self.recent[0].number > number + 1:
            return None
        return [event for event in self.recent if event.number > number][:_BATCH]


class JobFeeds:
    """The feeds of all jobs that are followed."""

    def __init__(self, state: State, *, poll_s: float = POLL_S) -> None:
        self._state, self._poll_s = state, poll_s
        self._feeds: dict[tuple[str, str], _Feed] = {}
        self._stopping = False

    def stop(self) -> None:
        """End all streams."""
        self._stopping = True
        for feed in self._feeds.values():
            feed.tell()

    async def follow(
        self, owner: str, job_id: str, number: int = 0, *, silence_s: float
    ) -> AsyncIterator[Sequence[Event]]:
        """Yield the events after `number`, oldest first, until the job is over and all are told.

        What is yielded is empty after `silence_s` seconds without an event. Interrupted when the
        service stops. The job must be the owner's.
        """
        feed = self._enter(owner, job_id)
        try:
            while True:
                if self._stopping:
                    raise Interrupted
                moved, over = feed.moved, feed.over
                events = await self._after(feed, owner, job_id, number)
                if events:
                    number = events[-1].number
                    yield events
                elif over:
                    return
                elif not await _within(moved, silence_s):
                    yield ()
        finally:
            self._leave(owner, job_id, feed)

    def _enter(self, owner: str, job_id: str) -> _Feed:
        feed = self._feeds.get((owner, job_id))
        if feed is None:
            feed = self._feeds[owner, job_id] = _Feed()
            feed.reader = asyncio.create_task(self._read(feed, owner, job_id))
        feed.followers += 1
        return feed

    def _leave(self, owner: str, job_id: str, feed: _Feed) -> None:
        feed.followers -= 1
        if not feed.followers:
            self._feeds.pop((owner, job_id), None)
            if feed.reader is not None:
                feed.reader.cancel()

    async def _after(self, feed: _Feed, owner: str, job_id: str, number: int) -> Sequence[Event]:
        events = feed.since(number)
        if events is not None:
            return events
        return await asyncio.to_thread(
            self._state.events.after, owner, job_id, number, limit=_BATCH
        )

    async def _read(self, feed: _Feed, owner: str, job_id: str) -> None:
        """Read what is new, again and again, until the job is over."""
        while not feed.over:
            try:
                await self._read_once(feed, owner, job_id)
            except NotFound:  # deleted: there is nothing more to tell
                feed.over = True
                feed.tell()
            except HoneError as error:
                logger.warning("events not read", extra={"job": job_id, "reason": str(error)})
            await asyncio.sleep(self._poll_s)

    async def _read_once(self, feed: _Feed, owner: str, job_id: str) -> None:
        # First the status: what a job that is over has to tell is there by then.
        job = await asyncio.to_thread(self._state.records.get, owner, job_id)
        while True:
            events = await asyncio.to_thread(
                self._state.events.after, owner, job_id, feed.last, limit=_BATCH
            )
            if not events:
                break
            feed.recent.extend(events)
            feed.last = events[-1].number
            feed.tell()
        if job.status not in UNFINISHED:
            feed.over = True
            feed.tell()


async def _within(moved: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await moved.wait()
    except TimeoutError:
        return False
    return True
