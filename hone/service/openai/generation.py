"""Completing over HTTP: from a question to its answer, streamed or whole.

Both completion APIs serve classifiers and causal models at the same addresses; `Generator` takes
the requests that name a causal model, before the classifiers' reading refuses what they cannot do.
"""

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import orjson
from starlette.types import Scope, Send

from hone.models.decoding.generations import Generation, Update
from hone.models.errors import HoneError, NotFound
from hone.service.endpoint import CLIENT_WATCH, Client, ClientGone, Reply, respond
from hone.service.errors import BatcherClosed, InferenceFailed, NotReady, answer_for
from hone.service.generating import GeneratingModel, Inbox
from hone.service.limits import spend_tokens
from hone.service.loading import ServedModel
from hone.service.openai.generation_answers import DONE, KEEP_ALIVE, GenerationAnswer
from hone.service.openai.generation_requests import GenerationQuestion
from hone.service.settings import Settings

logger = logging.getLogger(__name__)

ReadGeneration = Callable[[Mapping[str, Any], str | None, Settings], GenerationQuestion]
FindModel = Callable[[str, Scope], Awaitable[ServedModel]]

_STOPPING = "The model is being replaced, or the service is stopping."
_STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class Generator:
    """Answers the requests of one route that name a causal model."""

    def __init__(self, read: ReadGeneration, *, find: FindModel, settings: Settings) -> None:
        self._read = read
        self._find = find
        self._settings = settings

    async def find(self, body: bytes, scope: Scope) -> "GenerationRun | None":
        """Return what is to be run, None where no causal model is named.

        InvalidRequest for a question that a causal model cannot answer.
        """
        engine = scope.get("path_params", {}).get("engine")
        try:
            content = orjson.loads(body)
            name = (content.get("model") or engine) if type(content) is dict else None
            if not isinstance(name, str):
                return None
            model = await self._find(name, scope)
        except (orjson.JSONDecodeError, NotFound):
            return None  # the classifiers' endpoint says what is wrong
        if not isinstance(model, GeneratingModel):
            return None
        question = self._read(content, engine, self._settings)
        find_again = functools.partial(self._find, name, scope)
        return GenerationRun(
            question, model, scope, find_again=find_again, ping_s=self._settings.stream_ping_s
        )


class GenerationRun:
    """One request on its way."""

    def __init__(
        self,
        question: GenerationQuestion,
        model: GeneratingModel,
        scope: Scope,
        *,
        find_again: Callable[[], Awaitable[ServedModel]],
        ping_s: float,
    ) -> None:
        self.model = model
        self._find_again = find_again
        self._question = question
        self._scope = scope
        self._ping_s = ping_s
        self._inbox = Inbox()
        self._started = False

    async def answer(self, send: Send, request_id: str) -> None:
        """Run it and send the answer.

        ClientGone when there is nobody to answer any more; HoneError when nothing was sent yet. An
        error in the middle of a stream is its last event.
        """
        arrived_at = time.perf_counter()
        client: Client | None = self._scope.get("extensions", {}).get(CLIENT_WATCH)
        if client is not None:  # before the prompt is even read: it may have left by then
            client.watch(functools.partial(self._inbox.put, None))
        generations: Sequence[Generation] = ()
        try:
            generations = await self._begin()
            answer = GenerationAnswer(self._question, self.model, generations, request_id)
            if self._question.answering.stream:
                await self._stream(answer, send, request_id)
            else:
                await self._collect(answer)
                await respond(send, 200, Reply(answer.body()), request_id)
        except BaseException:
            self.model.cancel(generations)
            raise
        finally:
            if client is not None:
                client.watch(None)
            self._count(generations)
        spend_tokens(self._scope, answer.usage()["total_tokens"])
        self.model.metrics.outcomes["answered"].inc()
        self.model.metrics.request_seconds.observe(time.perf_counter() - arrived_at)

    async def _begin(self) -> Sequence[Generation]:
        """Queue the request; once more if its model was taken out of memory in this moment."""
        try:
            return await self._submit()
        except BatcherClosed:
            found = await self._find_again()
            if not isinstance(found, GeneratingModel) or found is self.model:
                raise
            self.model = found
            return await self._submit()

    async def _submit(self) -> Sequence[Generation]:
        """Tokenize, compile what constrains the answer, and queue it: too long for the loop."""
        model = self.model
        return await asyncio.to_thread(
            lambda: model.submit(self._question.requests(model, self._inbox))
        )

    async def _collect(self, answer: GenerationAnswer) -> None:
        while not answer.complete:
            for update in await self._news(None):
                answer.take(update)

    async def _stream(self, answer: GenerationAnswer, send: Send, request_id: str) -> None:
        try:
            while not answer.complete:
                updates = await self._news(self._ping_s)
                frames = [frame for update in updates for frame in _frames(answer, update)]
                await self._write(send, b"".join(frames) or KEEP_ALIVE, request_id)
        except asyncio.CancelledError:  # the server stops, and waits for streams no longer
            if self._started:
                await self._end_badly(NotReady(_STOPPING), send)
            raise
        except HoneError as error:
            if not self._started:
                raise
            logger.warning("a stream failed", extra={"request_id": request_id})
            await self._end_badly(error, send)
            raise ClientGone from error  # it was told; it must not be told again
        last = answer.last_events()
        await send({"type": "http.response.body", "body": last})

    async def _end_badly(self, error: HoneError, send: Send) -> None:
        told = b"data: " + answer_for(error).body() + b"\n\n" + DONE
        await send({"type": "http.response.body", "body": told})

    async def _write(self, send: Send, content: bytes, request_id: str) -> None:
        if not self._started:
            self._started = True
            headers = [*_STREAM_HEADERS, (b"x-request-id", request_id.encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content, "more_body": True})

    async def _news(self, timeout_s: float | None) -> list[Update]:
        """Return what is new; nothing after `timeout_s`. Raises what befell a generation."""
        updates = []
        for update in await self._inbox.take(timeout_s):
            if update is None:
                raise ClientGone
            if isinstance(update.error, HoneError):
                raise _told(update.error)
            updates.append(update)
        return updates

    def _count(self, generations: Sequence[Generation]) -> None:
        sequences, metrics = self.model.sequences, self.model.metrics
        for generation in generations:
            if generation.leader is None:
                metrics.prompt_tokens.inc(len(generation.request.prompt) - generation.reused)
            sequences.ended(
                _how(generation),
                completion_tokens=generation.generated,
                reused_tokens=generation.reused,
            )
            first, ended = generation.first_token_at, generation.ended_at
            if first and ended:
                sequences.paced(
                    first_token_s=first - generation.submitted_at,
                    further_s=ended - first,
                    further_tokens=generation.generated - 1,
                )


def _frames(answer: GenerationAnswer, update: Update) -> list[bytes]:
    frames = list(answer.opening(update))
    part = answer.take(update)
    if part is not None:
        frames.append(answer.event(part))
    if update.finish:
        frames.append(answer.closing(update))
    return frames


def _how(generation: Generation) -> str:
    return "cancelled" if generation.cancelled else "ended" if generation.ended_at else "failed"


def _told(error: HoneError) -> HoneError:
    if error.code == "scheduler_closed":
        return NotReady(_STOPPING)
    return InferenceFailed("The model failed on this request.")
