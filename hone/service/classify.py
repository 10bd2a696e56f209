"""`POST /v1/classify`: texts or pictures in, labels with calibrated scores out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.types import Scope

from hone.service.answers import Bill, created_now, savings_body
from hone.service.endpoint import FORM_TYPE, Reply, content_type
from hone.service.errors import InvalidRequest
from hone.service.picture_forms import read_picture_form
from hone.service.reading import check_inputs, check_model, read_object
from hone.service.schemas import DEFAULT_TOP_K
from hone.service.serving import LoadedModel
from hone.service.settings import Settings
from hone.service.tickets import Input, Ticket, WorkItem

_DECIMALS = 6
_FIELDS = frozenset({"model", "input", "top_k"})


@dataclass(frozen=True, slots=True)
class ClassifyQuestion:
    """A request to classify; each text gets its `top_k` best labels.

    `listed` says that the inputs came as a list; `field` that they were files of a form.
    """

    model: str
    given: Sequence[Input]
    top_k: int
    listed: bool = True
    field: str = "input"

    def texts(self, model: LoadedModel) -> Sequence[Input]:
        """Return the texts or pictures as they were sent."""
        del model
        return self.given

    def sent_beside(self) -> Sequence[str]:
        """Return nothing: all that is sent is read."""
        return ()

    def wants_label(self, model: LoadedModel) -> bool:
        """Return that it does."""
        del model
        return True

    def place(self, index: int) -> str:
        """Return the place in the body of a text, or of what is a picture's data."""
        place = f"{self.field}[{index}]" if self.listed else self.field
        embedded = self.field == "input" and type(self.given[index]) is bytes
        return f"{place}.image" if embedded else place

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
    """Read a body, JSON or a form; InvalidRequest with the field that is wrong."""
    kind = content_type(scope)
    if FORM_TYPE in kind.lower():
        return _read_form(body, kind.decode("latin-1"), settings)
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
    given = content.get("input")
    inputs = check_inputs(given, "input", settings)
    return ClassifyQuestion(model, inputs, top_k, listed=type(given) is list)


def _read_form(body: bytes, kind: str, settings: Settings) -> ClassifyQuestion:
    form = read_picture_form(body, kind)
    fields = dict(form.fields)
    model = check_model(fields.pop("model", None))
    top_k = fields.pop("top_k", str(DEFAULT_TOP_K))
    if not (top_k.isascii() and top_k.isdigit() and 1 <= len(top_k) <= 6 and int(top_k)):
        raise InvalidRequest("'top_k' must be a whole number from 1 up.", param="top_k")
    for name in fields:
        message = f"There is no field {name[:80]!r}; there are model, top_k and image."
        raise InvalidRequest(message, param=name[:80], code="unknown_field")
    return ClassifyQuestion(model, form.pictures(settings.max_pictures), int(top_k), field="image")


def _entry(index: int, item: WorkItem, labels: tuple[str, ...], top_k: int) -> dict[str, Any]:
    if item.row is None or item.order is None:
        raise ValueError("the text has no scores")
    places, answer = item.order[:top_k], item.prompt_answer
    ranked = [
        {"label": labels[place], "score": round(score, _DECIMALS)}
        for place, score in zip(places.tolist(), item.row[places].tolist(), strict=True)
    ]
    return {
        "index": index,
        "label": labels[item.answer],
        "confidence": round(float(item.row[item.answer]), _DECIMALS),
        "scores": ranked,
        "answered_by": item.answered_by,
        "fallback": None if answer is None else answer.outcome,
    }
