"""Examples as token ids, each with the weight that it has in the loss."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from jinja2.exceptions import TemplateError

from hone.models.decoding.chat_messages import shown_messages
from hone.models.decoding.templates import ChatTemplate
from hone.models.decoding.tool_forms import find_tool_form
from hone.models.errors import InvalidExamples, InvalidInput
from hone.training.generation.conversations import (
    Completion,
    Conversation,
    Example,
    Message,
    Preference,
)

Template = Literal["plain", "chat"]
LongExamples = Literal["leave_out", "cut"]
Segment = tuple[str, float]
"""A piece of an example's text, and the weight of its tokens in the loss."""


@dataclass(frozen=True, slots=True)
class TrainedText:
    """Token ids (tokens,) and the weight of each in the loss, 0 for what is only read.

    `full_length` counts the tokens before any were cut off.
    """

    ids: tuple[int, ...]
    weights: tuple[float, ...]
    full_length: int

    @property
    def trained(self) -> int:
        """How many tokens the loss is on. The first token is never predicted."""
        return sum(weight > 0 for weight in self.weights[1:])

    def cut(self, longest: int) -> "TrainedText":
        """Return no more than the first `longest` tokens."""
        return TrainedText(self.ids[:longest], self.weights[:longest], self.full_length)


@dataclass(frozen=True, slots=True)
class EncodedExamples:
    """A split's texts that are used; counts of what was done to the long ones.

    `rows` are the places of the used ones among those given.
    """

    texts: list[TrainedText]
    rows: list[int]
    left_out: int = 0
    truncated: int = 0

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each text, int64 (rows,)."""
        return np.array([len(text.ids) for text in self.texts], dtype=np.int64)


Prompt = str | Sequence[Message] | Conversation
"""What an answer is to follow: a text, or a chat, maybe with tools."""


class ConversationEncoder:
    """Writes examples as the base reads them, and tells what of them is trained on.

    `tokenizer` is the base's, of transformers. A plain prompt and its completion follow each
    other as they are, and the end-of-text token ends the completion. A chat is written by the
    base's chat template; trained on are the assistant's words with what the template ends them
    with. Prompts' tokens are always those that the prompt has alone, as it is sent to a server.
    """

    def __init__(
        self,
        tokenizer: Any,  # noqa: ANN401 - transformers has no types
        *,
        template: Template,
        prompt_loss_weight: float = 0.0,
    ) -> None:
        if tokenizer.eos_token_id is None:
            raise InvalidInput("the base's tokenizer names no end-of-text token")
        if template == "chat" and not tokenizer.chat_template:
            raise InvalidInput(
                "the base has no chat template: take an instruction-tuned base, a scratch: base, "
                "or prompts with completions and dataset.template=plain"
            )
        self.tokenizer = tokenizer
        self.template = template
        named = tokenizer.chat_template
        # Of several the one that is served; the library would take another where there are tools.
        self._template = named.get("default") if isinstance(named, dict) else named
        self.prompt_weight = prompt_loss_weight

    def encode(self, example: Completion | Conversation) -> TrainedText:
        """Return an example's tokens and their weights; InvalidExamples if it cannot be written."""
        return self._encode(self.segments(example), ends=not self._is_chat(example))

    def encode_pair(self, example: Preference) -> tuple[TrainedText, TrainedText]:
        """Return the prompt with the better answer, and with the worse."""
        chosen, rejected = (self._answered(example, a) for a in (example.chosen, example.rejected))
        return self.encode(chosen), self.encode(rejected)

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Return the tokens of a prompt that an answer is to follow."""
        if isinstance(prompt, str) and self.template == "plain":
            return self._ids(prompt, special=True)
        messages = [Message("user", prompt)] if isinstance(prompt, str) else prompt
        chat = messages if isinstance(messages, Conversation) else Conversation(tuple(messages))
        return self._ids(self._rendered(chat, answer_follows=True), special=False)

    @cached_property
    def knows_tools(self) -> bool:
        """Whether the base's chat template shows the model tools, in a form that can be served."""
        try:
            return find_tool_form(self._served_template) is not None
        except InvalidInput:
            return False

    @cached_property
    def _served_template(self) -> ChatTemplate:
        """The base's template as a service renders it; InvalidInput where it cannot be read."""
        return ChatTemplate(self._template or "", self.tokenizer.special_tokens_map)

    def segments(self, example: Completion | Conversation) -> list[Segment]:
        """Return the pieces of an example's text, with the weight of each."""
        if not self._is_chat(example):
            assert isinstance(example, Completion)  # noqa: S101 - what is no chat has a completion
            return [(example.prompt, self.prompt_weight), (example.completion, 1.0)]
        chat = example if isinstance(example, Conversation) else _as_chat(example)
        return self._chat_segments(chat)

    def _is_chat(self, example: Completion | Conversation) -> bool:
        return self.template == "chat" or isinstance(example, Conversation)

    def _answered(self, example: Preference, answer: str) -> Completion | Conversation:
        if isinstance(example.prompt, str):
            return Completion(example.prompt, answer)
        before = (replace(message, weight=0.0) for message in example.prompt)
        return Conversation((*before, Message("assistant", answer)))

    def _chat_segments(self, chat: Conversation) -> list[Segment]:
        segments: list[Segment] = []
        written = ""
        for end, message in enumerate(chat.messages, start=1):
            if message.role != "assistant":
                continue
            asked = self._rendered(chat.until(end - 1), answer_follows=True)
            answered = self._rendered(chat.until(end), answer_follows=False)
            if not (asked.startswith(written) and answered.startswith(asked)):
                raise InvalidExamples(
                    "the base's chat template rewrites earlier turns when later ones follow, so "
                    "that its answers cannot be told apart: give chats with one answer"
                )
            segments.append((asked[len(written) :], self.prompt_weight))
            segments.append((answered[len(asked) :], message.weight))
            written = answered
        return segments

    def _rendered(self, chat: Conversation, *, answer_follows: bool) -> str:
        try:
            if not chat.messages:  # the assistant begins; transformers renders no empty chat
                return self._served_template.render([], tools=chat.tools)
            text: str = self.tokenizer.apply_chat_template(
                shown_messages(chat.messages),
                tools=list(chat.tools) or None,
                chat_template=self._template,
                tokenize=False,
                add_generation_prompt=answer_follows,
            )
        except (InvalidInput, TemplateError, ValueError, TypeError) as error:
            roles = ", ".join(message.role for message in chat.messages)
            raise InvalidExamples(
                "the base's chat template does not take the roles of these messages: "
                + (roles or "an assistant's that nothing stands before")
            ) from error
        return text

    def _encode(self, segments: Sequence[Segment], *, ends: bool) -> TrainedText:
        """Encode pieces so that each has the tokens that it would have behind those before it.

        Where a token would stand across a border, the pieces are encoded apart: a server reads
        the prompt alone, too.
        """
        text, ids, weights = "", list[int](), list[float]()
        for number, (piece, weight) in enumerate(segments):
            whole = self._ids(text + piece, special=ends)
            joins = number == 0 or whole[: len(ids)] == ids
            new = whole[len(ids) :] if joins else self._ids(piece, special=False)
            text += piece
            ids += new
            weights += [weight] * len(new)
        if ends:
            ids.append(self.tokenizer.eos_token_id)
            weights.append(segments[-1][1])
        return TrainedText(tuple(ids), tuple(weights), len(ids))

    def _ids(self, text: str, *, special: bool) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=special)
        if special and len(ids) > 1 and ids[-1] == self.tokenizer.eos_token_id:
            ids = ids[:-1]  # some tokenizers end every text; a prompt does not end yet
        return ids


def _as_chat(example: Completion) -> Conversation:
    return Conversation((Message("user", example.prompt), Message("assistant", example.completion)))


def fit(texts: Sequence[TrainedText], *, longest: int, policy: LongExamples) -> EncodedExamples:
    """Cut or leave out what is longer than `longest` tokens, and what has nothing to learn then."""
    used, rows, truncated = list[TrainedText](), list[int](), 0
    for row, text in enumerate(texts):
        if len(text.ids) > longest and policy == "leave_out":
            continue
        kept = text.cut(longest)
        if kept.trained:
            used.append(kept)
            rows.append(row)
            truncated += len(kept.ids) < text.full_length
    return EncodedExamples(used, rows, len(texts) - len(used), truncated)


def template_for(wanted: str, examples: Sequence[Example]) -> Template:
    """Return `chat` or `plain`; `auto` takes the one that the data is written in."""
    if wanted in {"plain", "chat"}:
        return "chat" if wanted == "chat" else "plain"
    return "chat" if any(map(is_chat, examples)) else "plain"


def is_chat(example: Example) -> bool:
    """Whether an example was written as messages."""
    if isinstance(example, Preference):
        return not isinstance(example.prompt, str)
    return isinstance(example, Conversation)
