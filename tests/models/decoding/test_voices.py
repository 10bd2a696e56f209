"""Several models through one scheduler: each speaks as itself, and none stands in another's way."""

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from hone.models.decoding.adapters import AdapterWeights
from hone.models.decoding.admission import Pace
from hone.models.decoding.fake import UNFITTING_RANK, FakeDecoder
from hone.models.decoding.generations import Generation, Update
from hone.models.decoding.prefixes import BLOCK_TOKENS, PrefixStore
from hone.models.decoding.scheduler import Scheduler, SchedulerClosed
from hone.models.decoding.voices import Voice
from hone.models.errors import BundleCorrupt, Overloaded
from tests.models.decoding.running import (
    Gate,
    Listener,
    character_tokenizer,
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
    return FakeDecoder(V, slots=4, longest=512, before_run=gate)


@pytest.fixture
def scheduler(engine: FakeDecoder, listener: Listener, gate: Gate) -> Iterator[Scheduler]:
    made = scheduler_over(engine, listener, prefixes=PrefixStore(1 << 20), most_waiting_tokens=100)
    yield made
    gate.open()
    made.close(timeout_s=30)


def enter(scheduler: Scheduler, rank: int = 8) -> Voice:
    return scheduler.enter(character_tokenizer(), None, AdapterWeights(rank, {}))


def expected(engine: FakeDecoder, voice: Voice | None, prompt: list[int], count: int) -> list[int]:
    ids = list(prompt)
    for _ in range(count):
        ids.append(engine.favoured(ids, voice.adapter if voice else 0))
    return ids[len(prompt) :]


def test_each_voice_says_its_own_whoever_shares_its_steps(
    engine: FakeDecoder, listener: Listener
) -> None:
    scheduler = scheduler_over(engine, listener, prefixes=PrefixStore(4 * BLOCK_TOKENS * 40))
    voices = [None, *(enter(scheduler) for _ in range(5))]
    random = np.random.default_rng(0)
    shared = random.integers(0, V, 60).tolist()
    asked = [
        (voices[n % 6], shared[: n % 4 * 20] + random.integers(0, V, 1 + n).tolist(), 3 + n % 19)
        for n in range(48)
    ]
    begun = [scheduler.submit(request(prompt, count), voice)[0] for voice, prompt, count in asked]
    listener.wait_for(begun)
    scheduler.close(timeout_s=30)
    for generation, (voice, prompt, count) in zip(begun, asked, strict=True):
        assert listener.ids(generation) == expected(engine, voice, prompt, count)


def test_what_one_adapter_read_of_a_prompt_is_not_anothers(
    scheduler: Scheduler, engine: FakeDecoder, listener: Listener
) -> None:
    one, other = enter(scheduler), enter(scheduler)
    prompt = [5] * 40
    for voice, reused in ((one, 0), (other, 0), (None, 0), (one, 32), (other, 32), (None, 32)):
        [generation] = scheduler.submit(request(prompt, 5), voice)
        listener.wait_for([generation])
        assert generation.reused == reused
        assert listener.ids(generation) == expected(engine, voice, prompt, 5)


def test_one_leaves_when_it_has_finished_and_the_others_go_on(
    scheduler: Scheduler, engine: FakeDecoder, listener: Listener, gate: Gate
) -> None:
    going, staying = enter(scheduler), enter(scheduler)
    gate.hold()
    begun = [scheduler.submit(request([n], 20), v)[0] for n, v in enumerate((going, staying))]
    leaver = threading.Thread(target=scheduler.leave, args=[going], kwargs={"timeout_s": 60})
    leaver.start()
    while not going.leaving:
        time.sleep(0.001)
    with pytest.raises(SchedulerClosed):
        scheduler.submit(request([1], 1), going)
    assert going.adapter in engine.adapters, "it has not finished"
    gate.open()
    leaver.join(60)
    assert engine.adapters == {staying.adapter}
    listener.wait_for(begun)
    for generation, voice in zip(begun, (going, staying), strict=True):
        prompt = list(generation.request.prompt)
        assert listener.ids(generation) == expected(engine, voice, prompt, 20)
    [more] = scheduler.submit(request([9], 5), staying)
    listener.wait_for([more])
    assert listener.ids(more) == expected(engine, staying, [9], 5)


def test_who_does_not_finish_in_time_is_told_and_the_others_go_on(
    engine: FakeDecoder, listener: Listener, gate: Gate
) -> None:
    scheduler = scheduler_over(engine, listener, most_waiting_tokens=10_000)
    going, staying = enter(scheduler), enter(scheduler)
    gate.hold()
    long = [scheduler.submit(request([1], 500), going)[0] for _ in range(6)]
    [other] = scheduler.submit(request([2], 30), staying)
    leaver = threading.Thread(target=scheduler.leave, args=[going], kwargs={"timeout_s": 0.1})
    leaver.start()
    while leaver.is_alive() and going.adapter in engine.adapters:
        gate.allow()
        time.sleep(0.001)
    gate.open()
    leaver.join(60)
    ends = listener.wait_for([*long, other])
    assert all(isinstance(end.error, SchedulerClosed) for end in ends[:-1])
    assert ends[-1].finish == "length"
    assert listener.ids(other) == expected(engine, staying, [2], 30)
    assert engine.adapters == {staying.adapter}
    scheduler.close(timeout_s=30)
    assert scheduler.running() == scheduler.waiting() == 0


def test_cancelled_sequences_do_not_keep_a_voice_from_leaving(
    scheduler: Scheduler, engine: FakeDecoder, listener: Listener, gate: Gate
) -> None:
    voice = enter(scheduler)
    gate.hold()
    begun = [scheduler.submit(request([1], 10), voice)[0] for _ in range(8)]
    for generation in begun:
        scheduler.cancel(generation)
    gate.open()
    scheduler.leave(voice, timeout_s=60)
    assert not engine.adapters
    assert voice.open == 0
    assert not any(generation in listener.ended for generation in begun)


def test_a_flood_for_one_model_is_refused_there_and_keeps_nobody_from_another(
    scheduler: Scheduler, engine: FakeDecoder, listener: Listener, gate: Gate
) -> None:
    loud, quiet = enter(scheduler), enter(scheduler)
    gate.hold()
    flood = [scheduler.submit(request([1], 20), loud)[0] for _ in range(4)]
    while scheduler.running(loud) < 4:  # all slots are taken
        gate.wait()
        gate.allow()
    gate.wait()
    flood += [scheduler.submit(request([1], 20), loud)[0] for _ in range(4)]
    with pytest.raises(Overloaded):
        scheduler.submit(request([1], 20), loud)
    [late] = scheduler.submit(request([2], 2), quiet)
    assert scheduler.waiting(quiet) == 1
    assert scheduler.waiting(loud) == len(flood) - 4
    gate.open()
    listener.wait_for([late, *flood])
    ends = list(listener.ended)
    assert ends.index(late) <= 5, "it had the first slot that was free"
    assert listener.ids(late) == expected(engine, quiet, [2], 2)


def test_an_adapter_that_does_not_fit_is_refused_and_nothing_changes(
    scheduler: Scheduler, engine: FakeDecoder, listener: Listener
) -> None:
    voice = enter(scheduler)
    with pytest.raises(BundleCorrupt):
        enter(scheduler, UNFITTING_RANK)
    [generation] = scheduler.submit(request([3], 5), voice)
    listener.wait_for([generation])
    assert listener.ids(generation) == expected(engine, voice, [3], 5)


def test_after_the_end_nobody_enters_and_leaving_is_no_error(
    engine: FakeDecoder, listener: Listener
) -> None:
    scheduler = scheduler_over(engine, listener)
    voice = enter(scheduler)
    scheduler.close(timeout_s=30)
    scheduler.leave(voice, timeout_s=30)
    with pytest.raises(SchedulerClosed):
        enter(scheduler)


def test_a_new_voice_may_ask_while_a_turn_is_noted(
    scheduler: Scheduler, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = enter(scheduler), enter(scheduler)
    begun: list[Generation] = []
    asking = threading.Thread(
        target=lambda: begun.extend(scheduler.submit(request([7], 3), second)), daemon=True
    )
    learn = Pace.learn

    def learn_while_another_comes(pace: Pace, tokens: int, seconds: float, taken: int) -> None:
        monkeypatch.setattr(Pace, "learn", learn)
        asking.start()
        asking.join(0.2)  # it comes in between if it can
        learn(pace, tokens, seconds, taken)

    monkeypatch.setattr(Pace, "learn", learn_while_another_comes)
    asked = scheduler.submit(request([5], 3), first)
    assert [update.error for update in listener.wait_for(asked)] == [None]
    asking.join(60)
    scheduler.leave(second, timeout_s=30)  # after what it began
    assert [listener.ended[generation].error for generation in begun] == [None]
    assert len(begun) == 1


def test_nobody_waits_for_a_scheduler_that_failed(engine: FakeDecoder, gate: Gate) -> None:
    def deliver(_: list[Update]) -> None:
        raise OSError("nobody hears")

    scheduler = Scheduler(engine, character_tokenizer(), deliver=deliver)
    voice = enter(scheduler)
    gate.hold()
    scheduler.submit(request([5], 3), voice)
    gate.wait()
    errors: list[BaseException] = []

    def come() -> None:
        try:
            enter(scheduler)
        except SchedulerClosed as error:
            errors.append(error)

    waiting = [threading.Thread(target=come, daemon=True) for _ in range(3)]
    for thread in waiting:
        thread.start()
    while len(scheduler._errands) < len(waiting):
        time.sleep(0.001)
    gate.open()
    for thread in waiting:
        thread.join(30)
    assert len(errors) == len(waiting)
    with pytest.raises(SchedulerClosed):
        scheduler.submit(request([5], 3), voice)
    with pytest.raises(SchedulerClosed):
        enter(scheduler)
    assert not scheduler.running()
    scheduler.leave(voice, timeout_s=30)
    scheduler.close(timeout_s=30)
