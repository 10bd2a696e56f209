"""Many sequences at once: each says what it would say alone, whoever comes, leaves or fails."""

import itertools
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from hone.models.decoding.fake import FakeDecoder
from hone.models.decoding.generations import Generation
from hone.models.decoding.prefixes import PrefixStore
from hone.models.decoding.sampling import SamplingParameters
from hone.models.decoding.scheduler import Scheduler, SchedulerClosed
from hone.models.decoding.turns import PIECE_TOKENS, GenerationFailed
from hone.models.errors import InvalidInput, Overloaded
from tests.models.decoding.running import (
    Gate,
    Listener,
    expected_ids,
    request,
    scheduler_over,
)

V = 95


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def engine(gate: Gate) -> FakeDecoder:
    return FakeDecoder(V, slots=4, longest=512, poison=94, before_run=gate)


@pytest.fixture
def scheduler(engine: FakeDecoder, listener: Listener, gate: Gate) -> Iterator[Scheduler]:
    made = scheduler_over(engine, listener)
    yield made
    gate.open()
    made.close(timeout_s=30)


def test_one_sequence_gets_the_tokens_of_its_prompt(
    scheduler: Scheduler, engine: FakeDecoder, listener: Listener
) -> None:
    [generation] = scheduler.submit(request([3, 1, 4], 10))
    [last] = listener.wait_for([generation])
    assert listener.ids(generation) == expected_ids(engine, [3, 1, 4], 10)
    assert last.finish == "length"
    assert len(listener.text(generation)) == 10


@pytest.mark.parametrize("with_prefixes", [False, True])
def test_many_more_than_slots_each_say_what_they_would_alone(
    engine: FakeDecoder, listener: Listener, *, with_prefixes: bool
) -> None:
    random = np.random.default_rng(0)
    prefixes = PrefixStore(4 * 16 * 40) if with_prefixes else None
    scheduler = scheduler_over(engine, listener, prefixes=prefixes)
    shared = random.integers(0, 94, 100).tolist()
    asked = []
    for number in range(40):
        own = random.integers(0, 94, int(random.integers(1, 150))).tolist()
        prompt = shared[: number % 3 * 40] + own
        asked.append((prompt, int(random.integers(1, 30))))
    generations = [scheduler.submit(request(p, n))[0] for p, n in asked]
    listener.wait_for(generations)
    scheduler.close(timeout_s=30)
    for generation, (prompt, count) in zip(generations, asked, strict=True):
        # Id 94 is poison here: whoever says it fails there, and until then says the same.
        said = expected_ids(engine, prompt, count)
        cut = said.index(94) + 1 if 94 in said[:-1] else count
        assert listener.ids(generation) == said[:cut]
    if prefixes:
        assert prefixes.hits
        assert prefixes.bytes <= 4 * 16 * 40


def test_choices_of_one_request_read_its_prompt_once(listener: Listener) -> None:
    engine = FakeDecoder(V, slots=4, longest=512)
    scheduler = scheduler_over(engine, listener, prefixes=PrefixStore(1 << 20))
    prompt = [5] * 161
    sampling = SamplingParameters(seed=7)
    generations = scheduler.submit(request(prompt, 5, choices=3, sampling=sampling))
    listener.wait_for(generations)
    scheduler.close(timeout_s=30)
    assert [generation.reused for generation in generations] == [0, 160, 160]
    assert sum(amount for kind, amount in engine.runs if kind == "prefill") == 161 + 1 + 1
    assert len({tuple(listener.ids(generation)) for generation in generations}) == 3


def test_who_comes_while_others_decode_starts_after_the_step_in_progress(
    scheduler: Scheduler, engine: FakeDecoder, listener: Listener, gate: Gate
) -> None:
    gate.hold()
    running = [scheduler.submit(request([i], 40))[0] for i in (1, 2, 3)]
    gate.wait()
    while engine.runs[-2:] != [("step", 3)] * 2:
        gate.allow()
        gate.wait()  # and so a step of all three is in progress
    before = len(engine.runs)
    [late] = scheduler.submit(request([7, 7, 7], 1))
    gate.open()
    listener.wait_for([late, *running])
    assert engine.runs[before : before + 2] == [("step", 3), ("prefill", 3)]
    assert listener.ids(late) == expected_ids(engine, [7, 7, 7], 1)


def test_a_long_prompt_is_read_in_pieces_between_the_steps_of_others(
    scheduler: Scheduler, engine: FakeDecoder, listener: Listener, gate: Gate
) -> None:
    gate.hold()
    scheduler.submit(request([1], 450))
    gate.wait()
    gate.allow()  # its prompt is read
    gate.wait()
    [long] = scheduler.submit(request([2] * 300, 2))
    gate.open()
    listener.wait_for([long])
    runs = engine.runs
    pieces = [place for place, (kind, _) in enumerate(runs) if kind == "prefill"][1:]
    assert all(runs[place][1] <= PIECE_TOKENS for place in pieces)
    assert len(pieces) >= 300 // PIECE_TOKENS
    assert all(("step", 1) in runs[a:b] for a, b in itertools.pairwise(pieces))


def test_a_short_prompt_passes_a_long_one_that_is_being_read(
    listener: Listener, gate: Gate
) -> None:
    engine = FakeDecoder(V, slots=4, longest=8192, before_run=gate)
    scheduler = scheduler_over(engine, listener)
    gate.hold()
    [long] = scheduler.submit(request([1] * 8000, 1))
    gate.wait()
    [short] = scheduler.submit(request([2], 1))
    gate.open()
    listener.wait_for([long, short])
    scheduler.close(timeout_s=30)
    assert [update.generation for update in listener.updates if update.last] == [short, long]


def test_a_cancelled_sequence_frees_its_slot_at_the_next_turn(
    scheduler: Scheduler, listener: Listener, gate: Gate
) -> None:
    gate.hold()
    held = [scheduler.submit(request([i], 400))[0] for i in range(4)]
    while scheduler.running() < 4:
        gate.wait()
        gate.allow()
    gate.wait()
    [waiting] = scheduler.submit(request([9], 3))
    assert scheduler.waiting() == 1
    scheduler.cancel(held[1])
    gate.open()
    listener.wait_for([waiting])
    told = len(listener.ids(held[1]))
    assert held[1] not in listener.ended
    listener.wait_for([held[0], held[2], held[3]])
    assert len(listener.ids(held[1])) == told


def test_a_cancelled_sequence_that_waits_is_never_begun(
    scheduler: Scheduler, engine: FakeDecoder, listener: Listener, gate: Gate
) -> None:
    gate.hold()
    held = [scheduler.submit(request([i], 100))[0] for i in range(4)]
    while scheduler.running() < 4:
        gate.wait()
        gate.allow()
    gate.wait()
    [waiting] = scheduler.submit(request([5] * 33, 3))
    scheduler.cancel(waiting)
    assert scheduler.waiting() == 0
    gate.open()
    listener.wait_for(held)
    assert waiting not in listener.ended
    assert ("prefill", 33) not in engine.runs


def test_a_poisoned_sequence_fails_alone(
    scheduler: Scheduler, engine: FakeDecoder, listener: Listener
) -> None:
    # The bias makes the second sequence choose the poison, which breaks the step it is in.
    poisoned = SamplingParameters(temperature=0, logit_bias={94: 100.0})
    healthy = [scheduler.submit(request([i, 5], 60))[0] for i in (1, 2)]
    [sick] = scheduler.submit(request([3], 60, sampling=poisoned))
    *good, bad = listener.wait_for([*healthy, sick])
    assert isinstance(bad.error, GenerationFailed)
    assert listener.ids(sick) == [94]
    for generation, last in zip(healthy, good, strict=True):
        said = expected_ids(engine, generation.request.prompt, 60)
        assert 94 not in said[:-1]
        assert last.finish == "length"
        assert listener.ids(generation) == said


def test_a_poisoned_prompt_fails_alone(scheduler: Scheduler, listener: Listener) -> None:
    [healthy] = scheduler.submit(request([1, 5], 30))
    [sick] = scheduler.submit(request([94], 3))
    good, bad = listener.wait_for([healthy, sick])
    assert good.finish == "length"
    assert bad.error is not None
    assert "poison" not in str(bad.error)


def test_too_much_waiting_is_refused_and_counts_tokens(listener: Listener, gate: Gate) -> None:
    engine = FakeDecoder(V, slots=1, longest=512, before_run=gate)
    scheduler = scheduler_over(engine, listener, most_waiting_tokens=100)
    gate.hold()
    [first] = scheduler.submit(request([1], 400))  # nothing waits: any request fits
    gate.wait()
    [second] = scheduler.submit(request([1] * 50, 40))
    with pytest.raises(Overloaded) as refused:
        scheduler.submit(request([1], 40))
    assert refused.value.retry_after_s > 0
    scheduler.cancel(second)
    [third] = scheduler.submit(request([1], 40))
    scheduler.cancel(first)
    gate.open()
    listener.wait_for([third])
    scheduler.close(timeout_s=30)


@pytest.mark.parametrize(
    ("prompt", "max_tokens"), [([], 1), ([1] * 512, 1), ([1] * 500, 13), ([95], 1), ([-1], 1)]
)
def test_what_does_not_fit_is_refused(
    scheduler: Scheduler, prompt: list[int], max_tokens: int
) -> None:
    with pytest.raises(InvalidInput):
        scheduler.submit(request(prompt, max_tokens))


def test_a_slot_can_be_filled_to_its_last_place(
    scheduler: Scheduler, engine: FakeDecoder, listener: Listener
) -> None:
    [generation] = scheduler.submit(request([3] * 500, 12))
    listener.wait_for([generation])
    assert listener.ids(generation) == expected_ids(engine, [3] * 500, 12)


def test_closing_finishes_what_there_is_and_refuses_more(
    engine: FakeDecoder, listener: Listener
) -> None:
    scheduler = scheduler_over(engine, listener)
    generations = [scheduler.submit(request([i], 20))[0] for i in range(9)]
    scheduler.close(timeout_s=30)
    assert {listener.ended[g].finish for g in generations} == {"length"}
    with pytest.raises(SchedulerClosed):
        scheduler.submit(request([1]))


def test_closing_in_vain_tells_who_is_left(
    engine: FakeDecoder, listener: Listener, gate: Gate
) -> None:
    scheduler = scheduler_over(engine, listener)
    gate.hold()
    [running] = scheduler.submit(request([1], 500))
    gate.wait()
    closer = threading.Thread(target=scheduler.close, kwargs={"timeout_s": 0.05})
    closer.start()
    closer.join()
    gate.allow()  # the prompt is read
    gate.allow()  # and the same turn's step
    [last] = listener.wait_for([running])
    assert isinstance(last.error, SchedulerClosed)


def test_an_idle_scheduler_takes_no_turns(scheduler: Scheduler, listener: Listener) -> None:
    [generation] = scheduler.submit(request([1], 5))
    listener.wait_for([generation])
    turns = scheduler.turns
    time.sleep(0.05)
    assert scheduler.turns == turns
    assert not scheduler.stalled(0.01)


def test_a_scheduler_whose_engine_hangs_is_stalled(
    scheduler: Scheduler, listener: Listener, gate: Gate
) -> None:
    gate.hold()
    scheduler.submit(request([1], 5))
    gate.wait()
    time.sleep(0.03)
    assert scheduler.stalled(0.02)
    gate.open()


def test_a_prompt_alone_can_be_scored(
    scheduler: Scheduler, engine: FakeDecoder, listener: Listener
) -> None:
    prompt = [*range(1, 90)] * 3
    [generation] = scheduler.submit(request(prompt, 0, prompt_logprobs=2))
    [last] = listener.wait_for([generation])
    assert last.finish == "length"
    assert len(generation.prompt_logprobs) == len(prompt) - 1
    for place, found in enumerate(generation.prompt_logprobs, start=1):
        best = engine.favoured(prompt[:place])
        assert found.top[0][0] == best
        assert (found.logprob == found.top[0][1]) == (prompt[place] == best)


def test_a_seed_gives_the_same_tokens_whatever_else_runs(listener: Listener) -> None:
    def said(seed: int, others: int) -> list[int]:
        engine = FakeDecoder(V, slots=4, longest=256)
        scheduler = scheduler_over(engine, listener)
        noise: list[Generation] = []
        for i in range(others):
            noise += scheduler.submit(request([i], 20, sampling=SamplingParameters()))
        sampling = SamplingParameters(seed=seed, top_p=0.99)
        [generation] = scheduler.submit(request([1, 2], 30, sampling=sampling))
        listener.wait_for([generation, *noise])
        scheduler.close(timeout_s=30)
        return listener.ids(generation)

    assert said(5, 0) == said(5, 7)
    assert said(5, 0) != said(6, 0)
