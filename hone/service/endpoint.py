"""One question to a classifier over HTTP, from the body's bytes to the answer's.

Written as a plain ASGI application. This is the path that carries the traffic, so it goes round
FastAPI's dependency solving and response validation, which cost more here than reading, queueing
and answering together. The routes are in the OpenAPI document all the same, and tests hold their
answers against that document.

What differs between the APIs is how a body is read and how an answer is written: a `Question`.
"""

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple, ParamSpec, Protocol, TypeVar

from starlette.types import Receive, Scope, Send

from hone.models.errors import HoneError, InvalidInput
from hone.models.imaging.embedded import is_data_url
from hone.service.answers import Bill, answered_by_headers, count_answer, make_bill, new_request_id
from hone.service.errors import (
    InferenceFailed,
    InvalidRequest,
    NotJson,
    TooLarge,
    answer_for,
)
from hone.service.fallback.asking import ModelFallback
from hone.service.limits import spend_tokens
from hone.service.loading import ServedModel, as_classifier
from hone.service.metrics import NO_MODEL, Metrics, Outcome
from hone.service.reading import picture_as_text
from hone.service.serving import LoadedModel
from hone.service.settings import Settings
from hone.service.tickets import Input, Ticket

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

CLIENT_WATCH = "hone.client"
"""The ASGI extension by which the server tells that a client has left."""

JSON = b"application/json"
FORM_TYPE = b"multipart/form-data"

_READ_AT_ONCE = 64 * 2**10
"""Bytes of a body that is read on the event loop; base64 and outlines of more take too long."""


class Client(Protocol):
    """A connection that can be watched; `protocol.HoneProtocol` is one."""

    def watch(self, on_gone: Callable[[], None] | None) -> None:
        """Call `on_gone` when the client leaves before its answer; None ends the watch."""


class ClientGone(Exception):
    """The client left while its request was on the way; there is nobody to answer."""


class BrokenOff(Exception):
    """An answer failed after it had begun; the client was told in its last event.

    `refused` is the code of what it was told, where that was the request's own doing.
    """

    def __init__(self, refused: str | None = None) -> None:
        super().__init__(refused)
        self.refused = refused


class Reply(NamedTuple):
    """The body of a good answer."""

    body: bytes
    content_type: bytes = JSON


class Question(Protocol):
    """A request as one of the APIs understands it."""

    @property
    def model(self) -> str:
        """The model that is asked."""

    def texts(self, model: LoadedModel) -> Sequence[Input]:
        """Return the texts or pictures, at least one; InvalidRequest when there are none."""

    def sent_beside(self) -> Sequence[str]:
        """Return what was sent with each text and not read, after `texts`."""

    def wants_label(self, model: LoadedModel) -> bool:
        """Return whether the label of each text is asked, so that a prompt may answer instead."""

    def place(self, index: int) -> str:
        """Return the field that the text at `index` came from."""

    def reply(self, model: LoadedModel, ticket: Ticket, bill: Bill, request_id: str) -> Reply:
        """Return the answer of a ticket without failures."""


FindModel = Callable[[str, Scope], Awaitable[ServedModel]]
"""Finds the model of that name for whoever makes the request of that scope."""


class Run(Protocol):
    """A request to a model of another kind."""

    @property
    def model(self) -> ServedModel:
        """The model that is asked."""

    async def answer(self, send: Send, request_id: str) -> None:
        """Send the answer and count it.

        HoneError while nothing was sent, else BrokenOff; ClientGone where nobody waits any more.
        """


class Asked(NamedTuple):
    """A question, and the model that is asked."""

    question: Question
    model: ServedModel


Look = Callable[[bytes, Scope], Awaitable["Run | Asked"]]
"""Reads a body and finds the model that it names, each once."""

ReadQuestion = Callable[[bytes, Settings, Scope], Question]


async def in_time(size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Read something of so many bytes: at once, or in a thread if that would hold up others."""
    if size <= _READ_AT_ONCE:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)


def read_and_find(read: ReadQuestion, *, find: FindModel, settings: Settings) -> Look:
    """Return what looks at bodies of a route that only classifies."""

    async def look(body: bytes, scope: Scope) -> Asked:
        question = await in_time(len(body), read, body, settings, scope)
        return Asked(question, await find(question.model, scope))

    return look


class ClassifierEndpoint:
    """The ASGI application behind each route that classifies.

    `look` makes a question of a body, or of one for a model of another kind its run; `prefix`
    begins the ids of its requests. `forms` says that it reads multipart forms, too. While
    `takes_pictures` says yes, bodies may be as long as those with pictures.
    """

    def __init__(
        self,
        look: Look,
        *,
        prefix: str,
        settings: Settings,
        metrics: Metrics,
        forms: bool = False,
        takes_pictures: Callable[[], bool] = lambda: False,
    ) -> None:
        self._look = look
        self._forms = forms
        self._takes_pictures = takes_pictures
        self._prefix = prefix
        self._settings = settings
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Exactly one outcome is counted for it."""
        request_id = new_request_id(self._prefix)
        model: ServedModel | None = None
        try:
            body = await self._read(scope["headers"], receive)
            arrived_at = time.perf_counter()
            asked = await self._look(body, scope)
            if not isinstance(asked, Asked):
                model = asked.model
                self._check_size(len(body), model)
                await asked.answer(send, request_id)
                return
            question, model = asked.question, as_classifier(asked.model)
            inputs = question.texts(model)
            self._check_inputs(inputs, model, question, len(body))
            ticket = model.batcher.submit(inputs)
            await _finished(ticket, model, scope, question)
            if model.fallback is not None and question.wants_label(model):
                await _fallen_back(model.fallback, ticket, scope)
            beside = question.sent_beside()
            sent_tokens = await model.sent_tokens(beside) if beside else 0
            bill = make_bill(model, ticket, sent_tokens)
            spend_tokens(scope, bill.prompt_tokens)  # those of a fallback were when it ended
            reply = question.reply(model, ticket, bill, request_id)
        except (ClientGone, asyncio.CancelledError) as error:
            self._count("cancelled", model)
            if not isinstance(error, ClientGone):
                raise
        except BrokenOff as error:
            if error.refused is None:
                self._count("failed", model)
            else:
                self._refuse(error.refused, model)
        except HoneError as error:
            await self._tell(error, model, request_id, send)
        except Exception as error:  # the boundary: an HTTP 500, and the log says why
            logger.exception("request failed", extra={"request_id": request_id})
            await self._tell(error, model, request_id, send)
        else:
            await respond(send, 200, reply, request_id, answered_by_headers(ticket))
            count_answer(model, ticket, bill, arrived_at)

    def _check_inputs(
        self, inputs: Sequence[Input], model: LoadedModel, question: Question, size: int
    ) -> None:
        """Refuse texts for a model of pictures, pictures for one of texts, and too many texts."""
        wanted = bytes if model.takes_pictures else str
        for index, value in enumerate(inputs):
            if type(value) is not wanted:
                kinds = ("text", "pictures") if model.takes_pictures else ("picture", "texts")
                place = question.place(index)
                if model.takes_pictures and is_data_url(value):
                    raise picture_as_text(place)
                message = f"'{place}' is a {kinds[0]}, and this model classifies {kinds[1]}."
                raise InvalidRequest(message, param=place, code="wrong_kind_of_input")
        self._check_size(size, model)

    def _check_size(self, size: int, model: ServedModel) -> None:
        if size > self._settings.max_body_bytes and not model.takes_pictures:
            raise _too_large(self._settings.max_body_bytes)

    async def _read(self, headers: Iterable[tuple[bytes, bytes]], receive: Receive) -> bytes:
        """Return the body, within its limit, and said to be plain JSON or a form if one is read."""
        settings = self._settings
        limit = settings.max_body_bytes
        if self._takes_pictures():
            limit = max(limit, settings.max_picture_body_bytes)
        _check_headers(headers, limit, forms=self._forms)
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            part = message.get("body", b"")
            size += len(part)
            if size > limit:
                raise _too_large(limit)
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)

    async def _tell(
        self, error: Exception, model: ServedModel | None, request_id: str, send: Send
    ) -> None:
        answer = answer_for(error)
        if answer.status == 500:
            self._count("failed", model)
        else:
            self._refuse(answer.code or "refused", model)
        await respond(send, answer.status, Reply(answer.body()), request_id, answer.headers)

    def _refuse(self, code: str, model: ServedModel | None) -> None:
        self._metrics.refuse(code, model.metrics.labels if model is not None else NO_MODEL)

    def _count(self, outcome: Outcome, model: ServedModel | None) -> None:
        labels = model.metrics.labels if model is not None else NO_MODEL
        self._metrics.requests.labels(*labels, outcome).inc()


def _check_headers(headers: Iterable[tuple[bytes, bytes]], limit: int, *, forms: bool) -> None:
    for name, value in headers:
        if name == b"content-length":
            if not value.isdigit() or len(value) > 18 or int(value) > limit:
                raise _too_large(limit)
        elif name == b"content-type":
            kind = value.lower()
            if b"json" not in kind and not (forms and FORM_TYPE in kind):
                raise NotJson("The body must be application/json.")
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise NotJson("The body must not be compressed.")


def content_type(scope: Scope) -> bytes:
    """Return the content type of a request, case and all; empty if it has none."""
    found: bytes = next((v for name, v in scope["headers"] if name == b"content-type"), b"")
    return found


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body has more than {limit} bytes.")


async def _finished(ticket: Ticket, model: LoadedModel, scope: Scope, question: Question) -> None:
    """Wait for a ticket; raise ClientGone, or what befell the first text that failed."""
    client: Client | None = scope.get("extensions", {}).get(CLIENT_WATCH)
    if client is not None:
        client.watch(functools.partial(model.batcher.cancel, ticket))
    try:
        await ticket.future
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():  # the server stops waiting, not the client
            model.batcher.cancel(ticket)
            raise
        raise ClientGone from None
    finally:
        if client is not None:
            client.watch(None)
    failed = ticket.first_error()
    if failed is not None:
        raise _about_text(question.place(failed[0]), failed[1])


async def _fallen_back(fallback: ModelFallback, ticket: Ticket, scope: Scope) -> None:
    """Ask the prompt about what the model is not sure of; ClientGone if the client leaves.

    What was asked by then is charged all the same.
    """
    items = fallback.below(ticket)
    if not items:
        return
    client: Client | None = scope.get("extensions", {}).get(CLIENT_WATCH)
    asking = asyncio.create_task(fallback.ask(items))
    if client is not None:
        client.watch(functools.partial(_end, asking))
    try:
        await asking
    except asyncio.CancelledError:
        asking.cancel()
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise ClientGone from None
    finally:
        if client is not None:
            client.watch(None)
        said = (item.prompt_answer for item in items if item.prompt_answer is not None)
        spend_tokens(scope, sum(answer.prompt_tokens for answer in said))


def _end(asking: "asyncio.Task[None]") -> None:
    asking.cancel()


def _about_text(place: str, error: HoneError) -> HoneError:
    if isinstance(error, InvalidInput):
        message = f"'{place}': {str(error).removesuffix('.')}."
        return InvalidRequest(message, param=place, code=error.code)
    return InferenceFailed(f"The model failed on '{place}'.", param=place)


async def respond(
    send: Send,
    status: int,
    reply: Reply,
    request_id: str,
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> None:
    """Send an answer."""
    fixed = [
        (b"content-type", reply.content_type),
        (b"content-length", b"%d" % len(reply.body)),
        (b"x-request-id", request_id.encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": [*fixed, *headers]})
    await send({"type": "http.response.body", "body": reply.body})
