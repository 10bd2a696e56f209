"""What an answered request cost and saved, and the counters that it moves."""

import itertools
import secrets
import time
from typing import Any, NamedTuple

from hone.service.savings import Savings
from hone.service.serving import LoadedModel
from hone.service.tickets import Ticket

_prefix = secrets.token_hex(6)
_numbers = itertools.count(1)


class Bill(NamedTuple):
    """The tokens that the model read for a request, and what that saved; None without baseline."""

    prompt_tokens: int
    savings: Savings | None


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
    if model.savings is None:
        return Bill(prompt_tokens, None)
    savings = model.savings.savings(
        texts=len(items),
        text_tokens=sum(item.baseline_tokens for item in items),
        prompt_tokens=prompt_tokens,
        sent_tokens=sent_tokens,
    )
    return Bill(prompt_tokens, savings)


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
    return {
        "baseline_prompt_tokens": savings.baseline_prompt_tokens,
        "tokens_saved": savings.tokens_saved,
        "method": savings.method,
    }
