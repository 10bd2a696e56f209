"""Completing over HTTP: from a question to its answer, streamed or whole.

Both completion APIs serve classifiers and causal models at the same addresses: the model that a
body names decides how the rest of it is read.
"""

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from starlette.types import Scope, Send

from hone.models.decoding.generations import Generation, Update
from hone.models.errors import HoneError, InvalidInput
from hone.service.answers import Bill
from hone.service.endpoint import (
    CLIENT_WATCH,
    Asked,
    BrokenOff,
    Client,
    ClientGone,
    FindModel,
    Look,
    Question,
    Reply,
    in_time,
    respond,
)
from hone.service.errors import (
    BatcherClosed,
    InferenceFailed,
    InvalidRequest,
    NotReady,
    answer_for,
)
from hone.service.generating import GeneratingModel, Inbox
from hone.service.limits import spend_tokens
from hone.service.loading import ServedModel
from hone.service.openai.generation_answers import DONE, KEEP_ALIVE, GenerationAnswer
from hone.service.openai.generation_requests import GenerationQuestion
from hone.service.reading import check_model, read_object
from hone.service.settings import Settings

logger = logging.getLogger(__name__)


class Readers(NamedTuple):
    """How a body, its model left out, is read for either kind of model; InvalidRequest if bad."""

    classification: Callable[[Mapping[str, Any], str, Settings], Question]
    generation: Callable[[Mapping[str, Any], str, Settings], GenerationQuestion]


_STOPPING = "The model is being replaced, or the service is stopping."
_STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


def completion_look(readers: Readers, *, find: FindModel, settings: Settings) -> Look:
    """Return what looks at bodies of a route that serves both kinds of model."""

    async def look(body: bytes, scope: Scope) -> GenerationRun | Asked:
        content = await in_time(len(body), read_object, body)
        name = _named(content.pop("model", None), scope.get("path_params", {}).get("engine"))
        model = await find(name, scope)
        if not isinstance(model, GeneratingModel):
            asked = await in_time(len(body), readers.classification, content, name, settings)
            return Asked(asked, model)
        question = await in_time(len(body), readers.generation, content, name, settings)
        find_again = functools.partial(find, name, scope)
        return GenerationRun(
            question, model, scope, find_again=find_again, ping_s=settings.stream_ping_s
        )

    return look


def _named(model: Any, engine: str | None) -> str:  # noqa: ANN401 - any JSON
    """Return the model that the address or the body names; both may, if they agree."""
    if engine is not None and model not in (None, engine):
        message = "'model' is another than the engine in the address."
        raise InvalidRequest(message, param="model")
    return check_model(model if engine is None else engine)


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
        self._failed: Generation | None = None
        self._baseline_input_tokens = 0

    async def answer(self, send: Send, request_id: str) -> None:
        """Run it and send the answer.

        ClientGone when there is nobody to answer any more; HoneError when nothing was sent yet. An
        error in the middle of a stream is its last event, and BrokenOff is raised.
        """
        arrived_at = time.perf_counter()
        client: Client | None = self._scope.get("extensions", {}).get(CLIENT_WATCH)
        if client is not None:  # before the prompt is even read: it may have left by then
            client.watch(functools.partial(self._inbox.put, None))
        generations: Sequence[Generation] = ()
        try:
            generations = await self._begin()
            answer = await self._blank(generations, request_id)
            if self._question.answering.stream:
                bill = await self._stream(answer, send, request_id)
            else:
                await self._collect(answer)
                bill = await self._bill(answer)
                await respond(send, 200, Reply(answer.body(bill)), request_id)
        except BaseException as error:
            self.model.cancel(generations)
            if isinstance(error, ClientGone):
                spend_tokens(self._scope, _worked(generations))
            raise
        finally:
            if client is not None:
                client.watch(None)
            self._count(generations)
        spend_tokens(self._scope, answer.usage()["total_tokens"])
        if bill.savings is not None:
            self.model.metrics.count_savings(bill.savings)
        self.model.metrics.outcomes["answered"].inc()
        self.model.metrics.request_seconds.observe(time.perf_counter() - arrived_at)

    async def _blank(self, generations: Sequence[Generation], request_id: str) -> GenerationAnswer:
        """Return an answer to be filled in."""
        make = functools.partial(
            GenerationAnswer, self._question, self.model, generations, request_id
        )
        # Where each token of a long prompt stands takes too long for the loop.
        return await asyncio.to_thread(make) if self._question.scores_prompts else make()

    async def _begin(self) -> Sequence[Generation]:
        """Queue the request; once more if its model was taken out of memory in this moment."""
        try:
            return await asyncio.to_thread(self._submit)
        except BatcherClosed:
            found = await self._find_again()
            if not isinstance(found, GeneratingModel) or found is self.model:
                raise
            self.model = found
            return await asyncio.to_thread(self._submit)

    def _submit(self) -> Sequence[Generation]:
        """Tokenize, compile what constrains the answer, and queue it: too long for the loop."""
        requests = self._question.requests(self.model, self._inbox)
        self._baseline_input_tokens = self._question.baseline_input_tokens(self.model)
        return self.model.submit(requests)

    async def _collect(self, answer: GenerationAnswer) -> None:
        while not answer.complete:
            for update in await self._news(None):
                answer.take(update)

    async def _stream(self, answer: GenerationAnswer, send: Send, request_id: str) -> Bill:
        try:
            while not answer.complete:
                updates = await self._news(self._ping_s)
                frames = [frame for update in updates for frame in _frames(answer, update)]
                await self._write(send, b"".join(frames) or KEEP_ALIVE, request_id)
            bill = await self._bill(answer)
        except asyncio.CancelledError:  # the server stops, and waits for streams no longer
            if self._started:
                await self._end_badly(NotReady(_STOPPING), send)
            raise
        except ClientGone:
            raise
        except InvalidRequest as error:
            if not self._started:
                raise
            await self._end_badly(error, send)
            raise BrokenOff(error.code) from None
        except Exception as error:  # the boundary of a stream: who reads it is told in it
            if not self._started:
                raise
            logger.exception("a stream broke off", extra={"request_id": request_id})
            await self._end_badly(error, send)
            raise BrokenOff from error
        await send({"type": "http.response.body", "body": answer.last_events(bill)})
        return bill

    async def _bill(self, answer: GenerationAnswer) -> Bill:
        """Return what the answer cost; counting for a baseline may take milliseconds."""
        if self.model.savings is None:
            return answer.bill(0)
        return await asyncio.to_thread(answer.bill, self._baseline_input_tokens)

    async def _end_badly(self, error: Exception, send: Send) -> None:
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
            if update.error is not None:
                raise self._told(update)
            updates.append(update)
        return updates

    def _told(self, update: Update) -> HoneError:
        """Return what the client is told of what befell a generation."""
        error = update.error
        if isinstance(error, InvalidInput):  # its schema turned out to be one to give up on
            place = "tools" if self._question.tools else "response_format"
            return InvalidRequest(f"'{place}': {error}.", param=place, code=error.code)
        self._failed = update.generation
        if error is not None and error.code == "scheduler_closed":
            return NotReady(_STOPPING)
        return InferenceFailed("The model failed on this request.")

    def _count(self, generations: Sequence[Generation]) -> None:
        sequences, metrics = self.model.sequences, self.model.metrics
        for generation in generations:
            if generation.leader is None:
                metrics.prompt_tokens.inc(len(generation.request.prompt) - generation.reused)
            sequences.ended(
                self._how(generation),
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

    def _how(self, generation: Generation) -> str:
        if generation is self._failed:
            return "failed"
        return "cancelled" if generation.cancelled else "ended"


def _worked(generations: Sequence[Generation]) -> int:
    """Return the tokens that were read and said for choices that nobody waits for any more."""
    begun = [generation for generation in generations if generation.filled]
    read = sum(len(one.request.prompt) for one in begun if one.leader is None)
    return read + sum(generation.generated for generation in begun)


def _frames(answer: GenerationAnswer, update: Update) -> list[bytes]:
    frames = list(answer.opening(update))
    frames += [answer.event(part) for part in answer.take(update)]
    if update.finish:
        frames.append(answer.closing(update))
    return frames
