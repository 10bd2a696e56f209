"""How much may wait: counted in tokens, as a long prompt costs what many short ones do."""

from collections.abc import Sequence

from hone.models.decoding.generations import Generation
from hone.models.errors import Overloaded

_SMOOTHING = 0.05
_SHORTEST_RETRY_S = 0.05


class Admission:
    """Counts the tokens that those who wait may cost, prompt and answer. Not thread-safe."""

    def __init__(self, most_waiting_tokens: int) -> None:
        self._most = most_waiting_tokens
        self._waiting = 0
        self._seconds_per_token = 0.0

    @property
    def waiting_tokens(self) -> int:
        """How many tokens those who wait may cost."""
        return self._waiting

    def enter(self, generations: Sequence[Generation]) -> None:
        """Count them, or raise Overloaded. Where nothing waits, any request fits."""
        cost = sum(generation.estimate for generation in generations)
        if self._waiting and self._waiting + cost > self._most:
            retry_after_s = max(_SHORTEST_RETRY_S, self._waiting * self._seconds_per_token)
            raise Overloaded("the queue is full", retry_after_s=retry_after_s)
        self._waiting += cost

    def leave(self, generation: Generation) -> None:
        """Count one off: it got a slot, or its client left."""
        self._waiting -= generation.estimate

    def clear(self) -> None:
        """Nothing waits any more."""
        self._waiting = 0

    def learn(self, tokens: int, seconds: float) -> None:
        """Note how long a turn took for so many tokens."""
        if tokens:
            weight = _SMOOTHING if self._seconds_per_token else 1.0
            self._seconds_per_token += weight * (seconds / tokens - self._seconds_per_token)
