"""A request sent again is answered again, and never done again."""

import concurrent.futures

import pytest

from hone.models.errors import Conflict, InvalidInput
from hone.service.jobs.database import Database
from hone.service.jobs.errors import IdempotencyReused
from hone.service.jobs.idempotency import (
    IN_FLIGHT_S,
    KEPT_S,
    Answer,
    Idempotency,
    Request,
    Ticket,
)
from hone.service.jobs.records import Records
from tests.service.jobs.clock import SetClock
from tests.service.jobs.jobs import new_job

REQUEST = Request("acme", "POST /v1/fine_tuning/jobs", "key-1", b'{"model":"ada"}')
ANSWER = Answer(200, b'{"id":"\xc3\xa9\x00"}')


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def idempotency(database: Database, clock: SetClock) -> Idempotency:
    return Idempotency(database, clock=clock)


def begin(idempotency: Idempotency, request: Request = REQUEST) -> Ticket:
    ticket = idempotency.begin(request)
    assert isinstance(ticket, Ticket)
    return ticket


def do(database: Database, idempotency: Idempotency, ticket: Ticket) -> None:
    """Do a request's work: one job, with the answer in its transaction."""
    Records(database).create(
        new_job(), also=lambda connection, _: idempotency.finish(connection, ticket, ANSWER)
    )


def count(database: Database) -> int:
    return len(Records(database).list_all().items)


def test_the_answer_is_replayed_byte_for_byte(database: Database, idempotency: Idempotency) -> None:
    do(database, idempotency, begin(idempotency))
    assert idempotency.begin(REQUEST) == ANSWER
    assert idempotency.begin(REQUEST) == ANSWER
    assert count(database) == 1


def test_another_body_is_an_error_done_or_not(database: Database, idempotency: Idempotency) -> None:
    other = Request(REQUEST.owner, REQUEST.route, REQUEST.key, REQUEST.body + b" ")
    ticket = begin(idempotency)
    with pytest.raises(IdempotencyReused) as caught:
        idempotency.begin(other)
    assert caught.value.status == 422
    do(database, idempotency, ticket)
    with pytest.raises(IdempotencyReused):
        idempotency.begin(other)


def test_the_same_key_of_another_owner_or_route_is_another(idempotency: Idempotency) -> None:
    begin(idempotency)
    begin(idempotency, Request("other", REQUEST.route, REQUEST.key, b"other"))
    begin(idempotency, Request(REQUEST.owner, "POST /v1/files", REQUEST.key, b"other"))


def test_in_flight_is_a_conflict(idempotency: Idempotency) -> None:
    begin(idempotency)
    with pytest.raises(Conflict):
        idempotency.begin(REQUEST)


def test_of_many_at_once_one_is_done(database: Database, idempotency: Idempotency) -> None:
    def send(_: int) -> str:
        try:
            ticket = idempotency.begin(REQUEST)
        except Conflict:
            return "conflict"
        if isinstance(ticket, Answer):
            return "replayed"
        do(database, idempotency, ticket)
        return "done"

    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        ends = list(pool.map(send, range(30)))
    assert ends.count("done") == 1
    assert count(database) == 1


def test_a_refused_request_may_be_corrected(database: Database, idempotency: Idempotency) -> None:
    idempotency.abandon(begin(idempotency))
    corrected = Request(REQUEST.owner, REQUEST.route, REQUEST.key, b"corrected")
    do(database, idempotency, begin(idempotency, corrected))
    assert idempotency.begin(corrected) == ANSWER


def test_abandoning_after_the_end_forgets_nothing(
    database: Database, idempotency: Idempotency
) -> None:
    ticket = begin(idempotency)
    do(database, idempotency, ticket)
    idempotency.abandon(ticket)
    assert idempotency.begin(REQUEST) == ANSWER


@pytest.mark.parametrize("jump", [IN_FLIGHT_S, KEPT_S, 10**8, -1, -(10**8)])
def test_work_that_seemed_dead_and_was_taken_over_is_done_once(
    database: Database, idempotency: Idempotency, clock: SetClock, jump: int
) -> None:
    slow = begin(idempotency)
    clock.time += jump
    quick = begin(idempotency)
    do(database, idempotency, quick)
    with pytest.raises(Conflict):
        do(database, idempotency, slow)
    assert count(database) == 1
    assert idempotency.begin(REQUEST) == ANSWER


def test_a_key_lasts_a_day(database: Database, idempotency: Idempotency, clock: SetClock) -> None:
    do(database, idempotency, begin(idempotency))
    clock.time += KEPT_S - 1
    assert idempotency.expire() == 0
    assert idempotency.begin(REQUEST) == ANSWER
    clock.time += 1
    begin(idempotency)
    clock.time += KEPT_S
    assert idempotency.expire() == 1


@pytest.mark.parametrize("key", ["", "k" * 256, "a\0b", "\ud800"])
def test_an_unusable_key_is_refused(idempotency: Idempotency, key: str) -> None:
    with pytest.raises(InvalidInput):
        idempotency.begin(Request("acme", "r", key, b""))


def test_the_longest_key_and_any_character_will_do(idempotency: Idempotency) -> None:
    begin(idempotency, Request("acme", "r", "\U0001f600" * 255, b""))
    begin(idempotency, Request("acme", "r", "' OR '1'='1", b""))
