"""What both completion APIs let a client ask for beside the prompt.

A classifier's answer is the most probable label, whatever the temperature: clients leave the
temperature at its default of 1 without wanting a less probable label, and whoever wants the
distribution has it, exactly, in the log-probabilities. So `n` choices are the same label, the
best of any number is that label, and what only steers sampling is checked and has no effect.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from hone.service.answers import Bill, created_now
from hone.service.endpoint import Reply
from hone.service.errors import InvalidRequest
from hone.service.openai.fields import Fields
from hone.service.serving import LoadedModel
from hone.service.tickets import WorkItem

MOST_CHOICES = 128
MOST_STOPS = 4
MOST_TOKENS = 2**31 - 1
IMPOSSIBLE = -9999.0
"""The log-probability of what has none, as the API writes it: JSON has no minus infinity."""

_SEEDS = 2**63
_STREAM = b"text/event-stream; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Sampling:
    """`n` choices, cut at the first of `stops`; streamed if `stream`, then with usage if asked."""

    n: int
    stops: tuple[str, ...]
    stream: bool
    include_usage: bool

    def cut(self, text: str) -> str:
        """Return a completion up to its first stop."""
        found = (text.find(stop) for stop in self.stops)
        return text[: min((place for place in found if place >= 0), default=len(text))]


def read_sampling(fields: Fields) -> Sampling:
    """Take the fields of both APIs; InvalidRequest for a bad one."""
    fields.number("temperature", low=0, high=2)
    fields.number("top_p", low=0, high=1)
    fields.number("presence_penalty", low=-2, high=2)
    fields.number("frequency_penalty", low=-2, high=2)
    fields.whole("seed", 0, low=-_SEEDS, high=_SEEDS - 1)
    fields.word("user")
    fields.none_of(["logit_bias"])
    n = fields.whole("n", 1, low=1, high=MOST_CHOICES)
    stream = fields.flag("stream")
    return Sampling(n, _stops(fields), stream, _include_usage(fields, stream=stream))


def _stops(fields: Fields) -> tuple[str, ...]:
    value = fields.take("stop")
    stops = [value] if type(value) is str else [] if value is None else value
    if type(stops) is not list or not all(type(stop) is str for stop in stops):
        raise fields.wrong("stop", "must be a string or a list of strings")
    if len(stops) > MOST_STOPS:
        raise fields.wrong("stop", f"has more than {MOST_STOPS} strings")
    return tuple(stop for stop in stops if stop)  # an empty one would never let anything be said


def _include_usage(fields: Fields, *, stream: bool) -> bool:
    value = fields.take("stream_options")
    if value is None:
        return False
    if type(value) is not dict or not stream:
        raise fields.wrong("stream_options", "is an object, and only for streams")
    options = Fields(value, "stream_options.")
    include_usage = options.flag("include_usage")
    options.flag("include_obfuscation")  # against the timing of tokens, of which there is one
    options.end()
    return include_usage


def check_choices(n: int, prompts: int, most: int) -> None:
    """Raise InvalidRequest when the answer would have more than `most` choices."""
    if n * prompts > most:
        raise InvalidRequest(
            f"'n' for each of {prompts} prompts makes {n * prompts} choices; at most {most} go "
            "into one answer.",
            param="n",
            code="too_many_items",
        )


def ranked_labels(model: LoadedModel, item: WorkItem, count: int) -> list[tuple[str, float]]:
    """Return the `count` most probable labels and their log-probabilities, best first."""
    if item.row is None or item.order is None:
        raise ValueError("the text has no scores")
    places = item.order[:count]
    return [
        (model.labels[place], math.log(score) if score > 0 else IMPOSSIBLE)
        for place, score in zip(places.tolist(), item.row[places].tolist(), strict=True)
    ]


def answered_label(model: LoadedModel, item: WorkItem) -> tuple[str, float]:
    """Return the label to answer with, and the log-probability that the model gives it."""
    if item.row is None:
        raise ValueError("the text has no scores")
    place = item.answer
    score = float(item.row[place])
    return model.labels[place], math.log(score) if score > 0 else IMPOSSIBLE


def answer_head(model: LoadedModel, kind: str, request_id: str) -> dict[str, Any]:
    """Return the fields with which every answer and every part of a stream begins."""
    return {
        "id": request_id,
        "object": kind,
        "created": created_now(),
        "model": model.shown_as,
        "system_fingerprint": f"fp_{model.facts.digest[:10]}",
    }


def usage_body(bill: Bill, completion_tokens: int) -> dict[str, int]:
    """Return `usage`; a label is one token."""
    return {
        "prompt_tokens": bill.prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": bill.prompt_tokens + completion_tokens,
    }


def streamed(
    head: dict[str, Any],
    parts: Iterable[dict[str, Any]],
    last: dict[str, Any] | None,
) -> Reply:
    """Return server-sent events: one for each part of a choice, and `last` with the usage.

    All is known when the first could be sent, so that it is one body with a length.
    """
    beside = {} if last is None else {"usage": None}
    events = [head | {"choices": [part]} | beside for part in parts]
    if last is not None:
        events.append(head | {"choices": []} | last)
    frames = [b"data: " + orjson.dumps(event) + b"\n\n" for event in events]
    return Reply(b"".join([*frames, b"data: [DONE]\n\n"]), _STREAM)


def whole(head: dict[str, Any], choices: Sequence[dict[str, Any]], last: dict[str, Any]) -> Reply:
    """Return an answer in one piece."""
    return Reply(orjson.dumps(head | {"choices": choices} | last))
