"""Asking one contender over HTTP: retries, pacing, the budget, and the answers on disk."""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from hone.comparison.budget import Budget, dollars, most_dollars
from hone.comparison.cache import AnswerCache, Known, key_of
from hone.comparison.experiment import LimitsGroup, PromptContender, ServedContender
from hone.comparison.outcomes import Item, Outcome
from hone.comparison.prices import Price
from hone.models.errors import HoneError
from hone.models.imaging.pictures import data_url
from hone.models.imaging.tokens import most_picture_tokens
from hone.models.prompting.answers import LabelReader
from hone.models.prompting.calls import Answer, CallFailed, Line
from hone.models.prompting.prompts import Prompt
from hone.models.prompting.reading import read_label
from hone.models.prompting.tokens import TokenRule
from hone.models.prompting.usage import Usage
from hone.models.prompting.wire import (
    PATHS,
    MalformedAnswer,
    Reply,
    Show,
    by_hash,
    read_reply,
    request_body,
)

_MOST_RAW = 20_000
_CANNOT_ASK = frozenset({0, 301, 302, 303, 307, 308, 401, 403, 404, 405})
"""No connection, an address that is elsewhere or takes no such calls, a wrong key, no such model:
as long as nothing was answered, it is the experiment that is wrong, and not one item."""


class CannotAsk(HoneError):
    """A contender that cannot be asked at all."""

    code = "cannot_ask"


class Stopped(Exception):
    """The run was asked to stop before this item had its answer."""


class Stop:
    """Set once by a signal; waits end at once. For one event loop."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    @property
    def asked(self) -> bool:
        """Whether the run should stop."""
        return self._event.is_set()

    def ask(self) -> None:
        """Let the run stop after the calls that are under way."""
        self._event.set()

    async def sleep(self, seconds: float) -> None:
        """Wait; Stopped if the run should stop meanwhile."""
        try:
            await asyncio.wait_for(self._event.wait(), seconds)
        except TimeoutError:
            return
        raise Stopped


@dataclass(frozen=True, slots=True)
class Tariff:
    """What a contender's calls cost: nothing by themselves, by their tokens, or unknown."""

    price: Price | None
    free: bool = False

    def dollars(self, usage: Usage) -> float | None:
        """Return what these tokens cost; None if that is unknown."""
        return 0.0 if self.free else dollars(self.price, usage)

    def most(
        self, body: Mapping[str, Any], most_answer_tokens: int, *, picture_tokens: int = 0
    ) -> float:
        """Return what one call may cost at most; 0 if that is unknown.

        `body` is without pictures; `picture_tokens` are the most that those may cost.
        """
        if self.free:
            return 0.0
        size = len(orjson.dumps(body)) + picture_tokens
        return most_dollars(self.price, size, most_answer_tokens)


@dataclass(frozen=True, slots=True)
class _Question:
    """One request, and whose answer it is. In the body a picture stands by its hash."""

    key: str
    item: Item
    repeat: int
    prompt: Prompt
    body: Mapping[str, Any]


class _Pace:
    """When a contender may be called again, and whether it ever answered."""

    def __init__(self) -> None:
        self.answered = False
        self._not_before = 0.0

    def hold(self, seconds: float | None) -> None:
        """Let no call begin for so long: who says that all calls are too many means them all."""
        if seconds is not None:
            self._not_before = max(self._not_before, time.monotonic() + seconds)

    def remaining(self) -> float:
        """Return the seconds until the next call may begin."""
        return self._not_before - time.monotonic()


@dataclass(frozen=True)
class Asker:
    """Asks one contender. For one event loop."""

    contender: PromptContender | ServedContender
    line: Line
    cache: AnswerCache
    budget: Budget
    tariff: Tariff
    tokens: TokenRule
    limits: LimitsGroup
    stop: Stop
    reader: LabelReader
    labels: Sequence[str]
    descriptions: Mapping[str, str]
    _locks: dict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    _pace: _Pace = field(default_factory=_Pace)

    async def ask(self, item: Item, repeat: int, prompt: Prompt) -> Outcome:
        """Return the answer for an item, from disk or by asking.

        Stopped if the run should stop first, BudgetSpent if the call could pass the budget, and
        CannotAsk if the contender has never answered and cannot be asked.
        """
        path, body = PATHS[self.contender.api], self._body(prompt, by_hash)
        key = key_of(address=self.contender.address, path=path, body=body, repeat=repeat)
        failed: CallFailed | None = None
        async with self._locks[key]:  # items that ask the same wait for one answer
            known = self.cache.known(key)
            if known.body is None:
                failed = await self._until_answered(_Question(key, item, repeat, prompt, body))
                known = self.cache.known(key)
        return self._outcome(item, repeat, known, failed).model_copy(update={"request": key})

    async def _until_answered(self, question: _Question) -> CallFailed | None:
        """Call until there is an answer on disk; return the last failure if there is none."""
        failed: CallFailed | None = None
        for attempt in range(self.limits.retries + 1):
            await self._wait(attempt, failed)
            failed = await self._call(question)
            if failed is None:
                self._pace.answered = True
                return None
            if failed.after_s is not None and failed.after_s > self.limits.longest_wait_s:
                wished = f"{failed.reason}, and asks to wait {failed.after_s:.0f} s"
                failed = CallFailed(wished, status=failed.status)
            if not failed.again:
                break
            self._pace.hold(failed.after_s)
        if not self._pace.answered and failed is not None and failed.status in _CANNOT_ASK:
            raise CannotAsk(
                f"{self.contender.name} cannot be asked: {failed.reason}; check its address, "
                "model and key"
            )
        return failed

    async def _wait(self, attempt: int, failed: CallFailed | None) -> None:
        """Wait before a try: after a failure twice as long each time, and as long as was wished."""
        if self.stop.asked:
            raise Stopped
        if attempt and (failed is None or failed.after_s is None):
            longest = min(self.limits.longest_wait_s, self.limits.first_wait_s * 2 ** (attempt - 1))
            await self.stop.sleep(longest * random.uniform(0.5, 1))  # noqa: S311 - no secret
        while (held := self._pace.remaining()) > 0:
            await self.stop.sleep(held)

    async def _call(self, question: _Question) -> CallFailed | None:
        """Make one call and write down what came of it; return its failure, if it failed."""
        if question.prompt.pictures:  # read off the loop, and held while they are sent alone
            body = await asyncio.to_thread(self._with_pictures, question.prompt)
        else:
            body = orjson.dumps(question.body)
        most = self._most(question)
        await self.budget.reserve(most)
        actual = most  # what it may have cost, should anything below be cut off
        try:
            begun = self.cache.begin(
                question.key,
                contender=self.contender.name,
                item=question.item.id,
                repeat=question.repeat,
                most_usd=most,
            )
            call = await asyncio.wrap_future(begun)
            actual, failed = await self._made(call, question, body, most)
        finally:
            await self.budget.settle(most, actual)
        return failed

    async def _made(
        self, call: int, question: _Question, body: bytes, most: float
    ) -> tuple[float, CallFailed | None]:
        """Return what a call cost in dollars, and its failure, if it failed."""
        usage: Usage | None = None
        try:
            answer = await self.line.post(PATHS[self.contender.api], body)
            reply = read_reply(self.contender.api, answer.body)
        except CallFailed as error:
            failed = error
        except MalformedAnswer as error:
            usage = error.usage
            failed = CallFailed(str(error), again=True, may_be_billed=usage is None)
        else:
            return await self._note_answer(call, question, answer, reply), None
        usd = None if usage is None else self.tariff.dollars(usage)
        unclear = failed.may_be_billed
        noted = self.cache.failed(call, failed.reason, unclear=unclear, usage=usage, usd=usd)
        await asyncio.wrap_future(noted)
        return (most if unclear else usd or 0.0), failed

    async def _note_answer(
        self, call: int, question: _Question, answer: Answer, reply: Reply
    ) -> float:
        """Write an answer down, and return what it cost in dollars."""
        usage = reply.usage
        if usage is None:
            chat = self.contender.api == "chat"
            usage = self.tokens.usage(question.prompt, reply.text, chat=chat)
        usd = self.tariff.dollars(usage)
        noted = self.cache.answered(call, answer.body, seconds=answer.seconds, usage=usage, usd=usd)
        await asyncio.wrap_future(noted)
        return usd or 0.0

    def _body(self, prompt: Prompt, show: Show) -> dict[str, Any]:
        return request_body(self.contender, prompt, self.labels, self.descriptions, show)

    def _with_pictures(self, prompt: Prompt) -> bytes:
        """Return the body that asks a prompt with pictures, many megabytes of JSON."""
        return orjson.dumps(self._body(prompt, data_url))

    def _most(self, question: _Question) -> float:
        """Return what one call may cost at most."""
        pictures = (self.tokens.picture(picture) for picture in question.prompt.pictures)
        return self.tariff.most(
            question.body,
            self.contender.max_answer_tokens,
            picture_tokens=sum(map(most_picture_tokens, pictures)),
        )

    def _outcome(self, item: Item, repeat: int, known: Known, failed: CallFailed | None) -> Outcome:
        """Return what the calls for an item came to."""
        outcome = Outcome(
            contender=self.contender.name,
            item=item.id,
            repeat=repeat,
            kind="failed",
            calls=known.calls,
            usage=known.usage,
            spent=known.spent,
        )
        if known.body is None:
            if failed is not None and failed.filtered:
                return outcome.model_copy(update={"kind": "refused", "error": failed.reason})
            reason = "no answer" if failed is None else failed.reason
            return outcome.model_copy(update={"error": reason})
        reply = read_reply(self.contender.api, known.body)
        said = read_label(reply, self.labels, self.reader)
        return outcome.model_copy(
            update={
                "kind": said.kind,
                "label": said.label,
                "confidence": said.confidence,
                "raw": reply.text[:_MOST_RAW],
                "seconds": known.seconds,
            }
        )
