"""Doing a request's work once, however often it is sent with the same `Idempotency-Key`."""

import contextlib
from collections.abc import Callable

from fastapi import Request
from sqlalchemy import Connection

from hone.models.errors import HoneError
from hone.service.access import Caller
from hone.service.jobs.idempotency import Answer, Idempotency, Ticket
from hone.service.jobs.idempotency import Request as KeyedRequest

HEADER = "idempotency-key"

Finish = Callable[[Connection, bytes], None]
"""Stores the answer's body in the transaction that does the work."""

Work = Callable[[Finish], bytes]
"""Does the work, calls `Finish` in its transaction, and returns the answer's body. Blocks."""


def keyed(request: Request, caller: Caller, route: str, body: bytes) -> KeyedRequest | None:
    """Return the request's key with what it stands for; None if it has none."""
    key = request.headers.get(HEADER)
    return None if key is None else KeyedRequest(caller.owner, route, key, body)


def do_once(idempotency: Idempotency, keyed: KeyedRequest | None, work: Work) -> bytes:
    """Return the body of a good answer, from the work or from when it was done. Blocks.

    Conflict while the same request is in flight, IdempotencyReused for another body.
    """
    if keyed is None:
        return work(_finish_nothing)
    begun = idempotency.begin(keyed)
    if isinstance(begun, Answer):
        return begun.body
    try:
        return work(_finishing(idempotency, begun))
    except BaseException:
        with contextlib.suppress(HoneError):  # else it is forgotten in a minute
            idempotency.abandon(begun)
        raise


def _finishing(idempotency: Idempotency, ticket: Ticket) -> Finish:
    def finish(connection: Connection, body: bytes) -> None:
        idempotency.finish(connection, ticket, Answer(200, body))

    return finish


def _finish_nothing(connection: Connection, body: bytes) -> None:
    """Do nothing: there is no key to keep the answer under."""
