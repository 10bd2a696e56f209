"""What the baseline prompt would have cost for one request, in tokens and in dollars."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hone.comparison.prices import Price, cost_usd
from hone.models.bundle import Bundle
from hone.models.savings import ESTIMATED, BaselinePrompt, TokenCounter, estimate_tokens
from hone.models.tokenizer import TextTokenizer

_REMEMBERED = 32


@dataclass(frozen=True, slots=True)
class Savings:
    """The saving of one request.

    `tokens_saved` is the baseline's prompt tokens less those that our model read and those that
    were sent all the same; it is negative where the prompt was the shorter one. `dollars` is what
    the baseline's calls would have cost at list price without prompt caching, and None where the
    price is not known.
    """

    baseline_prompt_tokens: int
    tokens_saved: int
    method: str
    dollars: float | None


@dataclass(frozen=True, slots=True)
class SavingsCounter:
    """The arithmetic for one model. `count` gives a text's tokens for the baseline's model."""

    baseline: BaselinePrompt
    count: TokenCounter
    method: str
    price: Price | None

    def savings(
        self, *, texts: int, text_tokens: int, prompt_tokens: int, sent_tokens: int = 0
    ) -> Savings:
        """Return what a request saved: each of its `texts` would have been a prompt of its own.

        `text_tokens` is the sum over the texts in the baseline's tokens, `prompt_tokens` the
        tokens that our model read, `sent_tokens` those, in the baseline's tokens, of the shared
        part of the prompts that a client sent though it need not: they are not saved yet.
        """
        baseline_tokens = texts * self.baseline.static_tokens + text_tokens
        dollars = None
        if self.price is not None:
            answered = texts * self.baseline.output_tokens
            dollars = cost_usd(
                self.price, prompt_tokens=baseline_tokens, completion_tokens=answered
            )
        saved = baseline_tokens - prompt_tokens - sent_tokens
        return Savings(baseline_tokens, saved, self.method, dollars)


class SentTokens:
    """Counts what clients send beside their texts, in the baseline's tokens.

    It is nearly always the same instruction, so the latest are remembered; another one is counted
    in a thread, because a tokenizer takes milliseconds for a long one.
    """

    def __init__(self, count: TokenCounter) -> None:
        self._count = count
        self._known: OrderedDict[str, int] = OrderedDict()

    async def total(self, sent: Sequence[str]) -> int:
        """Return the tokens of all of them."""
        counts = {text: self._known[text] for text in sent if text in self._known}
        new = {text for text in sent if text and text not in counts}
        if new:
            counts |= await asyncio.to_thread(self._count_each, new)
            self._known |= counts
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return sum(counts[text] for text in sent if text)

    def _count_each(self, texts: Iterable[str]) -> dict[str, int]:
        return {text: self._count(text) for text in texts}


def savings_counter(bundle: Bundle, prices: Mapping[str, Price]) -> SavingsCounter | None:
    """Return the counter of a bundle, or None where the bundle names no baseline."""
    baseline = bundle.manifest.baseline
    if baseline is None:
        return None
    price = prices.get(baseline.price_model) if baseline.price_model else None
    if baseline.tokenizer_file is None:
        # The static part may have been counted exactly, the input is not: the sum is an estimate.
        return SavingsCounter(baseline, estimate_tokens, ESTIMATED, price)
    path = bundle.file(baseline.tokenizer_file)
    tokenizer = TextTokenizer.from_file(path, max_tokens=2**20)
    return SavingsCounter(baseline, tokenizer.count, baseline.method, price)
