"""What an answered request cost and saved, and the counters that it moves."""

import itertools
import math
import secrets
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from hone.service.savings import Savings
from hone.service.serving import LoadedModel
from hone.service.tickets import PromptAnswer, Ticket

_prefix = secrets.token_hex(6)
_numbers = itertools.count(1)


class Bill(NamedTuple):
    """The tokens that the model read for a request, and what that saved; None without baseline.

    `fallback_tokens` are those of prompts that were asked as well.
    """

    prompt_tokens: int
    savings: Savings | None
    fallback_tokens: int = 0


def new_request_id(prefix: str) -> str:
    """Return an id that no other request of any process has."""
    return f"{prefix}-{_prefix}{next(_numbers):08x}"


def created_now() -> int:
    """Return the Unix time in seconds."""
    return int(time.time())


def make_bill(model: LoadedModel, ticket: Ticket, sent_tokens: int = 0) -> Bill:
    """Return the bill of a ticket without failures.

    `sent_tokens` are those of the prompts that were sent and not read, as the baseline counts.
    """
    items = ticket.items
    prompt_tokens = sum(item.tokens for item in items)
    said = [item.prompt_answer for item in items if item.prompt_answer is not None]
    fallback_tokens = sum(answer.prompt_tokens for answer in said)
    if model.savings is None:
        return Bill(prompt_tokens, None, fallback_tokens)
    savings = model.savings.savings(
        texts=len(items),
        text_tokens=sum(item.baseline_tokens for item in items),
        prompt_tokens=prompt_tokens,
        sent_tokens=sent_tokens,
        fallback_tokens=fallback_tokens,
        fallback_dollars=_dollars(said),
    )
    return Bill(prompt_tokens, savings, fallback_tokens)


def _dollars(answers: Sequence[PromptAnswer]) -> float | None:
    """Return what calls to a prompt cost together; None if that of one is not known."""
    known = [answer.dollars for answer in answers if answer.dollars is not None]
    return math.fsum(known) if len(known) == len(answers) else None


def answered_by_headers(ticket: Ticket) -> list[tuple[bytes, bytes]]:
    """Return the headers that say who answered: one word, or one for each text where they differ.

    Of more than 32 texts that differ it is `mixed`: proxies refuse headers of more than some KiB.

    `x-hone-fallback` is there only if a text was below the threshold.
    """
    said = [item.prompt_answer for item in ticket.items]
    if not any(said):
        return _BY_MODEL
    whose = _listed([item.answered_by for item in ticket.items])
    outcomes = _listed(["none" if answer is None else answer.outcome for answer in said])
    return [(b"x-hone-answered-by", whose), (b"x-hone-fallback", outcomes)]


_BY_MODEL = [(b"x-hone-answered-by", b"model")]


_MOST_WORDS = 32


def _listed(words: Sequence[str]) -> bytes:
    if len(set(words)) == 1:
        return words[0].encode()
    return (", ".join(words) if len(words) <= _MOST_WORDS else "mixed").encode()


def count_answer(model: LoadedModel, ticket: Ticket, bill: Bill, arrived_at: float) -> None:
    """Count an answered request; `arrived_at` is when its body was there, as `perf_counter`."""
    model.metrics.prompt_tokens.inc(bill.prompt_tokens)
    model.metrics.answered(
        ticket, arrived_at=arrived_at, ended_at=time.perf_counter(), savings=bill.savings
    )


def savings_body(bill: Bill) -> dict[str, Any] | None:
    """Return `savings` as it stands in an answer."""
    savings = bill.savings
    if savings is None:
        return None
    said = savings.baseline_completion_tokens
    return {
        "baseline_prompt_tokens": savings.baseline_prompt_tokens,
        **({} if said is None else {"baseline_completion_tokens": said}),
        "tokens_saved": savings.tokens_saved,
        "fallback_tokens": savings.fallback_tokens,
        "method": savings.method,
    }
