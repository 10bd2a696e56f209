"""How much may wait: counted in tokens, as a long prompt costs what many short ones do."""

import math
from collections.abc import Sequence

from hone.models.decoding.generations import Generation
from hone.models.errors import Overloaded

_HALF_LIFE_S = 5.0
_SHORTEST_RETRY_S = 0.05
_LONGEST_RETRY_S = 60.0
"""Clients of the API take no notice of a longer one, and ask again at once."""


class Pace:
    """How fast a decoder gets through tokens when its slots are full. Not thread-safe.

    A lone stream, or a few, tell little of that: a step for sixteen takes hardly longer than one
    for four. So only turns count with as many slots taken as there ever were; who waits has full
    slots before it. Of those, tokens and time are added up, and what is past fades.

    Until all of the `slots` were taken once, the speed is guessed to grow with the root of their
    number: sixteen streams did from 1.3 times (int4) to 7 times (fp32) the tokens of one.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._taken = 0
        self._tokens = self._seconds = 0.0

    def learn(self, tokens: int, seconds: float, taken: int) -> None:
        """Note a turn: the tokens that were read or chosen, its time, and the slots taken."""
        if taken < self._taken or not tokens:
            return
        if taken > self._taken:
            self._taken, self._tokens, self._seconds = taken, 0.0, 0.0
        fading = 0.5 ** (seconds / _HALF_LIFE_S)
        self._tokens = self._tokens * fading + tokens
        self._seconds = self._seconds * fading + seconds

    def seconds(self, tokens: int) -> float:
        """Return how long so many tokens will take; 0 while nothing is known."""
        if not self._tokens:
            return 0.0
        return tokens * self._seconds / self._tokens * math.sqrt(self._taken / self._slots)


class Admission:
    """Counts the tokens that those who wait may cost, prompt and answer. Not thread-safe."""

    def __init__(self, most_waiting_tokens: int, pace: Pace) -> None:
        self._most = most_waiting_tokens
        self._pace = pace
        self._waiting = 0

    @property
    def waiting_tokens(self) -> int:
        """How many tokens those who wait may cost."""
        return self._waiting

    def enter(self, generations: Sequence[Generation]) -> None:
        """Count them, or raise Overloaded. Where nothing waits, any request fits."""
        cost = sum(generation.estimate for generation in generations)
        if self._waiting and self._waiting + cost > self._most:
            wait_s = self._pace.seconds(self._waiting)
            retry_after_s = min(max(_SHORTEST_RETRY_S, wait_s), _LONGEST_RETRY_S)
            raise Overloaded("the queue is full", retry_after_s=retry_after_s)
        self._waiting += cost

    def leave(self, generation: Generation) -> None:
        """Count one off: it got a slot, or its client left."""
        self._waiting -= generation.estimate

    def clear(self) -> None:
        """Nothing waits any more."""
        self._waiting = 0
