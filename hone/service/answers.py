"""From a finished ticket to the bytes of an answer, and to the counters that it moves."""

import itertools
import secrets
import time
from typing import Any

import orjson

from hone.service.savings import Savings
from hone.service.serving import LoadedModel
from hone.service.tickets import Ticket, WorkItem

_DECIMALS = 6
_prefix = secrets.token_hex(6)
_numbers = itertools.count(1)


def new_request_id() -> str:
    """Return an id that no other request of any process has."""
    return f"cls-{_prefix}{next(_numbers):08x}"


def write_answer(model: LoadedModel, ticket: Ticket, *, top_k: int, request_id: str) -> bytes:
    """Return the JSON answer for a ticket without failures, and count the request."""
    items = ticket.items
    prompt_tokens = sum(item.length for item in items)
    savings = _savings(model, items, prompt_tokens)
    body = {
        "id": request_id,
        "object": "list",
        "created": int(time.time()),
        "model": model.id,
        "data": [_entry(index, item, model.labels, top_k) for index, item in enumerate(items)],
        "usage": {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens},
        "savings": savings
        and {
            "baseline_prompt_tokens": savings.baseline_prompt_tokens,
            "tokens_saved": savings.tokens_saved,
            "method": savings.method,
        },
    }
    model.metrics.prompt_tokens.inc(prompt_tokens)
    model.metrics.answered(ticket, time.perf_counter(), savings)
    return orjson.dumps(body)


def _entry(index: int, item: WorkItem, labels: tuple[str, ...], top_k: int) -> dict[str, Any]:
    if item.row is None or item.order is None:
        raise ValueError("the text has no scores")
    places = item.order[:top_k]
    ranked = [
        {"label": labels[place], "score": round(score, _DECIMALS)}
        for place, score in zip(places.tolist(), item.row[places].tolist(), strict=True)
    ]
    best = ranked[0]
    return {
        "index": index,
        "label": best["label"],
        "confidence": best["score"],
        "scores": ranked,
    }


def _savings(model: LoadedModel, items: list[WorkItem], prompt_tokens: int) -> Savings | None:
    if model.savings is None:
        return None
    return model.savings.savings(
        texts=len(items),
        text_tokens=sum(item.baseline_tokens for item in items),
        prompt_tokens=prompt_tokens,
    )
