"""What the baseline prompt would have cost for one request, in tokens and in dollars."""

import asyncio
import hashlib
import itertools
from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hone.comparison.prices import Price, cost_usd
from hone.models.bundle import Bundle
from hone.models.imaging.predictor import count_picture_tokens
from hone.models.imaging.tokens import PICTURE_TOKENS
from hone.models.savings import ESTIMATED, BaselinePrompt, TokenCounter, estimate_tokens
from hone.models.tokenizer import TextTokenizer

COUNTED_CHARACTERS = 32_768
"""How many characters of what one request sends beside its texts are counted by a tokenizer."""

_REMEMBERED = 1024
"""How many counts are kept for each model; 1,024 take about 200 KiB."""


@dataclass(frozen=True, slots=True)
class Savings:
    """The saving of one request.

    `tokens_saved` is the baseline's prompt tokens less those that our model read, those that were
    sent all the same, and `fallback_tokens`, those of prompts that were asked after all; it is
    negative where these are more. `dollars` is what the baseline's calls would have cost at list
    price without prompt caching, less what the fallback's cost, and None where a price is not
    known.
    """

    baseline_prompt_tokens: int
    tokens_saved: int
    method: str
    dollars: float | None
    fallback_tokens: int = 0
    baseline_completion_tokens: int | None = None
    """What of a causal model's answer the baseline would have had to say, as it counts; None for
    a classifier, whose labels have the mean length that the bundle names."""


@dataclass(frozen=True, slots=True)
class SavingsCounter:
    """The arithmetic for one model.

    `count` gives the tokens of one input, a text or a picture's file, for the baseline's model;
    `count_text` those of texts that were sent beside.
    """

    baseline: BaselinePrompt
    count: Callable[[Any], int]
    method: str
    price: Price | None
    count_text: TokenCounter = estimate_tokens

    def savings(
        self,
        *,
        texts: int,
        text_tokens: int,
        prompt_tokens: int,
        sent_tokens: int = 0,
        fallback_tokens: int = 0,
        fallback_dollars: float | None = 0.0,
        completion_tokens: int | None = None,
    ) -> Savings:
        """Return what a request saved: each of its `texts` would have been a prompt of its own.

        `text_tokens` is the sum over the texts in the baseline's tokens, `prompt_tokens` the
        tokens that our model read, `sent_tokens` those, in the baseline's tokens, of the shared
        part of the prompts that a client sent though it need not: they are not saved yet.
        `fallback_tokens` and `fallback_dollars` are of the calls to a prompt; None is unknown.
        `completion_tokens` are those of the answers, in the baseline's tokens; by default each
        answer is a label of mean length.
        """
        baseline_tokens = texts * self.baseline.static_tokens + text_tokens
        dollars = None
        if self.price is not None and fallback_dollars is not None:
            labels = texts * self.baseline.output_tokens
            answered = labels if completion_tokens is None else completion_tokens
            dollars = cost_usd(
                self.price, prompt_tokens=baseline_tokens, completion_tokens=answered
            )
            dollars -= fallback_dollars
        saved = baseline_tokens - prompt_tokens - sent_tokens - fallback_tokens
        return Savings(
            baseline_tokens, saved, self.method, dollars, fallback_tokens, completion_tokens
        )


class SentTokens:
    """Counts what clients send beside their texts, in the baseline's tokens.

    It is nearly always one of a few instructions, so the counts of the latest are remembered, by
    their digests. The others are counted in a thread, because a tokenizer takes milliseconds for
    a long one: one request's at a time, and of each request at most `COUNTED_CHARACTERS`, the
    shortest first. Beyond that the tokens are estimated from the characters, whatever the
    baseline's method: such an instruction is no baseline prompt, and costs next to nothing here.
    """

    def __init__(self, count: TokenCounter) -> None:
        self._count = count
        self._known: OrderedDict[bytes, int] = OrderedDict()
        self._counting = asyncio.Lock()

    async def total(self, sent: Sequence[str]) -> int:
        """Return the tokens of all of them. Belongs to the event loop's thread."""
        times = Counter(text for text in sent if text)
        counts = self._recall(times)
        if len(counts) < len(times):
            async with self._counting:
                counts = self._recall(times)  # whoever was before us may have counted them
                new = sorted((text for text in times if text not in counts), key=len)
                ends = list(itertools.accumulate(map(len, new)))
                exact = bisect_right(ends, COUNTED_CHARACTERS)
                counted = await asyncio.to_thread(_count_each, self._count, new[:exact])
                self._remember(counted)
                counts |= counted
                counts |= await asyncio.to_thread(_count_each, estimate_tokens, new[exact:])
        return sum(counts[text] * often for text, often in times.items())

    def _recall(self, texts: Iterable[str]) -> dict[str, int]:
        found = {}
        for text in texts:
            key = _digest(text) if len(text) <= COUNTED_CHARACTERS else b""
            if key in self._known:
                self._known.move_to_end(key)
                found[text] = self._known[key]
        return found

    def _remember(self, counts: Mapping[str, int]) -> None:
        for text, count in counts.items():
            self._known[_digest(text)] = count
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _count_each(count: TokenCounter, texts: Sequence[str]) -> dict[str, int]:
    return {text: count(text) for text in texts}


def savings_counter(bundle: Bundle, prices: Mapping[str, Price]) -> SavingsCounter | None:
    """Return the counter of a bundle, or None where the bundle names no baseline."""
    baseline = bundle.manifest.baseline
    if baseline is None:
        return None
    price = prices.get(baseline.price_model) if baseline.price_model else None
    if bundle.manifest.preprocessing is not None:
        return SavingsCounter(baseline, count_picture_tokens, PICTURE_TOKENS, price)
    if baseline.tokenizer_file is None:
        # The static part may have been counted exactly, the input is not: the sum is an estimate.
        return SavingsCounter(baseline, estimate_tokens, ESTIMATED, price)
    path = bundle.file(baseline.tokenizer_file)
    tokenizer = TextTokenizer.from_file(path, max_tokens=2**20)
    return SavingsCounter(baseline, tokenizer.count, baseline.method, price, tokenizer.count)
