"""`POST /v1/decisions`: questions about one input, answered from a classifier's probabilities.

A classifier knows one question, the one that it was trained on, so what is asked must be about its
labels; `instructions` are checked and not read.

    choice      each value is a label (true and false are the labels `true` and `false`); the
                probabilities are the labels' own, renormalised over the given choices
    score       each level is a label; its value is its place, from 0; the score is the mean value
    predicate   the probability of the label that `name` is; or, of a model with two labels, of the
                positive one: the recipe's, or the yes of a pair such as `yes` and `no`

What cannot be mapped so is refused by its place. An answer whose choices have no probability at
all is a refusal, as the API has it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.types import Scope

from hone.models.prompt_form import NOTHING_READ, Reading, Turn
from hone.service.answers import Bill, savings_body
from hone.service.endpoint import Reply
from hone.service.errors import InvalidRequest
from hone.service.openai.fields import Fields
from hone.service.openai.messages import read_messages
from hone.service.reading import check_model, check_text, read_object
from hone.service.serving import LoadedModel
from hone.service.settings import Settings
from hone.service.tickets import Ticket

MOST_QUESTIONS = 400
MOST_OPTIONS = 255

_YES = {"true": "false", "yes": "no", "1": "0", "positive": "negative"}
_PARTS = ("input_text", "output_text")

Value = str | bool


@dataclass(frozen=True, slots=True)
class Asked:
    """One question: its options in order, none for a predicate; `place` is where it stands."""

    kind: str
    name: str | None
    options: tuple[Value, ...]
    place: str

    def labels(self, model: LoadedModel) -> list[int]:
        """Return the places of the labels that it is about; InvalidRequest for what is none."""
        if not self.options:
            return [model.labels.index(_asserted(self, model))]
        places = {label: place for place, label in enumerate(model.labels)}
        found = [places.get(_label(option)) for option in self.options]
        for number, place in enumerate(found):
            if place is None:
                raise self._unmapped(number)
        known = [place for place in found if place is not None]
        if len(set(known)) < len(known):
            raise InvalidRequest(f"'{self.place}' names a label twice.", param=self.place)
        return known

    def _unmapped(self, number: int) -> InvalidRequest:
        field_name = "choices" if self.kind == "choice" else "levels"
        place = f"{self.place}.{field_name}[{number}]"
        message = f"'{place}' is no label of this model; GET /v1/models names them."
        return InvalidRequest(message, param=place, code="unknown_label")


@dataclass(slots=True)
class DecisionQuestion:
    """One input and what is asked about it."""

    model: str
    given: str | list[Turn]
    asked: list[Asked]
    max_characters: int
    reading: Reading = NOTHING_READ
    places: list[list[int]] = field(default_factory=list)

    def texts(self, model: LoadedModel) -> Sequence[str]:
        """Return the one text; InvalidRequest for a question that this model cannot answer."""
        self.places = [asked.labels(model) for asked in self.asked]
        self.reading = model.prompt_form.read(self.given)
        check_text(self.reading.text, "input", self.max_characters)
        return [self.reading.text]

    def sent_beside(self) -> Sequence[str]:
        """Return the instruction that was sent along."""
        return [self.reading.taken_off]

    def wants_label(self, model: LoadedModel) -> bool:
        """Return whether a choice among all labels is asked: that is what the prompt answers."""
        return any(
            asked.kind == "choice" and len(places) == len(model.labels)
            for asked, places in zip(self.asked, self.places, strict=True)
        )

    def place(self, index: int) -> str:
        """Return the place of the only text."""
        del index
        return "input"

    def reply(self, model: LoadedModel, ticket: Ticket, bill: Bill, request_id: str) -> Reply:
        """Return an answer for each question, in their order."""
        del request_id
        row = ticket.items[0].row
        if row is None:
            raise ValueError("the text has no scores")
        scores = row.tolist()
        said = ticket.items[0]
        by_prompt = said.answer if said.answered_by == "prompt" else None
        answers = [
            _answer(asked, places, scores, by_prompt)
            for asked, places in zip(self.asked, self.places, strict=True)
        ]
        body = {"model": model.shown_as, "answers": answers, "usage": _usage(bill)}
        return Reply(orjson.dumps(body | {"savings": savings_body(bill)}))


def _label(option: Value) -> str:
    return str(option).lower() if type(option) is bool else str(option)


def _asserted(asked: Asked, model: LoadedModel) -> str:
    """Return the label whose probability a predicate asks for."""
    labels = model.labels
    if asked.name in labels:
        return asked.name
    if len(labels) == 2:
        if model.facts.positive_label is not None:
            return model.facts.positive_label
        for first, second in (labels, labels[::-1]):
            if _YES.get(first.casefold()) == second.casefold():
                return first
    raise InvalidRequest(
        f"'{asked.place}' cannot be answered by this model: let its 'name' be one of the labels.",
        param=f"{asked.place}.name",
        code="unknown_label",
    )


def _answer(
    asked: Asked, places: list[int], every: list[float], by_prompt: int | None
) -> dict[str, Any]:
    """Return an answer from the scores of all labels; `by_prompt` is a label's place."""
    scores = [every[place] for place in places]
    if asked.kind == "predicate":
        return {"type": "predicate", "name": asked.name, "probability": scores[0]}
    total = sum(scores)
    if total <= 0:
        return {"type": "refusal", "name": asked.name}
    shares = [score / total for score in scores]
    if asked.kind == "score":
        return _score(asked, shares)
    best = max(range(len(shares)), key=shares.__getitem__)
    if by_prompt is not None and len(places) == len(every):
        best = places.index(by_prompt)
    return _choice(asked, shares, best)


def _choice(asked: Asked, shares: list[float], best: int) -> dict[str, Any]:
    return {
        "type": "choice",
        "name": asked.name,
        "choice": asked.options[best],
        "confidence": shares[best],
        "probabilities": [
            {"value": value, "probability": share}
            for value, share in zip(asked.options, shares, strict=True)
        ],
    }


def _score(asked: Asked, shares: list[float]) -> dict[str, Any]:
    return {
        "type": "score",
        "name": asked.name,
        "score": sum(value * share for value, share in enumerate(shares)),
        "confidence": max(shares),
        "probabilities": [
            {"label": label, "value": value, "probability": share}
            for value, (label, share) in enumerate(zip(asked.options, shares, strict=True))
        ],
    }


def _usage(bill: Bill) -> dict[str, Any]:
    return {
        "input_tokens": bill.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 0,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": bill.prompt_tokens,
    }


def read_decision(body: bytes, settings: Settings, scope: Scope) -> DecisionQuestion:
    """Read a body; InvalidRequest with the field that is wrong."""
    del scope
    fields = Fields(read_object(body))
    model = check_model(fields.take("model"))
    given = fields.take("input")
    if type(given) is str:
        check_text(given, "input", settings.max_characters)
    else:
        given = read_messages(given, "input", settings, parts=_PARTS)
    asked = _questions(fields)
    fields.word("prompt_cache_key")
    fields.word("safety_identifier")
    fields.take("prompt_cache_options")
    fields.end()
    return DecisionQuestion(model, given, asked, settings.max_characters)


def _questions(fields: Fields) -> list[Asked]:
    value = fields.take("questions")
    if type(value) is not list or not 0 < len(value) <= MOST_QUESTIONS:
        raise fields.wrong("questions", f"must be a list of 1 to {MOST_QUESTIONS} questions")
    return [_question(question, f"questions[{i}]") for i, question in enumerate(value)]


def _question(value: Any, place: str) -> Asked:  # noqa: ANN401 - any JSON
    if type(value) is not dict:
        raise InvalidRequest(f"'{place}' must be a question.", param=place)
    fields = Fields(value, f"{place}.")
    kind = fields.take("type")
    if type(kind) is not str or kind not in {"predicate", "choice", "score"}:
        raise fields.wrong("type", "must be 'predicate', 'choice' or 'score'")
    if type(fields.take("instructions")) not in {str, list}:
        raise fields.wrong("instructions", "must be a string or a list of parts")
    name = fields.word("name")
    options = () if kind == "predicate" else _options(fields, kind)
    fields.end()
    return Asked(kind, name, options, place)


def _options(fields: Fields, kind: str) -> tuple[Value, ...]:
    name, key = ("choices", "value") if kind == "choice" else ("levels", "label")
    kinds: set[type] = {str, bool} if kind == "choice" else {str}
    listed = fields.take(name)
    if type(listed) is not list or not 2 <= len(listed) <= MOST_OPTIONS:
        raise fields.wrong(name, f"must be a list of 2 to {MOST_OPTIONS}")
    values: list[Any] = [option.get(key) if type(option) is dict else None for option in listed]
    for number, (option, value) in enumerate(zip(listed, values, strict=True)):
        if type(value) not in kinds or not option.keys() <= {key, "description"}:
            raise fields.wrong(
                f"{name}[{number}]", f"must have a '{key}' and may have a description"
            )
    return tuple(values)
