"""Chat messages: roles, texts, pictures; what a classifier cannot read is refused by its place."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from hone.models.prompt_form import INSTRUCTING_ROLES, Turn
from hone.service.errors import InvalidRequest
from hone.service.openai.fields import Fields
from hone.service.pictures import embedded_picture
from hone.service.settings import Settings

MOST_MESSAGES = 2048

_ROLES = INSTRUCTING_ROLES | {"user", "assistant"}
_UNREADABLE = ("tool_calls", "function_call", "tool_call_id", "audio", "refusal")


@dataclass(frozen=True, slots=True)
class SentPicture:
    """A picture of a message; `problem` says what keeps it from being used.

    Only a model that reads pictures is bothered by that: for another, any picture is too much.
    """

    content: bytes
    unreadable: InvalidRequest
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
    if type(value) is not list or not value:
        raise InvalidRequest(f"'{place}' must be a list of messages.", param=place)
    if len(value) > MOST_MESSAGES:
        message = f"'{place}' has {len(value)} messages; at most {MOST_MESSAGES} are taken."
        raise InvalidRequest(message, param=place, code="too_many_items")
    reader = _Reader(settings.max_characters, parts, pictures)
    turns = [reader.turn(message, f"{place}[{index}]") for index, message in enumerate(value)]
    if not pictures and not any(turn.role == "user" and turn.content.strip() for turn in turns):
        message = f"'{place}' has no user's message with a text."
        raise InvalidRequest(message, param=place, code="empty_text")
    return turns


def _sent_picture(part: dict[str, Any], fields: Fields) -> SentPicture:
    unreadable = fields.wrong("content", "may hold text only", "unsupported_content")
    value = part.get("image_url")
    url = value.get("url") if type(value) is dict else value
    place = str(unreadable.param)
    try:
        return SentPicture(embedded_picture(url, place), unreadable)
    except InvalidRequest as error:
        return SentPicture(b"", unreadable, error)


class _Reader:
    def __init__(
        self,
        max_characters: int,
        parts: Collection[str],
        pictures: list[SentPicture] | None,
    ) -> None:
        self._max_characters = max_characters
        self._parts = parts
        self._pictures = pictures

    def turn(self, value: Any, place: str) -> Turn:  # noqa: ANN401 - any JSON
        """Return one message."""
        if type(value) is not dict:
            raise InvalidRequest(f"'{place}' must be a message.", param=place)
        fields = Fields(value, f"{place}.")
        fields.one_of("type", ("message",))
        role = fields.take("role")
        if type(role) is not str:
            raise fields.wrong("role", "must be a string such as 'user'")
        if role not in _ROLES:
            raise fields.unsupported("role")
        fields.none_of(_UNREADABLE)
        content = self._content(fields, role)
        fields.word("name")
        fields.take("annotations")  # of an answer that is sent back; they say nothing new
        fields.take("phase")
        fields.end()
        return Turn(role, content)

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
                raise fields.wrong("content", "may hold text only", "unsupported_content")
            text = part.get("text") if type(kind) is str else None
            if type(text) is not str:
                raise fields.wrong("content", "must be a string or a list of text parts")
            texts.append(text)
        return "".join(texts)
