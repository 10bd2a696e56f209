"""A model's fallback: what it is not sure of, a text or a picture, is asked of the prompt as well.

Whatever befalls a call, the model's own label is the answer then, and the outcome says why.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hone.comparison.prices import Price, cost_usd
from hone.models.bundle import Bundle
from hone.models.manifest import FallbackRecord
from hone.models.prompting.answerer import PromptAnswerer, load_answerer
from hone.models.prompting.calls import CallFailed
from hone.models.prompting.prompts import Prompt
from hone.models.prompting.usage import Usage
from hone.models.prompting.wire import MalformedAnswer
from hone.service.fallback.allowance import Allowance
from hone.service.fallback.breaker import Breaker, Pass
from hone.service.fallback.line import FallbackLine
from hone.service.fallback.metrics import FallbackFamilies
from hone.service.tickets import FallbackOutcome, Input, PromptAnswer, Ticket, WorkItem

logger = logging.getLogger(__name__)

_OF_THE_TEXT = frozenset({None, 400, 413, 422})
"""What a text may be refused with, None where the answer had no end. All else, such as a wrong key,
no money or no such model, befalls every call."""

_LEAST_LEFT = 1 / 4
"""The share of its time that a call must have left to be begun."""

_OUTCOMES: Mapping[str, FallbackOutcome] = {
    "answered": "answered",
    "refused": "refused",
    "unparsable": "unreadable",
}


class _Round(NamedTuple):
    """What the calls of one request have in common."""

    answerer: PromptAnswerer
    line: FallbackLine
    breaker: Breaker
    places: asyncio.Semaphore
    deadline: float


class ModelFallback:
    """The fallback of one loaded version. For the event loop's thread.

    Without a `line` nobody is asked. `price` is that of the arm's tokens, None where it is not
    known.
    """

    def __init__(
        self,
        record: FallbackRecord,
        labels: Sequence[str],
        *,
        answerer: PromptAnswerer | None,
        line: FallbackLine | None,
        price: Price | None,
        families: FallbackFamilies,
        names: tuple[str, str],
    ) -> None:
        self.threshold = record.threshold
        self._arm = record.arm
        self._places = {label: place for place, label in enumerate(labels)}
        self._answerer, self._line, self._price = answerer, line, price
        self._families, self._names = families, names

    def below(self, ticket: Ticket) -> list[WorkItem]:
        """Return the texts whose best label has a confidence below the threshold."""
        return [item for item in ticket.items if item.confidence < self.threshold]

    async def ask(self, items: Sequence[WorkItem]) -> None:
        """Ask about each text, all at once, and note what came of it; equal texts share a call.

        It takes `timeout_s` at most. Cancelled, it ends the calls.
        """
        if self._line is None or self._answerer is None:
            for item in items:
                self._note([item], PromptAnswer("off"))
            return
        texts: dict[Input, list[WorkItem]] = {}
        for item in items:
            texts.setdefault(item.text, []).append(item)
        line = self._line
        one = _Round(
            self._answerer, line, line.breaker(self._arm.model),
            places=asyncio.Semaphore(line.most_a_request),
            deadline=asyncio.get_running_loop().time() + line.timeout_s,
        )  # fmt: skip
        async with asyncio.TaskGroup() as group:
            for text, same in texts.items():
                group.create_task(self._ask_one(text, same, one))

    async def _ask_one(self, text: Input, items: Sequence[WorkItem], one: _Round) -> None:
        answer = PromptAnswer("cancelled")
        try:
            answer = await self._placed(text, one)
        except asyncio.CancelledError:
            raise
        except Exception:  # the boundary: the model's own label is there, whatever this was
            logger.exception("a fallback failed")
            answer = PromptAnswer("failed")
        finally:
            self._note(items, answer)

    async def _placed(self, text: Input, one: _Round) -> PromptAnswer:
        """Call when there is a place and money, if the upstream is not being left alone."""
        if not self._affordable(one.line.allowance):
            return PromptAnswer("spent")
        if not one.breaker.admits():
            return PromptAnswer("paused")
        latest = one.deadline - one.line.timeout_s * _LEAST_LEFT
        async with contextlib.AsyncExitStack() as held:
            try:
                async with asyncio.timeout_at(latest):
                    await held.enter_async_context(one.places)
                    await held.enter_async_context(one.line.places)
            except TimeoutError:
                return PromptAnswer("busy")
            if not self._affordable(one.line.allowance):  # others spent the rest meanwhile
                return PromptAnswer("spent")
            call = one.breaker.enter()
            if call is None:  # it was opened meanwhile
                return PromptAnswer("paused")
            try:
                return await self._called(text, one, call)
            except BaseException:
                one.breaker.abandoned(call)
                raise

    async def _called(self, text: Input, one: _Round, call: Pass) -> PromptAnswer:
        """Make one call; however it ends, the time that it took is noted with its outcome."""
        started = time.perf_counter()
        outcome: FallbackOutcome = "failed"
        try:
            answer = await self._made(text, one, call)
            outcome = answer.outcome
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            seconds = time.perf_counter() - started
            self._families.seconds.labels(*self._names, outcome).observe(seconds)
        return answer

    async def _made(self, text: Input, one: _Round, call: Pass) -> PromptAnswer:
        """Make one call, and tell the breaker how it went."""
        breaker, answerer, loop = one.breaker, one.answerer, asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout_at(one.deadline):
                # With many examples, or with pictures, whose body has megabytes, making a request
                # and reading its answer may take long: off the loop.
                prompt, body = await asyncio.to_thread(_request, answerer, text)
                answer = await one.line.line.post(answerer.path, body)
                said, usage = await asyncio.to_thread(answerer.read, prompt, answer.body)
        except TimeoutError:
            if loop.time() - began >= one.line.timeout_s / 2:
                breaker.failed(call)
            else:
                breaker.abandoned(call)  # it waited for a place, and the call had little time
            return PromptAnswer("timed_out")
        except CallFailed as error:
            return self._failed(error, breaker, call)
        except MalformedAnswer as error:
            breaker.failed(call)
            return self._spent("failed", error.usage)
        breaker.succeeded(call)
        place = None if said.label is None else self._places[said.label]
        return self._spent(_OUTCOMES[said.kind], usage, place)

    def _failed(self, error: CallFailed, breaker: Breaker, call: Pass) -> PromptAnswer:
        logger.warning(
            "a fallback failed", extra={"upstream": self._arm.model, "reason": error.reason}
        )
        if error.filtered:
            breaker.succeeded(call)
            return PromptAnswer("refused")
        if error.again or error.status not in _OF_THE_TEXT:
            breaker.failed(call, error.after_s)
        else:
            breaker.succeeded(call)  # it is alive, and does not take this text
        return PromptAnswer("failed")

    def _spent(
        self, outcome: FallbackOutcome, usage: Usage | None, place: int | None = None
    ) -> PromptAnswer:
        """Return an answer with what it took, which is counted here."""
        usage = usage or Usage()
        tokens = self._families.tokens
        tokens.labels(*self._names, "prompt").inc(usage.prompt_tokens)
        tokens.labels(*self._names, "answer").inc(usage.completion_tokens)
        dollars = 0.0 if self._arm.billing == "hosting" else self._cost(usage)
        if dollars is None:
            self._families.unpriced.labels(*self._names).inc()
        else:
            self._families.dollars.labels(*self._names, self._arm.price_model).inc(dollars)
            if self._line is not None:
                self._line.allowance.spend(dollars)
        return PromptAnswer(outcome, place, usage.prompt_tokens, dollars)

    def _affordable(self, allowance: Allowance) -> bool:
        """Whether a call may be made under the cap of the day, if there is one.

        Where the price is not known no cap could hold.
        """
        if not allowance.is_limited or self._arm.billing == "hosting":
            return True
        return self._price is not None and not allowance.is_spent()

    def _cost(self, usage: Usage) -> float | None:
        if self._price is None:
            return None
        return cost_usd(
            self._price,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
            cache_write_tokens=usage.cache_write_tokens,
        )

    def _note(self, items: Sequence[WorkItem], answer: PromptAnswer) -> None:
        """Give an answer to the texts that share it; the first bears what it took."""
        for number, item in enumerate(items):
            item.prompt_answer = answer if not number else answer.without_costs()
            self._families.texts.labels(*self._names, answer.outcome).inc()


def _request(answerer: PromptAnswerer, text: Input) -> tuple[Prompt, bytes]:
    """Return the prompt for an input, and the body that asks it."""
    prompt = answerer.prompt(text)
    return prompt, answerer.request(prompt)


def load_fallback(
    bundle: Bundle,
    *,
    variant: str,
    line: FallbackLine | None,
    prices: Mapping[str, Price],
    families: FallbackFamilies,
) -> ModelFallback | None:
    """Return a bundle's fallback, None if it has none. May take a second; not for the loop.

    BundleCorrupt when its files are not what it says; they are read only where there is a line.
    """
    manifest, record = bundle.manifest, bundle.manifest.fallback
    if record is None:
        return None
    price = prices.get(record.arm.price_model)
    told = {"model": f"{manifest.model}@{manifest.version}"}
    if line is None:
        logger.warning("no HONE_FALLBACK_URL: the model answers alone", extra=told)
    elif line.allowance.is_limited and price is None and record.arm.billing != "hosting":
        logger.warning(
            "no price for HONE_FALLBACK_MAX_DOLLARS_PER_DAY to hold: the model answers alone",
            extra=told | {"price_model": record.arm.price_model},
        )
    if record.variant != variant:
        said = {"judged": record.variant, "served": variant}
        logger.warning("the threshold was judged with another variant", extra=told | said)
    return ModelFallback(
        record,
        manifest.labels,
        answerer=None if line is None else load_answerer(record.arm, bundle.file),
        line=line,
        price=price,
        families=families,
        names=(manifest.model, str(manifest.version)),
    )
