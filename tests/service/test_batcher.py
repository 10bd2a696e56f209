"""The batcher, with a fake engine: what holds for any texts, batches and moments."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hone.models.engines import FloatArray
from hone.models.errors import InvalidInput, Overloaded
from hone.models.layout import SessionLayout
from hone.models.tokenizer import TokenizedText
from hone.service.batcher import Batcher
from hone.service.errors import BatcherClosed, InferenceFailed
from hone.service.tickets import Ticket

LABELS = 7
POISON = 13
PICKY = 14

texts_of_words = st.lists(st.integers(1, 12), min_size=1, max_size=40).map(
    lambda ids: " ".join(map(str, ids))
)
requests = st.lists(st.lists(texts_of_words, min_size=1, max_size=6), min_size=1, max_size=12)
patient = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


class NumberScorer:
    """Reads a text as its ids. Each row depends on its own ids alone."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.lone: list[list[int]] = []
        self.may_run = threading.Event()
        self.may_run.set()
        self.tokenized: list[str] = []

    def encode(self, texts: Sequence[str]) -> list[TokenizedText]:
        if any(text == str(PICKY) for text in texts):
            raise InvalidInput("not that one")
        self.tokenized.extend(texts)
        rows = [[int(word) for word in text.split()] for text in texts]
        return [TokenizedText(ids, len(ids)) for ids in rows]

    def probabilities(self, texts: Sequence[TokenizedText], *, alone: bool) -> FloatArray:
        self.may_run.wait(20)
        self.batches.append([len(text.ids) for text in texts])
        self.lone += self.batches[-1:] if alone else []
        if any(POISON in text.ids for text in texts):
            raise RuntimeError("poisoned")
        return np.stack([row_of(text.ids) for text in texts])


def row_of(ids: Sequence[int]) -> FloatArray:
    weights = np.bincount(np.array(ids) % LABELS, minlength=LABELS).astype(np.float32) + 1
    probabilities: FloatArray = weights / weights.sum()
    return probabilities


class Bench:
    """A batcher on a running loop, and the ways to use it from a plain test."""

    def __init__(self) -> None:
        self.scorer = NumberScorer()

    def run(
        self,
        body: Callable[[Batcher], Coroutine[Any, Any, Any]],
        *,
        workers: int = 2,
        batch_tokens: int = 30,
        max_queue_items: int = 1000,
    ) -> Any:
        async def main() -> Any:
            batcher = Batcher(
                self.scorer,
                layout=SessionLayout(workers, 1, batch_tokens),
                loop=asyncio.get_running_loop(),
                max_queue_items=max_queue_items,
            )
            try:
                async with asyncio.timeout(30):
                    return await body(batcher)
            finally:
                self.scorer.may_run.set()
                await asyncio.to_thread(batcher.close, timeout_s=20)

        return asyncio.run(main())


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def all_taken(batcher: Batcher) -> None:
    """Wait until the workers hold every text."""
    while batcher.waiting():  # noqa: ASYNC110 - a test has no event to wait for
        await asyncio.sleep(0.001)


def check(ticket: Ticket, texts: Sequence[str]) -> None:
    assert len(ticket.items) == len(texts)
    for item, text in zip(ticket.items, texts, strict=True):
        ids = [int(word) for word in text.split()]
        assert item.error is None
        assert item.row is not None
        np.testing.assert_array_equal(item.row, row_of(ids))
        assert item.length == len(ids)


@patient
@given(requests, st.integers(1, 3), st.integers(1, 120))
def test_every_text_gets_the_answer_that_it_gets_alone(
    requests: list[list[str]], workers: int, batch_tokens: int
) -> None:
    async def body(batcher: Batcher) -> None:
        tickets = [batcher.submit(texts) for texts in requests]
        for ticket, texts in zip(tickets, requests, strict=True):
            await ticket.future
            check(ticket, texts)
        assert batcher.waiting() == 0

    bench = Bench()
    bench.run(body, workers=workers, batch_tokens=batch_tokens)
    ran = [length for batch in bench.scorer.batches for length in batch]
    assert sorted(ran) == sorted(len(t.split()) for texts in requests for t in texts)
    for batch in bench.scorer.batches:
        assert len(batch) == 1 or len(batch) * max(batch) <= batch_tokens
        assert batch == sorted(batch)


@patient
@given(requests, st.data())
def test_a_client_that_leaves_frees_its_places_and_harms_nobody(
    requests: list[list[str]], data: st.DataObject
) -> None:
    leaving = data.draw(st.sets(st.integers(0, len(requests) - 1)))
    bench = Bench()

    async def body(batcher: Batcher) -> None:
        bench.scorer.may_run.clear()
        tickets = [batcher.submit(texts) for texts in requests]
        for index in leaving:
            batcher.cancel(tickets[index])
            batcher.cancel(tickets[index])
        staying = [i for i in range(len(requests)) if i not in leaving]
        assert batcher.waiting() <= sum(len(requests[i]) for i in staying)
        bench.scorer.may_run.set()
        for index in staying:
            await tickets[index].future
            check(tickets[index], requests[index])
        assert batcher.waiting() == 0
        for index in leaving:
            assert tickets[index].future.cancelled()

    bench.run(body)


@patient
@given(requests, st.data())
def test_a_poisoned_text_fails_alone(requests: list[list[str]], data: st.DataObject) -> None:
    count = sum(map(len, requests))
    bad = data.draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=3))
    numbers = iter(range(count))
    sent = [
        [f"{text} {POISON}" if next(numbers) in bad else text for text in texts]
        for texts in requests
    ]

    async def body(batcher: Batcher) -> None:
        tickets = [batcher.submit(texts) for texts in sent]
        for ticket, texts in zip(tickets, sent, strict=True):
            await ticket.future
            for item, text in zip(ticket.items, texts, strict=True):
                if str(POISON) in text.split():
                    assert isinstance(item.error, InferenceFailed)
                else:
                    assert item.error is None
                    assert item.row is not None

    Bench().run(body, batch_tokens=200)


def test_scores_that_are_no_numbers_fail_alone(bench: Bench) -> None:
    good = bench.scorer.probabilities

    def probabilities(texts: Sequence[TokenizedText], *, alone: bool) -> FloatArray:
        rows = good(texts, alone=alone)
        rows[[text.ids == [5] for text in texts]] = np.nan
        return rows

    bench.scorer.probabilities = probabilities  # type: ignore[method-assign]

    async def body(batcher: Batcher) -> None:
        ticket = batcher.submit(["1", "5", "2"])
        await ticket.future
        assert [item.error is None for item in ticket.items] == [True, False, True]

    bench.run(body)


def test_a_text_that_the_tokenizer_refuses_fails_alone_with_its_reason(bench: Bench) -> None:
    async def body(batcher: Batcher) -> None:
        ticket = batcher.submit(["1", str(PICKY), "2"])
        await ticket.future
        failed = ticket.first_error()
        assert failed is not None
        assert failed[0] == 1
        assert isinstance(failed[1], InvalidInput)
        assert ticket.items[0].error is None
        assert ticket.items[2].error is None

    bench.run(body)


def test_a_text_without_tokens_is_the_callers_fault(bench: Bench) -> None:
    async def body(batcher: Batcher) -> None:
        ticket = batcher.submit(["1", " "])
        await ticket.future
        assert isinstance(ticket.items[1].error, InvalidInput)
        assert ticket.items[0].error is None

    bench.run(body)


def test_only_a_text_that_has_the_machine_for_itself_is_alone(bench: Bench) -> None:
    async def body(batcher: Batcher) -> None:
        for _ in range(3):
            await batcher.submit(["1 2"]).future
        await batcher.submit(["3", "4"]).future

    bench.run(body, workers=1)
    assert bench.scorer.batches == [[2], [2], [2], [1, 1]]
    assert bench.scorer.lone == [[2], [2], [2]]


def test_a_text_beside_another_is_not_alone(bench: Bench) -> None:
    async def body(batcher: Batcher) -> None:
        bench.scorer.may_run.clear()
        ticket = batcher.submit(["1", "2"])
        await all_taken(batcher)
        bench.scorer.may_run.set()
        await ticket.future

    bench.run(body, workers=2, batch_tokens=1)
    assert bench.scorer.batches == [[1], [1]]
    assert bench.scorer.lone == []


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(bench: Bench) -> None:
    async def body(batcher: Batcher) -> None:
        await batcher.submit(["1"] * 4).future
        bench.scorer.may_run.clear()
        taken = [batcher.submit(["1"])]
        await all_taken(batcher)
        taken += [batcher.submit(["1", "2", "3"]) for _ in range(3)]
        started = time.perf_counter()
        with pytest.raises(Overloaded) as refused:
            batcher.submit(["1", "2"])
        assert time.perf_counter() - started < 0.1
        assert refused.value.retry_after_s > 0
        taken.append(batcher.submit(["1"]))
        batcher.cancel(taken[1])
        taken.append(batcher.submit(["4", "5", "6"]))
        with pytest.raises(Overloaded):
            batcher.submit(["1"])
        bench.scorer.may_run.set()
        for ticket in taken:
            if ticket is not taken[1]:
                await ticket.future

    bench.run(body, workers=1, max_queue_items=10)


def test_a_probe_goes_first_even_when_the_queue_is_full(bench: Bench) -> None:
    async def body(batcher: Batcher) -> None:
        bench.scorer.may_run.clear()
        first = batcher.submit(["1"])
        await all_taken(batcher)
        rest = [batcher.submit(["2"] * 5), batcher.submit(["2"] * 5)]
        probe = batcher.submit(["3 3 3"], probe=True)
        bench.scorer.may_run.set()
        for ticket in (first, probe, *rest):
            await ticket.future
        assert bench.scorer.batches[1][-1] == 3

    bench.run(body, workers=1, max_queue_items=10, batch_tokens=6)


def test_the_oldest_text_is_in_the_next_batch(bench: Bench) -> None:
    async def body(batcher: Batcher) -> None:
        bench.scorer.may_run.clear()
        first = batcher.submit(["1"])
        await all_taken(batcher)
        long = batcher.submit(["1 " * 20])
        short = [batcher.submit(["2"]) for _ in range(50)]
        bench.scorer.may_run.set()
        for ticket in (first, long, *short):
            await ticket.future
        assert 20 in bench.scorer.batches[1]

    bench.run(body, workers=1, batch_tokens=10)


def test_what_waits_is_shared_among_idle_workers(bench: Bench) -> None:
    async def body(batcher: Batcher) -> None:
        await asyncio.sleep(0.05)
        bench.scorer.may_run.clear()
        ticket = batcher.submit(["1"] * 8)
        await asyncio.sleep(0.1)
        assert batcher.waiting() == 0  # both workers hold four
        bench.scorer.may_run.set()
        await ticket.future
        assert [len(batch) for batch in bench.scorer.batches] == [4, 4]

    bench.run(body, workers=2, batch_tokens=1000)


def test_closing_finishes_what_is_queued_and_refuses_the_rest(bench: Bench) -> None:
    async def body(batcher: Batcher) -> None:
        bench.scorer.may_run.clear()
        tickets = [batcher.submit(["1", "2"]) for _ in range(20)]
        closing = asyncio.create_task(asyncio.to_thread(batcher.close))
        await asyncio.sleep(0.02)
        with pytest.raises(BatcherClosed):
            batcher.submit(["1"])
        bench.scorer.may_run.set()
        await closing
        for ticket in tickets:
            await ticket.future
            check(ticket, ["1", "2"])

    bench.run(body)


def test_a_hung_engine_is_noticed_and_an_idle_one_is_not(bench: Bench) -> None:
    async def body(batcher: Batcher) -> None:
        await asyncio.sleep(0.2)
        assert not batcher.stalled(0.1)
        bench.scorer.may_run.clear()
        ticket = batcher.submit(["1"])
        assert not batcher.stalled(0.1)
        await asyncio.sleep(0.2)
        assert batcher.stalled(0.1)
        bench.scorer.may_run.set()
        await ticket.future
        await asyncio.sleep(0.05)  # the worker ends its turn after it has delivered
        assert not batcher.stalled(0.1)

    bench.run(body)


def test_an_idle_batcher_uses_no_processor_time(bench: Bench) -> None:
    async def body(batcher: Batcher) -> None:
        await batcher.submit(["1"]).future
        before = time.process_time()
        await asyncio.sleep(1.0)
        assert time.process_time() - before < 0.05

    bench.run(body)


def test_many_requests_at_many_moments(bench: Bench) -> None:
    """A soak of two seconds: submitting, leaving and waiting from many tasks at once."""
    generator = np.random.default_rng(5)

    async def client(batcher: Batcher, until: float) -> int:
        answered = 0
        while time.monotonic() < until:
            size = int(generator.integers(1, 6))
            texts = [
                " ".join(map(str, generator.integers(1, 12, int(generator.integers(1, 30)))))
                for _ in range(size)
            ]
            ticket = batcher.submit(texts)
            if generator.random() < 0.2:
                await asyncio.sleep(float(generator.random()) * 0.002)
                batcher.cancel(ticket)
                continue
            await ticket.future
            check(ticket, texts)
            answered += 1
        return answered

    async def body(batcher: Batcher) -> None:
        until = time.monotonic() + 2
        answered = await asyncio.gather(*[client(batcher, until) for _ in range(20)])
        assert min(answered) > 0
        assert batcher.waiting() == 0

    bench.run(body, workers=3)
