"""`POST /v1/chat/completions`: messages in, a label out; for a model of pictures, one picture.

The system message and the opening turns that all training chats had may be sent or not.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hone.models.prompt_form import NOTHING_READ, Reading, Turn
from hone.service.answers import Bill, savings_body
from hone.service.endpoint import Reply
from hone.service.errors import InvalidRequest
from hone.service.openai.fields import Fields
from hone.service.openai.messages import SentPicture, read_messages, unsupported_part
from hone.service.openai.sampling import (
    MOST_TOKENS,
    Sampling,
    answer_head,
    answered_label,
    check_choices,
    ranked_labels,
    read_sampling,
    streamed,
    usage_body,
    whole,
)
from hone.service.reading import check_text
from hone.service.serving import LoadedModel
from hone.service.settings import Settings
from hone.service.tickets import Input, Ticket

MOST_LOGPROBS = 20

_UNSUPPORTED = (
    "audio", "function_call", "functions", "metadata", "moderation", "parallel_tool_calls",
    "prediction", "tools", "web_search_options", "store",
)  # fmt: skip
_WITHOUT_EFFECT = ("safety_identifier", "prompt_cache_key", "prompt_cache_retention")
_HARMLESS: dict[str, tuple[Any, ...]] = {
    "modalities": (["text"],),
    "reasoning_effort": ("none",),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "tool_choice": ("none",),
    "verbosity": ("medium",),
}
"""What may be sent of a field that is not supported: what is done anyway."""


@dataclass(slots=True)
class ChatQuestion:
    """A chat to answer; `logprobs` is how many labels to show, None for no log-probabilities."""

    model: str
    turns: list[Turn]
    sampling: Sampling
    logprobs: int | None
    max_characters: int
    reading: Reading = NOTHING_READ
    pictures: Sequence[SentPicture] = ()

    def texts(self, model: LoadedModel) -> Sequence[Input]:
        """Return the one text that the training data would have had for this chat, or picture."""
        if model.takes_pictures:
            return [self._picture()]
        if self.pictures:
            raise unsupported_part(self.pictures[0].place)
        self.reading = model.prompt_form.read(self.turns)
        if not self.reading.text:
            message = "'messages' holds nothing but what all prompts share."
            raise InvalidRequest(message, param="messages", code="empty_text")
        check_text(self.reading.text, "messages", self.max_characters)
        return [self.reading.text]

    def _picture(self) -> bytes:
        if len(self.pictures) != 1:
            message = (
                f"'messages' holds {len(self.pictures)} pictures; this model classifies one a chat."
            )
            raise InvalidRequest(message, param="messages", code="one_picture_needed")
        if self.pictures[0].problem is not None:
            raise self.pictures[0].problem
        said = "\n".join(turn.content for turn in self.turns if turn.content)
        self.reading = Reading("", said)
        return self.pictures[0].content

    def sent_beside(self) -> Sequence[str]:
        """Return the instruction that was sent along."""
        return [self.reading.taken_off]

    def wants_label(self, model: LoadedModel) -> bool:
        """Return that it does."""
        del model
        return True

    def place(self, index: int) -> str:
        """Return the place of the only text, or of the only picture."""
        del index
        return self.pictures[0].place if self.pictures else "messages"

    def reply(self, model: LoadedModel, ticket: Ticket, bill: Bill, request_id: str) -> Reply:
        """Return `n` choices."""
        item = ticket.items[0]
        answer = answered_label(model, item)
        said = self.sampling.cut(answer[0])
        logprobs = None
        if self.logprobs is not None:
            logprobs = _logprobs(answer, ranked_labels(model, item, self.logprobs))
        usage = usage_body(bill, self.sampling.n)
        last = {"usage": usage, "savings": savings_body(bill)}
        if self.sampling.stream:
            head = answer_head(model, "chat.completion.chunk", request_id)
            parts = _parts(self.sampling.n, said, logprobs)
            return streamed(head, parts, last if self.sampling.include_usage else None)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": said,
            "refusal": None,
            "annotations": [],
        }
        choice = {"message": message, "logprobs": logprobs, "finish_reason": "stop"}
        head = answer_head(model, "chat.completion", request_id)
        return whole(head, [{"index": i, **choice} for i in range(self.sampling.n)], last)


def _parts(n: int, said: str, logprobs: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    begun: dict[str, Any] = {"logprobs": None, "finish_reason": None}
    for index in range(n):
        opening = {"role": "assistant", "content": "", "refusal": None}
        yield {"index": index, "delta": opening, **begun}
        yield {"index": index, "delta": {"content": said}, **begun, "logprobs": logprobs}
        yield {"index": index, "delta": {}, "logprobs": None, "finish_reason": "stop"}


def _logprobs(answer: tuple[str, float], top: Sequence[tuple[str, float]]) -> dict[str, Any]:
    said, *best = (
        {"token": label, "logprob": logprob, "bytes": list(label.encode())}
        for label, logprob in (answer, *top)
    )
    return {"content": [{**said, "top_logprobs": best}], "refusal": None}


def read_chat_completion(
    content: Mapping[str, Any], model: str, settings: Settings
) -> ChatQuestion:
    """Read a body, its model left out; InvalidRequest with the field that is wrong."""
    fields = Fields(content)
    fields.none_of(_UNSUPPORTED)
    for name, harmless in _HARMLESS.items():
        fields.one_of(name, harmless)
    for name in _WITHOUT_EFFECT:
        fields.word(name)
    pictures: list[SentPicture] = []
    turns = read_messages(
        fields.take("messages"), "messages", settings, parts=("text",), pictures=pictures
    )
    sampling = read_sampling(fields)
    check_choices(sampling.n, 1, settings.max_items)
    logprobs = _shown(fields)
    for name in ("max_tokens", "max_completion_tokens"):
        fields.whole(name, MOST_TOKENS, low=1, high=MOST_TOKENS)
    fields.end()
    return ChatQuestion(
        model, turns, sampling, logprobs, settings.max_characters, pictures=pictures
    )


def _shown(fields: Fields) -> int | None:
    """Return how many labels to show with log-probabilities, None for no log-probabilities."""
    wanted = fields.flag("logprobs")
    shown = fields.whole_if_any("top_logprobs", low=0, high=MOST_LOGPROBS)
    if shown is not None and not wanted:
        raise fields.wrong("top_logprobs", "is only for 'logprobs': true")
    return shown or 0 if wanted else None
