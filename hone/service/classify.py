"""`POST /v1/classify`: texts in, labels with calibrated scores out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.types import Scope

from hone.service.answers import Bill, created_now, savings_body
from hone.service.endpoint import Reply
from hone.service.errors import InvalidRequest
from hone.service.reading import check_model, check_texts, read_object
from hone.service.schemas import DEFAULT_TOP_K
from hone.service.serving import LoadedModel
from hone.service.settings import Settings
from hone.service.tickets import Ticket, WorkItem

_DECIMALS = 6
_FIELDS = frozenset({"model", "input", "top_k"})


@dataclass(frozen=True, slots=True)
class ClassifyQuestion:
    """A request to classify; each text gets its `top_k` best labels."""

    model: str
    given: Sequence[str]
    top_k: int

    def texts(self, model: LoadedModel) -> Sequence[str]:
        """Return the texts as they were sent."""
        del model
        return self.given

    def sent_beside(self) -> Sequence[str]:
        """Return nothing: all that is sent is read."""
        return ()

    def place(self, index: int) -> str:
        """Return the text's place in the body."""
        return f"input[{index}]"

    def reply(self, model: LoadedModel, ticket: Ticket, bill: Bill, request_id: str) -> Reply:
        """Return one entry for each text."""
        labels, top_k = model.labels, self.top_k
        body = {
            "id": request_id,
            "object": "list",
            "created": created_now(),
            "model": model.shown_as,
            "data": [_entry(index, item, labels, top_k) for index, item in enumerate(ticket.items)],
            "usage": {"prompt_tokens": bill.prompt_tokens, "total_tokens": bill.prompt_tokens},
            "savings": savings_body(bill),
        }
        return Reply(orjson.dumps(body))


def read_classify(body: bytes, settings: Settings, scope: Scope) -> ClassifyQuestion:
    """Read a body; InvalidRequest with the field that is wrong."""
    del scope
    content = read_object(body)
    for name in content:
        if name not in _FIELDS:
            raise InvalidRequest(
                f"There is no field {name[:80]!r}; there are model, input and top_k.",
                param=name[:80],
                code="unknown_field",
            )
    model = check_model(content.get("model"))
    top_k = content.get("top_k", DEFAULT_TOP_K)
    if type(top_k) is not int or top_k < 1:
        raise InvalidRequest("'top_k' must be a whole number from 1 up.", param="top_k")
    return ClassifyQuestion(model, check_texts(content.get("input"), "input", settings), top_k)


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
