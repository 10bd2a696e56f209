"""Whose turn it is among those who wait, and when it is worth asking again."""

import random
from collections.abc import Iterable

import pytest

from hone.models.decoding.admission import Pace
from hone.models.decoding.generations import Generation, GenerationRequest, Stage
from hone.models.decoding.voices import Voice
from hone.models.decoding.waiting import WaitingRoom
from hone.models.errors import Overloaded
from tests.models.decoding.running import character_tokenizer, request

SLOTS = 16
VOICE = Voice(character_tokenizer(), None)


def generations(asked: GenerationRequest, voice: Voice = VOICE) -> list[Generation]:
    found: list[Generation] = []
    for choice in range(asked.choices):
        found.append(Generation(asked, voice, choice, found[0] if found else None))
    return found


def admit(room: WaitingRoom, holders: list[Generation], slots: int) -> list[Generation]:
    """Fill the free slots, and let all who got one run; return who came in, in order."""
    came = []
    while len(holders) < slots and (found := room.next(holders)) is not None:
        room.leave(found)
        found.stage = Stage.RUNNING
        holders.append(found)
        came.append(found)
    return came


def refused_for(room: WaitingRoom) -> float:
    """Fill the room; return for how long the one too many is sent away."""
    while True:
        try:
            room.enter(generations(request([1] * 3, 450, choices=4)))
        except Overloaded as refused:
            return refused.retry_after_s


def test_the_time_to_ask_again_is_that_of_full_slots() -> None:
    """As measured: 1,390 tokens a second with 16 slots, after slow turns of few streams."""
    room = WaitingRoom(52_000, SLOTS)
    for _ in range(2000):
        room.learn(1, 1 / 190, 1)  # one stream
        room.learn(1, 1 / 20, 1)  # one with many log-probabilities
    for _ in range(40):
        room.learn(SLOTS, SLOTS / 1390, SLOTS)
    room.learn(1, 1 / 190, 1)
    assert refused_for(room) == pytest.approx(52_000 / 1390, rel=0.05)


@pytest.mark.parametrize("growth", [1.3, 2, 4, 7])
def test_before_slots_were_ever_full_their_pace_is_guessed(growth: float) -> None:
    """The first flood comes after lone streams: sixteen do from 1.3 to 7 times one's tokens."""
    pace = Pace(SLOTS)
    assert pace.seconds(1000) == 0
    for _ in range(100):
        pace.learn(1, 0.005, 1)
    truth = 50_000 * 0.005 / growth
    assert truth / 3.2 < pace.seconds(50_000) < truth * 3.2
    pace.learn(SLOTS, SLOTS * 0.005 / growth, SLOTS)
    assert pace.seconds(50_000) == pytest.approx(truth)


@pytest.mark.parametrize("seed", range(5))
def test_turns_that_take_unequally_long_count_by_their_time(seed: int) -> None:
    """The mean of the turns' speeds would be another number than tokens by time."""
    noise, pace = random.Random(seed), Pace(SLOTS)
    clock, work = 0.0, 0
    for _ in range(6000):
        tokens = noise.choice([SLOTS, SLOTS, SLOTS + 64])
        seconds = noise.choice([0.004, 0.008, 0.05])
        pace.learn(tokens, seconds, SLOTS)
        clock, work = clock + seconds, work + tokens
    assert pace.seconds(10_000) == pytest.approx(10_000 * clock / work, rel=0.2)


def test_a_change_of_pace_is_learnt_within_a_minute() -> None:
    pace = Pace(SLOTS)
    for seconds in [0.01] * 6000 + [0.04] * 750:  # a minute at one speed, half a one at another
        pace.learn(SLOTS, seconds, SLOTS)
    assert pace.seconds(SLOTS) == pytest.approx(0.04, rel=0.05)


def test_nobody_is_sent_away_for_longer_than_clients_wait() -> None:
    room = WaitingRoom(1_000_000, SLOTS)
    room.learn(1, 1.0, SLOTS)
    assert refused_for(room) == 60


def test_a_request_of_many_choices_does_not_stand_before_anothers_first() -> None:
    room, holders = WaitingRoom(1_000_000, SLOTS), list[Generation]()
    for _ in range(16):
        room.enter(generations(request([1], 100, choices=8)))
    admit(room, holders, SLOTS)
    assert len({id(generation.request) for generation in holders}) == 16
    [short] = late = generations(request([1], 1))
    room.enter(late)
    freed = 0
    while short in room:
        holders.pop(freed % 7)
        admit(room, holders, SLOTS)
        freed += 1
    assert freed == 17  # a slot for each that was there before, and its own


def test_requests_take_turns_and_each_gets_on() -> None:
    """However many short ones come, a large one gets its share, and its choices come in order."""
    room, holders = WaitingRoom(1_000_000, SLOTS), list[Generation]()
    large = generations(request([1], 100, choices=8))
    room.enter(large)
    begun = admit(room, holders, 4)
    assert begun == large[:4]
    for _ in range(200):
        room.enter(generations(request([1], 1)))
        holders.pop(0)
        begun += admit(room, holders, 4)
    assert [generation for generation in begun if generation in large] == large
    assert begun.index(large[-1]) < 20


def test_who_has_left_leaves_no_trace() -> None:
    room = WaitingRoom(1_000_000, SLOTS)
    for _ in range(3):
        asked = generations(request([1], 10, choices=3))
        room.enter(asked)
        for generation in asked:
            room.leave(generation)
    assert not room._turns
    assert len(room) == 0


def test_prompts_of_one_sender_are_one_request() -> None:
    room, holders = WaitingRoom(1_000_000, SLOTS), list[Generation]()
    sender = object()
    for _ in range(6):
        room.enter(generations(request([1], 10, sender=sender)))
    admit(room, holders, 3)
    [other] = others = generations(request([1], 10, sender=object()))
    room.enter(others)
    del holders[:2]
    assert admit(room, holders, 3)[1] == other


def test_choices_wait_until_the_first_has_read_the_prompt() -> None:
    room = WaitingRoom(1_000_000, SLOTS)
    leader, *others = generations(request([1], 10, choices=3))
    room.enter([leader, *others])
    assert room.next([]) is leader
    room.leave(leader)
    leader.stage = Stage.READING
    assert room.next([leader]) is None
    leader.stage = Stage.RUNNING
    assert room.next([leader]) is others[0]


def order(room: WaitingRoom, holders: Iterable[Generation]) -> list[Generation]:
    found, held = [], list(holders)
    while (one := room.next(held)) is not None:
        room.leave(one)
        found.append(one)
    return found


def test_among_equals_the_oldest_comes_first() -> None:
    room = WaitingRoom(1_000_000, SLOTS)
    asked = [generations(request([1], 10))[0] for _ in range(5)]
    for one in asked:
        room.enter([one])
    assert order(room, []) == asked
