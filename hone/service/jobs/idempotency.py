"""`Idempotency-Key`: a request that is sent again is answered again and not done again.

The answer is stored in the transaction that does the work, guarded by a token. So a key that is
still in flight stands for work that was not done, and another request may take it over when its
first one seems dead: if that one lives after all, its transaction fails and nothing is done twice.
"""

import hashlib
import secrets
import time
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from hone.service.errors import InvalidRequest
from hone.service.jobs.database import Database
from hone.service.jobs.errors import IdempotencyReused, InFlight
from hone.service.jobs.ids import Clock
from hone.service.jobs.tables import idempotency_keys as keys

LONGEST_KEY = 255
KEPT_S = 24 * 3600
IN_FLIGHT_S = 60
"""After this long a request that has not answered may be replaced by the same one sent again."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request with a key: whose, on which route, and with which body."""

    owner: str
    route: str
    key: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP status and a body, to be sent again as they are."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Ticket:
    """The right to do a request's work and store its answer."""

    request: Request
    token: str


class Idempotency:
    """The keys of all owners. Each key is its owner's, and belongs to one route."""

    def __init__(self, database: Database, *, clock: Clock = time.time) -> None:
        self._database, self._clock = database, clock

    def begin(self, request: Request) -> Ticket | Answer:
        """Return a ticket for a new request, or the answer of one that was done.

        InFlight while the first one is at work; IdempotencyReused if it had another body;
        InvalidRequest for a key that is empty or too long.
        """
        if not 1 <= len(request.key) <= LONGEST_KEY:
            raise InvalidRequest(f"an Idempotency-Key has 1 to {LONGEST_KEY} characters")
        ticket, now = Ticket(request, secrets.token_hex(16)), self._clock()
        with self._database.writing() as connection:
            self._database.lock(connection, f"idempotency of {request.owner}")
            found = self._found(connection, request, now)
            if found is not None:
                return found
            connection.execute(delete(keys).where(_of(request)))
            connection.execute(insert(keys).values(**_row(ticket, now)))
        return ticket

    def finish(self, connection: Connection, ticket: Ticket, answer: Answer) -> None:
        """Store the answer in the writing transaction that does the work.

        InFlight if another request has taken over: the transaction must be undone.
        """
        held = _of(ticket.request) & (keys.c.token == ticket.token) & keys.c.done.is_(False)
        done = update(keys).where(held)
        stored = done.values(done=True, status=answer.status, answer=answer.body)
        if connection.execute(stored).rowcount == 0:
            raise InFlight("another request with this Idempotency-Key has taken over")

    def abandon(self, ticket: Ticket) -> None:
        """Forget a request that was refused: it may be corrected and sent with the same key."""
        held = _of(ticket.request) & (keys.c.token == ticket.token) & keys.c.done.is_(False)
        with self._database.writing() as connection:
            connection.execute(delete(keys).where(held))

    def expire(self) -> int:
        """Forget every key whose time has come, and return how many."""
        old = keys.c.created_at <= self._clock() - KEPT_S
        with self._database.writing() as connection:
            return connection.execute(delete(keys).where(old)).rowcount

    def _found(self, connection: Connection, request: Request, now: float) -> Answer | None:
        """Return the stored answer, or None where the request may be done (again)."""
        row = connection.execute(select(keys).where(_of(request))).one_or_none()
        if row is None or now - row.created_at >= KEPT_S:
            return None
        if row.body_sha256 != _body_sha256(request):
            raise IdempotencyReused("this Idempotency-Key was used with another body")
        if row.done:
            return Answer(int(row.status), bytes(row.answer))
        if not 0 <= now - row.created_at < IN_FLIGHT_S:  # below 0: the clock was set back
            return None
        raise InFlight("a request with this Idempotency-Key is in flight")


def _of(request: Request) -> ColumnElement[bool]:
    return (
        (keys.c.owner == request.owner)
        & (keys.c.route == request.route)
        & (keys.c.key == request.key)
    )


def _row(ticket: Ticket, now: float) -> dict[str, object]:
    request = ticket.request
    return {
        "owner": request.owner,
        "route": request.route,
        "key": request.key,
        "body_sha256": _body_sha256(request),
        "token": ticket.token,
        "done": False,
        "created_at": now,
    }


def _body_sha256(request: Request) -> str:
    return hashlib.sha256(request.body).hexdigest()
