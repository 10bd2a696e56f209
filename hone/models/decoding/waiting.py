"""Those who wait for a slot, and whose turn it is.

Each voice has a budget of its own, so that a flood of requests for one model is refused at that
model and keeps nobody from another. A free slot goes to the voice that has the fewest, and there to
who waits longest: with one voice, to the oldest of all.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from hone.models.decoding.admission import Admission
from hone.models.decoding.generations import Generation, Stage
from hone.models.decoding.voices import Voice


class WaitingRoom:
    """Generations in the order of their coming. Not thread-safe."""

    def __init__(self, most_tokens: int) -> None:
        self._most_tokens = most_tokens
        self._line: deque[Generation] = deque()
        self._admissions: dict[Voice, Admission] = {}

    def __len__(self) -> int:
        return len(self._line)

    def __iter__(self) -> Iterator[Generation]:
        return iter(self._line)

    def __contains__(self, generation: Generation) -> bool:
        return generation in self._line

    def enter(self, generations: Sequence[Generation]) -> None:
        """Let the choices of one request wait; Overloaded when too much waits for their model."""
        voice = generations[0].voice
        admission = self._admissions.setdefault(voice, Admission(self._most_tokens))
        admission.enter(generations)
        self._line.extend(generations)

    def leave(self, generation: Generation) -> None:
        """Let one wait no longer."""
        self._line.remove(generation)
        self._admissions[generation.voice].leave(generation)

    def next(self, holders: Iterable[Generation]) -> Generation | None:
        """Return who gets a free slot, by who has one; None if nobody may."""
        held: dict[Voice, int] = {}
        for generation in holders:
            held[generation.voice] = held.get(generation.voice, 0) + 1
        ready = (generation for generation in self._line if not _follows(generation))
        return min(ready, key=lambda generation: held.get(generation.voice, 0), default=None)

    def learn(self, tokens: int, seconds: float) -> None:
        """Note how long a turn took for so many tokens."""
        for admission in self._admissions.values():
            admission.learn(tokens, seconds)

    def forget(self, voice: Voice) -> None:
        """Let a voice go for which nobody waits."""
        self._admissions.pop(voice, None)


def _follows(generation: Generation) -> bool:
    """Tell whether it waits for the first choice: once that has read the prompt, it finds it."""
    leader = generation.leader
    return leader is not None and leader.stage in {Stage.WAITING, Stage.READING}
