"""Continuous batching: one thread that decodes many sequences, a step for all of them at a time.

A turn of the thread: those whose client left give up their slots; who waits gets a free slot; some
of the prompts' tokens are read; then one step for all that are running. So a request that comes
while others decode starts after the step that is in progress, and a long prompt, read in pieces,
lets the others go on.

The running sequences lie in the slots 0, 1, 2, ..., which one step takes together: when one ends,
the last takes its place. With nothing to do the thread sleeps.

Several models may speak through one scheduler, if they are adapters of the engine's: each is a
`Voice`, and sequences of all of them share the steps.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple, TypeVar

from hone.models.decoding.adapters import BARE, AdapterWeights
from hone.models.decoding.constraints import Constraint, ConstraintFactory
from hone.models.decoding.detokenizing import CausalTokenizer
from hone.models.decoding.engine import DecoderEngine
from hone.models.decoding.generations import Generation, GenerationRequest, Stage, Update
from hone.models.decoding.prefixes import PrefixStore
from hone.models.decoding.turns import GenerationFailed, Turns
from hone.models.decoding.voices import Voice
from hone.models.decoding.waiting import WaitingRoom
from hone.models.errors import HoneError, InvalidInput

logger = logging.getLogger(__name__)

Deliver = Callable[[list[Update]], None]
Result = TypeVar("Result")


class SchedulerClosed(HoneError):
    """The model is leaving."""

    code = "scheduler_closed"


class _Errand(NamedTuple):
    """What is to be done between two turns, and who waits for it."""

    work: Callable[[], Any]
    future: "Future[Any]"

    def run(self) -> None:
        """Do it; what goes wrong is raised in the thread that waits."""
        try:
            self.future.set_result(self.work())
        except BaseException as error:
            self.future.set_exception(error)
            if not isinstance(error, Exception):
                raise


class Scheduler:
    """Decodes on a thread of its own. All methods may be called from any.

    `deliver` hears of what is new, once or twice in a turn, on the scheduler's thread; it must be
    quick. Who speaks has entered before; with a `tokenizer` there is `voice`, the engine's own
    model, for which requests are unless they name another.
    """

    def __init__(
        self,
        engine: DecoderEngine,
        tokenizer: CausalTokenizer | None = None,
        *,
        deliver: Deliver,
        prefixes: PrefixStore | None = None,
        constraints: ConstraintFactory | None = None,
        most_waiting_tokens: int = 65_536,
        name: str = "decoder",
    ) -> None:
        self._engine = engine
        self.voice = Voice(tokenizer, constraints) if tokenizer else None
        self._deliver = deliver
        self._condition = threading.Condition()
        self._waiting = WaitingRoom(most_waiting_tokens, engine.slots)
        self._turns = Turns(engine, prefixes, self._over)
        self._errands: deque[_Errand] = deque()
        self._closing = self._aborting = False
        self._progress_at = time.monotonic()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    # Any thread's side

    def submit(self, request: GenerationRequest, voice: Voice | None = None) -> list[Generation]:
        """Queue a request; return a generation for each of its choices.

        InvalidInput when it does not fit a slot, Overloaded when too much is waiting,
        SchedulerClosed when the model is leaving.
        """
        voice = voice or self.voice
        if voice is None:
            raise InvalidInput("the request does not say which model it is for")
        self._check(request)
        constraints = [_constraint(request, voice) for _ in range(request.choices)]
        generations: list[Generation] = []
        for choice, constraint in enumerate(constraints):
            leader = generations[0] if generations else None
            generations.append(Generation(request, voice, choice, leader, constraint=constraint))
        with self._condition:
            if self._closing or voice.leaving:
                raise SchedulerClosed("the model is being replaced or the service is stopping")
            if not self._waiting:
                self._progress_at = time.monotonic()
            self._waiting.enter(generations)
            voice.open += len(generations)
            self._condition.notify_all()
        return generations

    def cancel(self, generation: Generation) -> None:
        """Forget a generation: nothing more is told of it, and the next turn frees its slot."""
        with self._condition:
            generation.cancelled = True
            if generation.stage is Stage.WAITING and generation in self._waiting:
                self._waiting.leave(generation)
                self._over(generation)
            self._condition.notify_all()

    def waiting(self, voice: Voice | None = None) -> int:
        """Return how many sequences wait for a slot, of all voices or of one."""
        if voice is None:
            return len(self._waiting)
        with self._condition:
            return sum(generation.voice is voice for generation in self._waiting)

    def running(self, voice: Voice | None = None) -> int:
        """Return how many sequences have a slot, of all voices or of one."""
        if voice is None:
            return len(self._turns.holders())
        return sum(generation.voice is voice for generation in self._turns.holders())

    @property
    def steps(self) -> int:
        """How many steps were run."""
        return self._turns.steps

    @property
    def turns(self) -> int:
        """How many turns there were."""
        return self._turns.turns

    def enter(
        self,
        tokenizer: CausalTokenizer,
        constraints: ConstraintFactory | None = None,
        weights: AdapterWeights | None = None,
    ) -> Voice:
        """Let another model speak, the engine's own or an adapter on it; return its voice. Blocks.

        BundleCorrupt when the adapter does not fit, SchedulerClosed when all are leaving.
        """
        voice = Voice(tokenizer, constraints)
        if weights is not None:
            voice.adapter = self._do(partial(self._engine.load_adapter, weights), None)
        return voice

    def leave(self, voice: Voice, *, timeout_s: float | None = None) -> None:
        """Let a voice finish what it has begun, then forget it and its adapter. Blocks.

        What is not finished after `timeout_s` is told that the model is leaving. Other voices go
        on.
        """
        with self._condition:
            voice.leaving = True
            done = self._condition.wait_for(lambda: not voice.open, timeout_s)
        try:
            self._do(partial(self._dismiss, voice, aborted=not done), timeout_s)
        except TimeoutError:
            logger.warning("a model does not let go of an adapter")
        except SchedulerClosed:
            pass  # whoever closed it took the adapter along

    def _do(self, errand: Callable[[], Result], timeout_s: float | None) -> Result:
        """Have something done between two turns, and return what it returns."""
        future: Future[Result] = Future()
        with self._condition:
            if self._closing:
                raise SchedulerClosed("the model is being replaced or the service is stopping")
            self._errands.append(_Errand(errand, future))
            self._condition.notify_all()
        return future.result(timeout_s)

    def stalled(self, after_s: float) -> bool:
        """Tell whether there is something to do and no turn has ended for so long."""
        busy = self._waiting or self._turns.holders()
        return bool(busy) and time.monotonic() - self._progress_at > after_s

    def close(self, *, timeout_s: float | None = None) -> None:
        """Stop accepting, finish what there is, and end the thread. Blocks.

        What is not finished after `timeout_s` is told that the model is leaving.
        """
        with self._condition:
            self._closing = True
            self._condition.notify_all()
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

    # The scheduler's thread

    def _work(self) -> None:
        try:
            while self._next_turn():
                self._whole_turn()
        except BaseException:  # a fault of ours; nobody may wait for a thread that is dead
            logger.exception("the scheduler ended before its time")
            self._give_up()

    def _whole_turn(self) -> None:
        started = time.perf_counter()
        done = taken = 0
        try:
            done, taken = self._turn()
        except Exception:  # not a sequence's doing but ours; none may wait for ever
            logger.exception("a turn of the scheduler failed")
            self._end_all(GenerationFailed("the model failed on this sequence"))
        with self._condition:  # requests enter meanwhile
            self._waiting.learn(done, time.perf_counter() - started, taken)
        self._progress_at = time.monotonic()
        self._tell()

    def _give_up(self) -> None:
        """Accept nothing more, and tell all who wait for this thread that it is over."""
        error = SchedulerClosed("the model failed and takes no more requests")
        with self._condition:
            self._closing = True
            while self._errands:
                self._errands.popleft().future.set_exception(error)
        try:
            self._end_all(error)
            self._tell()
        except Exception:
            logger.exception("not all could be told that the scheduler ended")

    def _next_turn(self) -> bool:
        """Wait for something to do; False at the end."""
        with self._condition:
            while not (self._waiting or self._turns.holders() or self._errands):
                if self._closing:
                    return False
                self._condition.wait()
        while self._errands:
            self._errands.popleft().run()
        if self._aborting:
            self._end_all(SchedulerClosed("the service is stopping"))
            self._tell()
        return True

    def _turn(self) -> tuple[int, int]:
        """Do one turn; return how many tokens were read or chosen, and how many slots are taken."""
        self._turns.begin()
        self._admit()
        taken = len(self._turns.holders())
        read = self._turns.read_prompts()
        self._tell()  # first tokens need not wait for the step
        return read + self._turns.step(), taken

    def _tell(self) -> None:
        heard = [u for u in self._turns.updates() if not u.generation.cancelled]
        if heard:
            self._deliver(heard)

    def _admit(self) -> None:
        """Give free slots to those who wait."""
        with self._condition:
            for slot in self._turns.free_slots():
                generation = self._waiting.next(self._turns.holders())
                if generation is None:
                    break
                self._waiting.leave(generation)
                self._turns.admit(generation, slot)

    def _end_all(self, error: HoneError) -> None:
        with self._condition:
            waiting = list(self._waiting)
            for generation in waiting:
                self._end_waiting(generation)
            for generation in [*self._turns.clear(), *waiting]:
                self._turns.tell(Update(generation, error=error))

    def _end_waiting(self, generation: Generation) -> None:
        self._waiting.leave(generation)
        self._over(generation)

    def _dismiss(self, voice: Voice, *, aborted: bool) -> None:
        """Forget a voice; what it still has is told that the model is leaving."""
        if aborted:
            error = SchedulerClosed("the model is being replaced or the service is stopping")
            with self._condition:
                waiting = [g for g in self._waiting if g.voice is voice]
                holding = [g for g in self._turns.holders() if g.voice is voice]
                for generation in waiting:
                    self._end_waiting(generation)
                for generation in holding:
                    self._turns.release(generation)
                for generation in (*waiting, *holding):
                    self._turns.tell(Update(generation, error=error))
            self._tell()
        with self._condition:
            self._waiting.forget(voice)
        if voice.adapter != BARE:
            self._engine.unload_adapter(voice.adapter)

    def _over(self, generation: Generation) -> None:
        with self._condition:
            if generation.stage is not Stage.OVER:
                generation.voice.open -= 1
            generation.stage = Stage.OVER
            self._condition.notify_all()


def _constraint(request: GenerationRequest, voice: Voice) -> Constraint | None:
    if request.grammar is None:
        return None
    if voice.constraints is None:
        raise InvalidInput("this model cannot follow a schema")
    return voice.constraints.follow(request.grammar)
