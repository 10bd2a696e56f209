"""The batcher: between requests, each with some texts, and an engine that likes them together.

There is no timer. A batch is what waits at the moment when a worker is free: the text that has
waited longest, and those of nearly its length, as many as make each other cheaper. An idle
service answers a lone text at once; a busy one fills its batches by itself.

The life of a text: submitted (event loop) -> tokenized (worker) -> in the pool, ordered by
length -> run in a batch (worker) -> delivered (event loop). Only workers tokenize and run, so
the event loop never waits for either. One lock guards the queue; the longest that it is held is the
choosing of a batch, some microseconds for each text in it.
"""

import asyncio
import logging
import math
import threading
import time
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from hone.models.batching import choose_batch
from hone.models.engines import FloatArray
from hone.models.errors import HoneError, InvalidInput, Overloaded
from hone.models.layout import SessionLayout
from hone.service.errors import BatcherClosed, InferenceFailed
from hone.service.tickets import Encoded, Input, State, Ticket, WorkItem

logger = logging.getLogger(__name__)

TOKENIZING_CHARACTERS = 100_000
"""How many characters (of a picture: bytes) one worker encodes in one go before it runs a batch."""

_SMOOTHING = 0.1
_SHORTEST_RETRY_S = 0.05


class Scorer(Protocol):
    """What a batcher needs of a model; `Predictor` and `PicturePredictor` are two.

    Called from several threads.
    """

    def encode(self, texts: Sequence[Any], /) -> Sequence[Encoded]:
        """Return each input as the model reads it."""

    def probabilities(self, texts: Sequence[Any], /, *, alone: bool) -> FloatArray:
        """Return float32 probabilities of shape (texts, labels).

        `alone` says that no other text waits or runs: all cores may be used.
        """


class Batcher:
    """Runs texts through a scorer in batches, on `layout.workers` threads.

    `submit` and `cancel` belong to the event loop's thread; answers arrive there, all of a
    batch's in one call. `count_baseline` counts a text's tokens for the baseline prompt, beside
    the tokenizing. `on_batch` hears of each batch's texts and of its share of padding.
    """

    def __init__(
        self,
        scorer: Scorer,
        *,
        layout: SessionLayout,
        loop: asyncio.AbstractEventLoop,
        max_queue_items: int,
        count_baseline: Callable[[Any], int] | None = None,
        on_batch: Callable[[int, float], None] | None = None,
        name: str = "batcher",
    ) -> None:
        self._scorer = scorer
        self._loop = loop
        self._layout = layout
        self._max_queue_items = max_queue_items
        self._count_baseline = count_baseline
        self._on_batch = on_batch
        self._condition = threading.Condition()
        self._arrived: deque[WorkItem] = deque()
        self._by_age: deque[WorkItem] = deque()
        self._by_length: list[tuple[int, int, WorkItem]] = []
        self._waiting = 0
        self._idle = 0
        self._sequence = 0
        self._closing = False
        self._progress_at = time.monotonic()
        self._seconds_per_text = 0.0
        self._began = [math.inf] * layout.workers
        self._threads = [
            threading.Thread(
                target=self._work, args=(number,), name=f"{name}-{number}", daemon=True
            )
            for number in range(layout.workers)
        ]
        for thread in self._threads:
            thread.start()

    # The event loop's side

    def submit(self, texts: Sequence[Input], *, probe: bool = False) -> Ticket:
        """Queue the texts of one request and return its ticket.

        Overloaded when they do not fit, BatcherClosed when the model is leaving. A `probe` goes
        to the head of the queue and always fits: it asks whether the queue moves.
        """
        ticket = Ticket(texts, self._loop.create_future())
        count = len(texts)
        with self._condition:
            if self._closing:
                raise BatcherClosed("the model is being replaced or the service is stopping")
            if self._waiting + count > self._max_queue_items and not probe:
                raise Overloaded("the queue is full", retry_after_s=self._retry_after_s())
            if not self._waiting:
                self._progress_at = time.monotonic()
            for item in ticket.items:
                self._sequence += 1
                item.sequence = -self._sequence if probe else self._sequence
            (self._arrived.extendleft if probe else self._arrived.extend)(ticket.items)
            self._waiting += count
            if self._idle:
                self._condition.notify()
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Forget a request whose client has left; its places are free at once."""
        ticket.future.cancel()
        with self._condition:
            for item in ticket.items:
                if item.state is State.POOLED:
                    at = bisect_left(self._by_length, (item.length, item.sequence))
                    del self._by_length[at]
                if item.state.waits:
                    item.state = State.DROPPED
                    item.text = ""  # the queue may hold the item a little longer, not the text
                    self._waiting -= 1

    def waiting(self) -> int:
        """Return how many texts wait for an engine."""
        return self._waiting

    def stalled(self, after_s: float) -> bool:
        """Tell whether a worker hangs in one batch, or texts wait and none takes them."""
        since = min(self._began)
        if self._waiting:
            since = min(since, self._progress_at)
        return time.monotonic() - since > after_s

    def close(self, *, timeout_s: float | None = None) -> None:
        """Stop accepting, finish what is queued, and end the workers. Blocks; not for the loop."""
        with self._condition:
            self._closing = True
            self._condition.notify_all()
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))

    def _retry_after_s(self) -> float:
        per_worker = self._waiting / self._layout.workers
        return max(_SHORTEST_RETRY_S, per_worker * self._seconds_per_text)

    def _deliver(self, items: list[WorkItem]) -> None:
        for item in items:
            ticket = item.ticket
            ticket.remaining -= 1
            if not ticket.remaining and not ticket.future.done():
                ticket.last = item
                ticket.future.set_result(None)

    # The workers' side

    def _work(self, number: int) -> None:
        while True:
            arrived = self._next_arrivals()
            if arrived is None:
                return
            self._began[number] = time.monotonic()
            try:
                self._turn(arrived)
            except Exception:  # not a text's doing but ours; the other texts still need a worker
                logger.exception("a turn of the batcher failed")
            self._began[number] = math.inf
            self._progress_at = time.monotonic()

    def _turn(self, arrived: list[WorkItem]) -> None:
        """Tokenize what arrived, then run one batch."""
        if arrived:
            self._guarded(self._tokenize, arrived)
            self._enter_pool(arrived)
        batch, alone = self._next_batch()
        if batch:
            self._guarded(self._run_alone if alone else self._run, batch)
            self._finish(batch)

    def _guarded(self, step: Callable[[list[WorkItem]], None], items: list[WorkItem]) -> None:
        """Run a step for the items together; if that fails, for each alone.

        So a text that breaks the model fails alone and takes nobody with it.
        """
        try:
            step(items)
        except Exception as error:  # noqa: BLE001 - a worker outlives whatever a model does
            if len(items) > 1:
                logger.warning("a batch failed; its texts are tried one by one")
                for item in items:
                    self._guarded(step, [item])
                return
            items[0].error = _told_to_client(error)

    def _next_arrivals(self) -> list[WorkItem] | None:
        """Wait for work; return what to tokenize (maybe nothing), or None at the end."""
        with self._condition:
            while not self._arrived and not self._by_length:
                if self._closing:
                    return None
                self._idle += 1
                self._condition.wait()
                self._idle -= 1
            taken: list[WorkItem] = []
            characters = 0
            while self._arrived and characters < TOKENIZING_CHARACTERS:
                item = self._arrived.popleft()
                if item.state is State.ARRIVED:
                    item.state = State.TOKENIZING
                    characters += len(item.text)
                    taken.append(item)
            return taken

    def _tokenize(self, items: list[WorkItem]) -> None:
        started = time.perf_counter()
        texts = [item.text for item in items]
        tokenized = self._scorer.encode(texts)
        count = self._count_baseline
        counts = [count(text) for text in texts] if count else [0] * len(texts)
        elapsed_s = time.perf_counter() - started
        for item, encoded, baseline in zip(items, tokenized, counts, strict=True):
            item.encoded = encoded
            item.length = encoded.length
            item.baseline_tokens = baseline
            item.tokenization_s = elapsed_s
            if not encoded.length:
                item.error = InvalidInput("a text has no tokens that this model knows")

    def _enter_pool(self, items: list[WorkItem]) -> None:
        """Put tokenized texts into the pool, and deliver those that cannot be run."""
        failed = []
        with self._condition:
            for item in items:
                if item.state is State.DROPPED:
                    continue
                if item.error is not None:
                    item.state = State.RUNNING
                    self._waiting -= 1
                    failed.append(item)
                    continue
                item.state = State.POOLED
                insort(self._by_length, (item.length, item.sequence, item))
                if item.sequence < 0:
                    self._by_age.appendleft(item)
                else:
                    self._by_age.append(item)
            if self._idle and len(self._by_length) > 1:
                self._condition.notify(self._idle)
        if failed:
            self._finish(failed)

    def _next_batch(self) -> tuple[list[WorkItem], bool]:
        """Take the text that has waited longest and its neighbours in length.

        The batch is shared out with the workers that are idle. Also tells whether it is a lone
        text: no other waits or runs.
        """
        with self._condition:
            oldest = self._pop_oldest()
            if oldest is None:
                return [], False
            pool = self._by_length
            low, high = choose_batch(
                pool,
                (oldest.length, oldest.sequence),
                most_texts=math.ceil(len(pool) / (1 + self._idle)),
                batch_tokens=self._layout.batch_tokens,
                overhead_tokens=self._layout.overhead_tokens,
            )
            batch = [entry[2] for entry in pool[low:high]]
            del pool[low:high]
            for item in batch:
                item.state = State.RUNNING
            self._waiting -= len(batch)
            others_idle = self._idle == self._layout.workers - 1
            return batch, others_idle and len(batch) == 1 and not self._waiting

    def _pop_oldest(self) -> WorkItem | None:
        while self._by_age:
            item = self._by_age.popleft()
            if item.state is State.POOLED:
                return item
        return None

    def _run(self, batch: list[WorkItem]) -> None:
        self._score(batch, alone=False)

    def _run_alone(self, batch: list[WorkItem]) -> None:
        self._score(batch, alone=True)

    def _score(self, batch: list[WorkItem], *, alone: bool) -> None:
        started = time.perf_counter()
        tokenized = [item.encoded for item in batch if item.encoded is not None]
        probabilities = self._scorer.probabilities(tokenized, alone=alone)
        if not np.isfinite(probabilities).all():
            raise FloatingPointError("the model gave scores that are no numbers")
        # Sorted here and not on the event loop: numpy gives up the interpreter lock to sort, and
        # the loop would have to queue for it again.
        orders = np.argsort(-probabilities, axis=1, kind="stable")
        ended = time.perf_counter()
        for item, row, order in zip(batch, probabilities, orders, strict=True):
            item.started_at, item.ended_at = started, ended
            item.row, item.order = row, order
        self._learn_pace((ended - started) / len(batch))
        if self._on_batch is not None:
            padded = batch[-1].length * len(batch)
            self._on_batch(len(batch), 1 - sum(item.length for item in batch) / padded)

    def _learn_pace(self, seconds_per_text: float) -> None:
        known = self._seconds_per_text
        weight = _SMOOTHING if known else 1.0
        self._seconds_per_text = known + weight * (seconds_per_text - known)

    def _finish(self, items: list[WorkItem]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._deliver, items)
        except RuntimeError:  # the loop is closed: nobody waits for these any more
            logger.debug("answers without a loop", extra={"texts": len(items)})


def _told_to_client(error: Exception) -> HoneError:
    """Return the client's error: its own fault as it stands, the model's without details."""
    if isinstance(error, InvalidInput):
        return error
    logger.error("inference failed", exc_info=error)
    return InferenceFailed("the model failed on this text")
