"""A model's fallback: the texts that it is not sure of are asked of the prompt as well.

Whatever befalls a call, the model's own label is the answer then, and the outcome says why.
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence

from hone.comparison.prices import Price, cost_usd
from hone.models.bundle import Bundle
from hone.models.manifest import FallbackRecord
from hone.models.prompting.answerer import PromptAnswerer, load_answerer
from hone.models.prompting.calls import CallFailed
from hone.models.prompting.usage import Usage
from hone.models.prompting.wire import MalformedAnswer
from hone.service.fallback.line import FallbackLine
from hone.service.fallback.metrics import FallbackFamilies
from hone.service.tickets import FallbackOutcome, PromptAnswer, Ticket, WorkItem

logger = logging.getLogger(__name__)

_WRONG_SETTING = frozenset({401, 403, 404})
"""A wrong key, or no such address or model: all calls will fail so."""

_OUTCOMES: Mapping[str, FallbackOutcome] = {
    "answered": "answered",
    "refused": "refused",
    "unparsable": "unreadable",
}


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
        texts: dict[str, list[WorkItem]] = {}
        for item in items:
            texts.setdefault(str(item.text), []).append(item)
        deadline = asyncio.get_running_loop().time() + self._line.timeout_s
        async with asyncio.TaskGroup() as group:
            for text, same in texts.items():
                group.create_task(self._ask_one(text, same, self._answerer, self._line, deadline))

    async def _ask_one(
        self,
        text: str,
        items: Sequence[WorkItem],
        answerer: PromptAnswerer,
        line: FallbackLine,
        deadline: float,
    ) -> None:
        answer = PromptAnswer("cancelled")
        try:
            answer = await self._placed(text, answerer, line, deadline)
        except asyncio.CancelledError:
            raise
        except Exception:  # the boundary: the model's own label is there, whatever this was
            logger.exception("a fallback failed")
            answer = PromptAnswer("failed")
        finally:
            self._note(items, answer)

    async def _placed(
        self, text: str, answerer: PromptAnswerer, line: FallbackLine, deadline: float
    ) -> PromptAnswer:
        """Call when there is a place, if the upstream is not being left alone."""
        breaker = line.breaker(self._arm.model)
        if not breaker.admits():
            return PromptAnswer("paused")
        try:
            async with asyncio.timeout_at(deadline):
                await line.places.acquire()
        except TimeoutError:
            return PromptAnswer("busy")
        try:
            if not breaker.enter():  # it was opened meanwhile
                return PromptAnswer("paused")
            try:
                return await self._called(text, answerer, line, deadline)
            except BaseException:
                breaker.abandoned()
                raise
        finally:
            line.places.release()

    async def _called(
        self, text: str, answerer: PromptAnswerer, line: FallbackLine, deadline: float
    ) -> PromptAnswer:
        """Make one call, and tell the breaker how it went."""
        breaker, loop = line.breaker(self._arm.model), asyncio.get_running_loop()
        began, started = loop.time(), time.perf_counter()
        try:
            async with asyncio.timeout_at(deadline):
                # Rendering and reading may take long for one of many examples: off the loop.
                prompt = await asyncio.to_thread(answerer.prompt, text)
                answer = await line.line.post(answerer.path, answerer.request(prompt))
                said, usage = await asyncio.to_thread(answerer.read, prompt, answer.body)
        except TimeoutError:
            if loop.time() - began >= line.timeout_s / 2:
                breaker.failed()
            else:
                breaker.abandoned()  # it waited for a place, and the call had little time
            return PromptAnswer("timed_out")
        except CallFailed as error:
            return self._failed(error, line)
        except MalformedAnswer as error:
            breaker.failed()
            return self._spent("failed", error.usage)
        breaker.succeeded()
        self._families.seconds.labels(*self._names).observe(time.perf_counter() - started)
        place = None if said.label is None else self._places[said.label]
        return self._spent(_OUTCOMES[said.kind], usage, place)

    def _failed(self, error: CallFailed, line: FallbackLine) -> PromptAnswer:
        breaker = line.breaker(self._arm.model)
        logger.warning(
            "a fallback failed", extra={"upstream": self._arm.model, "reason": error.reason}
        )
        if error.filtered:
            breaker.succeeded()
            return PromptAnswer("refused")
        if error.again or error.status in _WRONG_SETTING:
            breaker.failed(error.after_s)
        else:
            breaker.succeeded()  # it is alive, and does not take this text
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
        return PromptAnswer(outcome, place, usage.prompt_tokens, dollars)

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
    told = {"model": f"{manifest.model}@{manifest.version}"}
    if line is None:
        logger.warning("no HONE_FALLBACK_URL: the model answers alone", extra=told)
    if record.variant != variant:
        said = {"judged": record.variant, "served": variant}
        logger.warning("the threshold was judged with another variant", extra=told | said)
    return ModelFallback(
        record,
        manifest.labels,
        answerer=None if line is None else load_answerer(record.arm, bundle.file),
        line=line,
        price=prices.get(record.arm.price_model),
        families=families,
        names=(manifest.model, str(manifest.version)),
    )
