"""Those who wait for a slot, and whose turn it is.

Each voice has a budget of its own, so that a flood of requests for one model is refused at that
model and keeps nobody from another. A free slot goes to the voice that has the fewest. There its
requests take turns: each slot is for one choice of the request whose turn is next, which then goes
to the end of the line. So the many choices or prompts of one request do not stand before another's
first, and nobody waits for more than one slot of each who was there before.
"""

import itertools
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence

from hone.models.decoding.admission import Admission, Pace
from hone.models.decoding.generations import Generation, Stage
from hone.models.decoding.voices import Voice


class WaitingRoom:
    """Generations in the order of their coming. Not thread-safe."""

    def __init__(self, most_tokens: int, slots: int) -> None:
        self._most_tokens = most_tokens
        self._line: deque[Generation] = deque()
        self._admissions: dict[Voice, Admission] = {}
        self._pace = Pace(slots)
        self._turns: dict[int, int] = {}
        """When each request's turn is: who came, or got a slot, later has a higher number."""
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._line)

    def __iter__(self) -> Iterator[Generation]:
        return iter(self._line)

    def __contains__(self, generation: Generation) -> bool:
        return generation in self._line

    def enter(self, generations: Sequence[Generation]) -> None:
        """Let the choices of one request wait; Overloaded when too much waits for their model."""
        voice = generations[0].voice
        admission = self._admissions.setdefault(voice, Admission(self._most_tokens, self._pace))
        admission.enter(generations)
        self._line.extend(generations)
        self._turns.setdefault(_asked_by(generations[0]), next(self._numbers))

    def leave(self, generation: Generation) -> None:
        """Let one wait no longer."""
        self._line.remove(generation)
        self._admissions[generation.voice].leave(generation)
        request = _asked_by(generation)
        if all(_asked_by(other) != request for other in self._line):
            del self._turns[request]

    def next(self, holders: Iterable[Generation]) -> Generation | None:
        """Return who gets a free slot, by who has one; None if nobody may."""
        held = Counter(generation.voice for generation in holders)
        ready = (generation for generation in self._line if not _follows(generation))

        def order(generation: Generation) -> tuple[int, int]:
            return held[generation.voice], self._turns[_asked_by(generation)]

        found = min(ready, key=order, default=None)
        if found is not None:
            self._turns[_asked_by(found)] = next(self._numbers)
        return found

    def learn(self, tokens: int, seconds: float, taken: int) -> None:
        """Note how long a turn took for so many tokens, with so many slots taken."""
        self._pace.learn(tokens, seconds, taken)

    def forget(self, voice: Voice) -> None:
        """Let a voice go for which nobody waits."""
        self._admissions.pop(voice, None)


def _asked_by(generation: Generation) -> int:
    """Return what tells requests apart; the prompts of one sender are one request."""
    request = generation.request
    return id(request if request.sender is None else request.sender)


def _follows(generation: Generation) -> bool:
    """Tell whether it waits for the first choice: once that has read the prompt, it finds it."""
    leader = generation.leader
    return leader is not None and leader.stage in {Stage.WAITING, Stage.READING}
