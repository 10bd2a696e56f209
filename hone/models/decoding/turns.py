"""What a scheduler's thread does in a turn: prompts are read, a step is run, slots change hands.

The running sequences lie in the slots 0, 1, 2, ..., which one step takes together: when one ends,
the last takes its place.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from hone.models.decoding.constraints import UnsupportedSchema
from hone.models.decoding.engine import DecoderEngine
from hone.models.decoding.generations import Generation, Stage, Update
from hone.models.decoding.prefixes import PrefixStore
from hone.models.decoding.sampling import prompt_logprobs
from hone.models.engines import FloatArray
from hone.models.errors import HoneError
from hone.models.tokenizer import IntArray

logger = logging.getLogger(__name__)

PIECE_TOKENS = 64
"""How many tokens of prompts are read between two steps, while sequences are running."""
IDLE_PIECE_TOKENS = 256
"""The same while none is: nobody waits for a step, but somebody may come or leave."""
_PIECE_OVERHEAD = 16
"""What a piece costs beside its tokens, in tokens: the weights are read for each."""


class GenerationFailed(HoneError):
    """The model failed on this sequence."""

    code = "generation_failed"


class Turns:
    """The sequences that have a slot, and what is done for them. For one thread.

    `over` hears of each one that ends. Any thread may ask who holds a slot.
    """

    def __init__(
        self,
        engine: DecoderEngine,
        prefixes: PrefixStore | None,
        over: Callable[[Generation], None],
    ) -> None:
        self._engine = engine
        self._prefixes = prefixes
        self._over = over
        self._reading: list[Generation] = []
        self._running: list[Generation] = []
        self._updates: list[Update] = []
        self.turns = self.steps = 0

    def holders(self) -> list[Generation]:
        """Return who has a slot."""
        return [*self._reading, *self._running]

    def free_slots(self) -> list[int]:
        """Return the slots that nobody has, the lowest first."""
        taken = {generation.slot for generation in self.holders()}
        return [slot for slot in range(self._engine.slots) if slot not in taken]

    def admit(self, generation: Generation, slot: int) -> None:
        """Give a free slot to one whose prompt is to be read."""
        generation.stage = Stage.READING
        generation.slot = slot
        self._reading.append(generation)

    def updates(self) -> list[Update]:
        """Return what is new since this was last asked."""
        found, self._updates = self._updates, []
        return found

    def tell(self, update: Update) -> None:
        """Add to what is new."""
        self._updates.append(update)

    def begin(self) -> None:
        """Begin another turn: free the slots of those whose client has left."""
        self.turns += 1
        for generation in [g for g in self.holders() if g.cancelled]:
            self.release(generation)

    def clear(self) -> list[Generation]:
        """Forget all, whatever state a failed turn left them in; return who had a slot."""
        found = self.holders()
        self._reading.clear()
        self._running.clear()
        for generation in found:
            self._over(generation)
        return found

    # Reading prompts

    def read_prompts(self) -> int:
        """Read some tokens of prompts, at least one piece if any is to be read."""
        budget = PIECE_TOKENS if self._running else IDLE_PIECE_TOKENS
        read = 0
        while self._reading and (not read or budget > _PIECE_OVERHEAD):
            generation = self._next_reader()
            self._find_prefix(generation)
            piece = min(generation.unread, max(budget, _PIECE_OVERHEAD))
            self._guarded(generation, partial(self._read, generation, piece))
            read += piece
            budget -= piece + _PIECE_OVERHEAD
        return read

    def _next_reader(self) -> Generation:
        """Take turns between the shortest rest, so that short prompts pass, and the oldest."""
        if self.turns % 2:
            return min(self._reading, key=lambda generation: generation.unread)
        return self._reading[0]

    def _find_prefix(self, generation: Generation) -> None:
        wanted = generation.filled == 0 and generation.request.prompt_logprobs is None
        if wanted and self._prefixes is not None:
            found = self._prefixes.restore(
                self._engine,
                generation.slot,
                generation.request.prompt,
                adapter=generation.voice.adapter,
            )
            generation.filled = generation.reused = found

    def _read(self, generation: Generation, piece: int) -> None:
        request, start = generation.request, generation.filled
        ids = request.prompt[start : start + piece]
        every = request.prompt_logprobs is not None
        adapter = generation.voice.adapter
        logits = self._engine.prefill(generation.slot, ids, start, every=every, adapter=adapter)
        generation.filled += len(ids)
        if request.prompt_logprobs is not None:
            following = request.prompt[start + 1 : start + 1 + len(ids)]
            found = prompt_logprobs(logits[: len(following)], following, request.prompt_logprobs)
            generation.prompt_logprobs += found
        if not generation.unread:
            self._start(generation, logits[-1])

    def _start(self, generation: Generation, logits: FloatArray) -> None:
        """Let a generation whose prompt is read choose its first token, and run."""
        self._keep_prefix(generation, generation.request.prompt)
        if not generation.request.max_tokens:
            self._updates.append(Update(generation, finish="length"))
            self.release(generation)
            return
        self._reading.remove(generation)
        generation.stage = Stage.RUNNING
        self._running.append(generation)
        self._settle(generation, len(self._running) - 1)
        self._advance(generation, logits)

    def _keep_prefix(self, generation: Generation, ids: Sequence[int]) -> None:
        if self._prefixes is not None:
            adapter = generation.voice.adapter
            self._prefixes.keep(self._engine, generation.slot, ids, adapter=adapter)

    # Stepping

    def step(self) -> int:
        """Run one step for all that are running, and choose each one's next token.

        Returns how many they are.
        """
        running = list(self._running)
        if not running:
            return 0
        ids = np.array([generation.ids[-1] for generation in running], dtype=np.int64)
        lengths = np.array([generation.filled for generation in running], dtype=np.int64)
        adapters = [generation.voice.adapter for generation in running]
        rows: list[FloatArray | Exception]
        try:
            rows = list(self._engine.step(0, ids, lengths, adapters))
        except Exception:  # noqa: BLE001 - whichever of them it was: each is tried alone
            logger.warning("a step failed; its sequences are tried one by one")
            rows = list(self._step_alone(ids, lengths, adapters))
        self.steps += 1
        # All are counted first: whoever ends makes another move, with all that its slot holds.
        for generation, row in zip(running, rows, strict=True):
            generation.filled += not isinstance(row, Exception)
        for generation, row in zip(running, rows, strict=True):
            if isinstance(row, Exception):
                self._fail(generation, row)
            else:
                self._guarded(generation, partial(self._advance, generation, row))
        return len(running)

    def _step_alone(
        self, ids: IntArray, lengths: IntArray, adapters: Sequence[int]
    ) -> Iterator[FloatArray | Exception]:
        """Run each row by itself; nobody may move before all have run."""
        for slot in range(len(ids)):
            one = slice(slot, slot + 1)
            try:
                yield self._engine.step(slot, ids[one], lengths[one], adapters[one])[0].copy()
            except Exception as error:  # noqa: BLE001 - the thread outlives what a model does
                yield error

    def _advance(self, generation: Generation, logits: FloatArray) -> None:
        update = generation.advance(logits)
        self._updates.append(update)
        if update.last:
            # The next turn of a chat begins with all of this.
            self._keep_prefix(generation, generation.ids[: generation.filled])
            self.release(generation)

    def _guarded(self, generation: Generation, work: Callable[[], None]) -> None:
        """Do something for one generation, which alone fails if it fails."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - the thread outlives what a model does
            self._fail(generation, error)

    def _fail(self, generation: Generation, error: Exception) -> None:
        failure: HoneError
        if isinstance(error, UnsupportedSchema):  # the request's doing, not the model's
            failure = error
        else:
            logger.error("decoding failed", exc_info=error)
            failure = GenerationFailed("the model failed on this sequence")
        self._updates.append(Update(generation, error=failure))
        self.release(generation)

    # Slots

    def release(self, generation: Generation) -> None:
        """Free a generation's slot; the last of the running ones takes its place."""
        self._over(generation)
        generation.ended_at = time.perf_counter()
        if generation in self._reading:
            self._reading.remove(generation)
            return
        place = self._running.index(generation)
        last = self._running.pop()
        if last is not generation:
            self._running[place] = last
            self._settle(last, place)

    def _settle(self, generation: Generation, slot: int) -> None:
        """Bring a generation into a slot; who has that one gets the other."""
        if generation.slot == slot:
            return
        other = next((g for g in self._reading if g.slot == slot), None)
        lengths = generation.filled, other.filled if other else 0
        self._engine.exchange(generation.slot, slot, lengths)
        if other:
            other.slot = generation.slot
        generation.slot = slot
