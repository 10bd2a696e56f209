"""Continuous batching: one thread that decodes many sequences, a step for all of them at a time.

A turn of the thread: those whose client left give up their slots; who waits gets a free slot; some
of the prompts' tokens are read; then one step for all that are running. So a request that comes
while others decode starts after the step that is in progress, and a long prompt, read in pieces,
lets the others go on.

The running sequences lie in the slots 0, 1, 2, ..., which one step takes together: when one ends,
the last takes its place. With nothing to do the thread sleeps.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from hone.models.decoding.admission import Admission
from hone.models.decoding.constraints import Constraint, ConstraintFactory
from hone.models.decoding.detokenizing import CausalTokenizer
from hone.models.decoding.engine import DecoderEngine
from hone.models.decoding.generations import Generation, GenerationRequest, Stage, Update
from hone.models.decoding.prefixes import PrefixStore
from hone.models.decoding.sampling import prompt_logprobs
from hone.models.engines import FloatArray
from hone.models.errors import HoneError, InvalidInput
from hone.models.tokenizer import IntArray

logger = logging.getLogger(__name__)

PIECE_TOKENS = 64
"""How many tokens of prompts are read between two steps, while sequences are running."""
IDLE_PIECE_TOKENS = 256
"""The same while none is: nobody waits for a step, but somebody may come or leave."""
_PIECE_OVERHEAD = 16
"""What a piece costs beside its tokens, in tokens: the weights are read for each."""

Deliver = Callable[[list[Update]], None]


class GenerationFailed(HoneError):
    """The model failed on this sequence."""

    code = "generation_failed"


class SchedulerClosed(HoneError):
    """The model is leaving."""

    code = "scheduler_closed"


class Scheduler:
    """Decodes on a thread of its own. `submit`, `cancel` and the counts may be called from any.

    `deliver` hears of what is new, once or twice in a turn, on the scheduler's thread; it must be
    quick.
    """

    def __init__(
        self,
        engine: DecoderEngine,
        tokenizer: CausalTokenizer,
        *,
        deliver: Deliver,
        prefixes: PrefixStore | None = None,
        constraints: ConstraintFactory | None = None,
        most_waiting_tokens: int = 65_536,
        name: str = "decoder",
    ) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._deliver = deliver
        self._prefixes = prefixes
        self._constraints = constraints
        self._admission = Admission(most_waiting_tokens)
        self._condition = threading.Condition()
        self._waiting: deque[Generation] = deque()
        self._reading: list[Generation] = []
        self._running: list[Generation] = []
        self._updates: list[Update] = []
        self._closing = self._aborting = False
        self._progress_at = time.monotonic()
        self.turns = self.steps = self.stepped_rows = 0
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    # Any thread's side

    def submit(self, request: GenerationRequest) -> list[Generation]:
        """Queue a request; return a generation for each of its choices.

        InvalidInput when it does not fit a slot, Overloaded when too much is waiting,
        SchedulerClosed when the model is leaving.
        """
        self._check(request)
        constraints = [self._constraint(request) for _ in range(request.choices)]
        generations: list[Generation] = []
        for choice, constraint in enumerate(constraints):
            leader = generations[0] if generations else None
            generations.append(
                Generation(request, self._tokenizer, choice, leader, constraint=constraint)
            )
        with self._condition:
            if self._closing:
                raise SchedulerClosed("the model is being replaced or the service is stopping")
            self._admission.enter(generations)
            if not self._waiting:
                self._progress_at = time.monotonic()
            self._waiting.extend(generations)
            self._condition.notify()
        return generations

    def cancel(self, generation: Generation) -> None:
        """Forget a generation: nothing more is told of it, and the next turn frees its slot."""
        with self._condition:
            generation.cancelled = True
            if generation.stage is Stage.WAITING and generation in self._waiting:
                self._waiting.remove(generation)
                self._admission.leave(generation)
                generation.stage = Stage.OVER
            self._condition.notify()

    def waiting(self) -> int:
        """Return how many sequences wait for a slot."""
        return len(self._waiting)

    def running(self) -> int:
        """Return how many sequences have a slot."""
        return len(self._reading) + len(self._running)

    def stalled(self, after_s: float) -> bool:
        """Tell whether there is something to do and no turn has ended for so long."""
        busy = self._waiting or self._reading or self._running
        return bool(busy) and time.monotonic() - self._progress_at > after_s

    def close(self, *, timeout_s: float | None = None) -> None:
        """Stop accepting, finish what there is, and end the thread. Blocks.

        What is not finished after `timeout_s` is told that the model is leaving.
        """
        with self._condition:
            self._closing = True
            self._condition.notify()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._aborting = True
            self._thread.join(timeout_s)

    def _check(self, request: GenerationRequest) -> None:
        ids, longest = request.prompt, self._engine.longest
        if not ids:
            raise InvalidInput("the prompt has no tokens")
        if len(ids) + request.max_tokens > longest:
            raise InvalidInput(
                f"the prompt's {len(ids)} tokens and {request.max_tokens} more are over the "
                f"model's {longest}"
            )
        most = self._engine.vocabulary_size
        if not all(0 <= token < most for token in (*ids, *request.sampling.logit_bias)):
            raise InvalidInput(f"a token id is not one of the model's {most}")

    def _constraint(self, request: GenerationRequest) -> Constraint | None:
        if request.grammar is None:
            return None
        if self._constraints is None:
            raise InvalidInput("this model cannot follow a schema")
        return self._constraints.follow(request.grammar)

    # The scheduler's thread

    def _work(self) -> None:
        while self._next_turn():
            started = time.perf_counter()
            done = 0
            try:
                done = self._turn()
            except Exception:  # not a sequence's doing but ours; none may wait for ever
                logger.exception("a turn of the scheduler failed")
                self._end_all(GenerationFailed("the model failed on this sequence"))
            self._admission.learn(done, time.perf_counter() - started)
            self._progress_at = time.monotonic()
            self._tell()

    def _next_turn(self) -> bool:
        """Wait for something to do; False at the end."""
        with self._condition:
            while not (self._waiting or self._reading or self._running):
                if self._closing:
                    return False
                self._condition.wait()
        if self._aborting:
            self._end_all(SchedulerClosed("the service is stopping"))
            self._tell()
        return True

    def _turn(self) -> int:
        """Do one turn; return how many tokens were read or chosen."""
        self.turns += 1
        self._drop_cancelled()
        self._admit()
        read = self._read_prompts()
        self._tell()  # first tokens need not wait for the step
        rows = len(self._running)
        if rows:
            self._step()
        return read + rows

    def _tell(self) -> None:
        updates, self._updates = self._updates, []
        heard = [update for update in updates if not update.generation.cancelled]
        if heard:
            self._deliver(heard)

    def _drop_cancelled(self) -> None:
        for generation in [g for g in self._holders() if g.cancelled]:
            self._release(generation)

    def _holders(self) -> list[Generation]:
        return [*self._reading, *self._running]

    def _admit(self) -> None:
        """Give free slots to those who wait, the oldest first."""
        with self._condition:
            taken = {generation.slot for generation in self._holders()}
            free = [slot for slot in range(self._engine.slots) if slot not in taken]
            for generation in list(self._waiting):
                if not free:
                    break
                leader = generation.leader
                # Once the first choice's prompt is read, the others find it.
                if leader and leader.stage in {Stage.WAITING, Stage.READING}:
                    continue
                self._waiting.remove(generation)
                self._admission.leave(generation)
                generation.stage = Stage.READING
                generation.slot = free.pop(0)
                self._reading.append(generation)

    # Reading prompts

    def _read_prompts(self) -> int:
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
            found = self._prefixes.restore(self._engine, generation.slot, generation.request.prompt)
            generation.filled = generation.reused = found

    def _read(self, generation: Generation, piece: int) -> None:
        request, start = generation.request, generation.filled
        ids = request.prompt[start : start + piece]
        every = request.prompt_logprobs is not None
        logits = self._engine.prefill(generation.slot, ids, start, every=every)
        generation.filled += len(ids)
        if request.prompt_logprobs is not None:
            following = request.prompt[start + 1 : start + 1 + len(ids)]
            found = prompt_logprobs(logits[: len(following)], following, request.prompt_logprobs)
            generation.prompt_logprobs += found
        if not generation.unread:
            self._start(generation, logits[-1])

    def _start(self, generation: Generation, logits: FloatArray) -> None:
        """Let a generation whose prompt is read choose its first token, and run."""
        if self._prefixes is not None:
            self._prefixes.keep(self._engine, generation.slot, generation.request.prompt)
        if not generation.request.max_tokens:
            self._updates.append(Update(generation, finish="length"))
            self._release(generation)
            return
        self._reading.remove(generation)
        generation.stage = Stage.RUNNING
        self._running.append(generation)
        self._settle(generation, len(self._running) - 1)
        self._advance(generation, logits)

    # Stepping

    def _step(self) -> None:
        """Run one step for all that are running, and choose each one's next token."""
        running = list(self._running)
        ids = np.array([generation.ids[-1] for generation in running], dtype=np.int64)
        lengths = np.array([generation.filled for generation in running], dtype=np.int64)
        rows: list[FloatArray | Exception]
        try:
            rows = list(self._engine.step(0, ids, lengths))
        except Exception:  # noqa: BLE001 - whichever of them it was: each is tried alone
            logger.warning("a step failed; its sequences are tried one by one")
            rows = list(self._step_alone(ids, lengths))
        self.steps += 1
        self.stepped_rows += len(running)
        # All are counted first: whoever ends makes another move, with all that its slot holds.
        for generation, row in zip(running, rows, strict=True):
            generation.filled += not isinstance(row, Exception)
        for generation, row in zip(running, rows, strict=True):
            if isinstance(row, Exception):
                self._fail(generation, row)
            else:
                self._guarded(generation, partial(self._advance, generation, row))

    def _step_alone(self, ids: IntArray, lengths: IntArray) -> Iterator[FloatArray | Exception]:
        """Run each row by itself; nobody may move before all have run."""
        for slot in range(len(ids)):
            one = slice(slot, slot + 1)
            try:
                yield self._engine.step(slot, ids[one], lengths[one])[0].copy()
            except Exception as error:  # noqa: BLE001 - the thread outlives what a model does
                yield error

    def _advance(self, generation: Generation, logits: FloatArray) -> None:
        update = generation.advance(logits)
        self._updates.append(update)
        if update.last:
            if self._prefixes is not None:  # the next turn of a chat begins with all of this
                known = generation.ids[: generation.filled]
                self._prefixes.keep(self._engine, generation.slot, known)
            self._release(generation)

    def _guarded(self, generation: Generation, work: Callable[[], None]) -> None:
        """Do something for one generation, which alone fails if it fails."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - the thread outlives what a model does
            self._fail(generation, error)

    def _fail(self, generation: Generation, error: Exception) -> None:
        logger.error("decoding failed", exc_info=error)
        failure = GenerationFailed("the model failed on this sequence")
        self._updates.append(Update(generation, error=failure))
        self._release(generation)

    def _end_all(self, error: HoneError) -> None:
        with self._condition:
            everyone = [*self._holders(), *self._waiting]
            self._waiting.clear()
            self._admission.clear()
        self._reading.clear()
        self._running.clear()
        for generation in everyone:
            generation.stage = Stage.OVER
            self._updates.append(Update(generation, error=error))

    # Slots

    def _release(self, generation: Generation) -> None:
        """Free a generation's slot; the last of the running ones takes its place."""
        generation.stage = Stage.OVER
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
