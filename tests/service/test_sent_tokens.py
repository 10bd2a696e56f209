"""What clients send beside their texts: counted exactly, once, and never without bound."""

import asyncio
import threading
import time
from collections.abc import Sequence

import pytest

from hone.models.savings import estimate_tokens
from hone.service import savings
from hone.service.savings import COUNTED_CHARACTERS, SentTokens


class Words:
    """A token counter that keeps what it was asked, and how many asked at once."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.asked: list[str] = []
        self.most_at_once = 0
        self._seconds = seconds
        self._now = 0
        self._lock = threading.Lock()

    def __call__(self, text: str) -> int:
        with self._lock:
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            self.asked.append(text)
        time.sleep(self._seconds)
        with self._lock:
            self._now -= 1
        return len(text.split())


def totals(words: Words, *requests: Sequence[str], at_once: bool = False) -> list[int]:
    """Return the total of each request, one after the other unless `at_once`."""

    async def main() -> list[int]:
        sent = SentTokens(words)
        if at_once:
            return list(await asyncio.gather(*[sent.total(request) for request in requests]))
        return [await sent.total(request) for request in requests]

    return asyncio.run(main())


def test_each_text_counts_and_each_is_counted_once() -> None:
    words = Words()
    assert totals(words, ["say it", "", "say it", "or not to say"], ["say it"]) == [8, 2]
    assert sorted(words.asked) == ["or not to say", "say it"]


def test_an_instruction_that_is_used_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(savings, "_REMEMBERED", 3)
    words = Words()
    totals(words, *[[text] for number in range(9) for text in ("hot", f"cold {number}")])
    assert words.asked.count("hot") == 1
    totals(words, ["a"], ["b"], ["c"], ["d"], ["a"])
    assert words.asked.count("a") == 2


def test_what_is_too_long_to_count_is_estimated_each_time() -> None:
    words = Words()
    long = "a bc " * COUNTED_CHARACTERS
    assert totals(words, [long], [long, "say it"]) == [
        estimate_tokens(long), estimate_tokens(long) + 2
    ]  # fmt: skip
    assert words.asked == ["say it"]


def test_a_request_is_counted_up_to_the_bound_the_shortest_first() -> None:
    words = Words()
    texts = [f"{number:03} " * (COUNTED_CHARACTERS // 16) for number in range(9)]
    (total,) = totals(words, [*texts, "say it"])
    counted = (COUNTED_CHARACTERS - len("say it")) // len(texts[0])
    assert len(words.asked) == 1 + counted
    each = len(texts[0].split())
    assert total == 2 + counted * each + (9 - counted) * estimate_tokens(texts[0])


def test_requests_are_counted_one_at_a_time_and_for_each_other() -> None:
    words = Words(seconds=0.02)
    requests = [[f"text number {number % 5}"] for number in range(20)]
    assert totals(words, *requests, at_once=True) == [3] * 20
    assert words.most_at_once == 1
    assert len(words.asked) == 5


def test_what_is_remembered_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        sent = SentTokens(len)
        for number in range(50):
            await sent.total([f"{number} " * 1000])
        assert len(sent._known) == 20
        assert {len(key) for key in sent._known} == {16}

    monkeypatch.setattr(savings, "_REMEMBERED", 20)
    asyncio.run(main())
