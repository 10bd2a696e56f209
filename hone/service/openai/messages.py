"""Chat messages: roles, texts, pictures; what a classifier cannot read is refused by its place."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from hone.models.decoding.chat_messages import (
    MOST_NESTED,
    Call,
    ChatMessage,
    nested_too_deep,
)
from hone.models.decoding.tool_grammars import MOST_CALLS
from hone.models.prompt_form import INSTRUCTING_ROLES, Turn
from hone.service.errors import InvalidRequest
from hone.service.openai.fields import Fields
from hone.service.openai.tools import tool_name
from hone.service.pictures import embedded_picture
from hone.service.settings import Settings

MOST_MESSAGES = 2048
CAUSAL_READER = "a causal model of this service"

_ROLES = INSTRUCTING_ROLES | {"user", "assistant"}
_DETAILS = (None, "auto", "low", "high")
_DETAIL_WANTED = "has a picture whose 'detail' is none of auto, low and high"
_UNREADABLE: tuple[str, ...] = ("tool_calls", "function_call", "tool_call_id", "audio", "refusal")


@dataclass(frozen=True, slots=True)
class SentPicture:
    """A picture of a message, by its place in the body; `problem` says why it cannot be used.

    Only a model that reads pictures is bothered by that: for another, any picture is too much.
    """

    place: str
    content: bytes = b""
    problem: InvalidRequest | None = None


def read_messages(
    value: Any,  # noqa: ANN401 - any JSON
    place: str,
    settings: Settings,
    *,
    parts: Collection[str],
    pictures: list[SentPicture] | None = None,
) -> list[Turn]:
    """Return the turns of a list of messages, whose contents may be lists of these `parts`.

    Pictures of users' messages are added to `pictures`, where that is given. InvalidRequest unless
    there is a user's turn that says or shows something.
    """
    reader = _Reader(settings.max_characters, parts, pictures)
    messages = _read_all(value, place, reader)
    if not pictures:
        _check_asked(messages, place)
    return [Turn(message.role, message.content) for message in messages]


def read_chat(value: Any, place: str, settings: Settings) -> list[ChatMessage]:  # noqa: ANN401 - any JSON
    """Return the messages of a chat for a causal model, tool calls and their answers included.

    Which messages make a chat is for the model's template to say.
    """
    reader = _ToolReader(settings.max_characters, ("text",), None, reader=CAUSAL_READER)
    return _read_all(value, place, reader)


def _read_all(value: Any, place: str, reader: "_Reader") -> list[ChatMessage]:  # noqa: ANN401
    if type(value) is not list or not value:
        raise InvalidRequest(f"'{place}' must be a list of messages.", param=place)
    if len(value) > MOST_MESSAGES:
        message = f"'{place}' has {len(value)} messages; at most {MOST_MESSAGES} are taken."
        raise InvalidRequest(message, param=place, code="too_many_items")
    return [reader.message(message, f"{place}[{index}]") for index, message in enumerate(value)]


def _check_asked(messages: Iterable[ChatMessage], place: str) -> None:
    if not any(message.role == "user" and message.content.strip() for message in messages):
        message = f"'{place}' has no user's message with a text."
        raise InvalidRequest(message, param=place, code="empty_text")


def _sent_picture(part: dict[str, Any], fields: Fields) -> SentPicture:
    place = fields.named("content")
    value = part.get("image_url")
    shown = value if type(value) is dict else {"url": value}
    try:
        if shown.get("detail") not in _DETAILS:
            raise fields.wrong("content", _DETAIL_WANTED)
        return SentPicture(place, embedded_picture(shown.get("url"), place))
    except InvalidRequest as error:
        return SentPicture(place, problem=error)


def unsupported_part(place: str, *, shows: bool = False) -> InvalidRequest:
    """Return the error of a part that the reader has no use for; `shows`: it takes pictures."""
    taken = "text and an 'image_url'" if shows else "text only"
    message = f"'{place}' may hold {taken}."
    return InvalidRequest(message, param=place, code="unsupported_content")


class _Reader:
    roles = _ROLES
    unreadable = _UNREADABLE

    def __init__(
        self,
        max_characters: int,
        parts: Collection[str],
        pictures: list[SentPicture] | None,
        *,
        reader: str = "a classifier",
    ) -> None:
        self.reader = reader
        self._max_characters = max_characters
        self._parts = parts
        self._pictures = pictures

    def message(self, value: Any, place: str) -> ChatMessage:  # noqa: ANN401 - any JSON
        """Return one message."""
        if type(value) is not dict:
            raise InvalidRequest(f"'{place}' must be a message.", param=place)
        fields = Fields(value, f"{place}.", reader=self.reader)
        fields.one_of("type", ("message",))
        role = fields.take("role")
        if type(role) is not str:
            raise fields.wrong("role", "must be a string such as 'user'")
        if role not in self.roles:
            raise fields.unsupported("role")
        fields.none_of(self.unreadable)
        content = self._content(fields, role)
        calls, answers = self.tools(fields, role)
        fields.word("name")
        fields.take("annotations")  # of an answer that is sent back; they say nothing new
        fields.take("phase")
        fields.end()
        return ChatMessage(role, content, calls, answers)

    def tools(self, fields: Fields, role: str) -> tuple[tuple[Call, ...], Call | None]:
        """Return an assistant's calls, or the call that a tool's message answers."""
        del fields, role
        return (), None

    def _content(self, fields: Fields, role: str) -> str:
        value = fields.take("content")
        if value is None and role == "assistant":
            return ""
        text = self._text_of_parts(value, fields, role) if type(value) is list else value
        if type(text) is not str:
            raise fields.wrong("content", "must be a string or a list of text parts")
        if len(text) > self._max_characters:
            what = f"has {len(text)} characters; at most {self._max_characters} are taken"
            raise fields.wrong("content", what, "text_too_long")
        return text

    def _text_of_parts(self, parts: list[Any], fields: Fields, role: str) -> str:
        texts = []
        for part in parts:
            kind = part.get("type") if type(part) is dict else None
            if kind == "image_url" and role == "user" and self._pictures is not None:
                self._pictures.append(_sent_picture(part, fields))
                continue
            if type(kind) is str and kind not in self._parts:
                shows = role == "user" and self._pictures is not None
                raise unsupported_part(fields.named("content"), shows=shows)
            text = part.get("text") if type(kind) is str else None
            if type(text) is not str:
                raise fields.wrong("content", "must be a string or a list of text parts")
            texts.append(text)
        return "".join(texts)


class _ToolReader(_Reader):
    """Also reads what assistants called, and what the tools answered."""

    roles = _ROLES | {"tool"}
    unreadable = ("function_call", "audio", "refusal")

    def __init__(self, *given: Any, **more: Any) -> None:  # noqa: ANN401 - as its parent's
        super().__init__(*given, **more)
        self._calls: dict[str, Call] = {}

    def tools(self, fields: Fields, role: str) -> tuple[tuple[Call, ...], Call | None]:
        """Return an assistant's calls, or the call that a tool's message answers."""
        if role == "tool":
            fields.none_of(["tool_calls"])
            found = fields.take("tool_call_id")
            if type(found) is not str or found not in self._calls:
                raise fields.wrong("tool_call_id", "must be the id of a call in a message before")
            return (), self._calls[found]
        fields.none_of(["tool_call_id"])
        value = fields.take("tool_calls")
        if not value:
            return (), None
        if role != "assistant":
            raise fields.wrong("tool_calls", "is for an assistant's message")
        if type(value) is not list or len(value) > MOST_CALLS:
            raise fields.wrong("tool_calls", f"must be a list of at most {MOST_CALLS} calls")
        place = fields.named("tool_calls")
        calls = tuple(self._call(call, f"{place}[{n}]") for n, call in enumerate(value))
        self._calls |= {call.id: call for call in calls}
        return calls, None

    def _call(self, value: Any, place: str) -> Call:  # noqa: ANN401 - any JSON
        if type(value) is not dict:
            raise InvalidRequest(f"'{place}' must be a tool call.", param=place)
        outer = Fields(value, f"{place}.", reader=self.reader)
        if outer.take("type") != "function":
            raise outer.unsupported("type")
        number = outer.word("id")
        if not number:
            raise outer.wrong("id", "must be a string")
        function = outer.take("function")
        outer.take("index")  # of a stream's pieces that were put together
        outer.end()
        if type(function) is not dict:
            raise outer.wrong("function", "must be an object")
        inner = Fields(function, f"{place}.function.", reader=self.reader)
        name, arguments = tool_name(inner), inner.take("arguments")
        inner.end()
        return Call(number, name, self._arguments(arguments, inner))

    def _arguments(self, value: Any, fields: Fields) -> dict[str, Any]:  # noqa: ANN401 - any JSON
        try:
            found = orjson.loads(value) if type(value) is str else None
        except orjson.JSONDecodeError:
            found = None
        if type(found) is not dict:
            raise fields.wrong("arguments", "must be a string that is a JSON object")
        if nested_too_deep(found):
            raise fields.wrong("arguments", f"is nested more than {MOST_NESTED} deep")
        if len(value) > self._max_characters:
            what = f"has {len(value)} characters; at most {self._max_characters} are taken"
            raise fields.wrong("arguments", what, "text_too_long")
        return found
