"""Pictures embedded in JSON as data URLs, in requests and in training files. Nothing is fetched.

Two forms of a training example:

    {"image": "data:image/jpeg;base64,...", "label": "cat"}
    {"messages": [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:..."}}]},
        {"role": "assistant", "content": "cat"}]}
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hone.models.imaging.decoding import check_picture
from hone.models.imaging.headers import Header, UnusablePicture, sniff

_DATA_URL = re.compile(r"data:(?P<type>[a-z]+/[a-z0-9.+-]+);base64,", re.IGNORECASE)
_LONGEST_HEAD = 100
_SCHEME = re.compile(r"(https?|ftp|file|blob|s3|gs):", re.IGNORECASE)
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4}){4,}[A-Za-z0-9+/]*={0,2}")
_WHITE_SPACE = re.compile(r"\s")
_KINDS: dict[type, str] = {
    type(None): "null",
    bool: "a truth value",
    list: "a list",
    dict: "an object",
}
_ALIASES = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png"}
_ANY_TYPE = "application/octet-stream"

PICTURE_FORM = "data:image/jpeg;base64,… (or png, webp)"
"""How a picture is embedded, as messages say it."""


class NotEmbedded(UnusablePicture):
    """A value that is no data URL: an address, a path, base64 alone, no string at all."""

    code = "picture_not_embedded"


class BrokenBase64(UnusablePicture):
    """A data URL whose content cannot be decoded."""

    code = "invalid_base64"


def decode_data_url(value: Any) -> tuple[bytes, str]:  # noqa: ANN401 - any JSON
    """Return the bytes of `data:image/...;base64,...` and the type it states.

    The messages of NotEmbedded and BrokenBase64 are ends of sentences that begin with the place.
    """
    head = _DATA_URL.match(value[:_LONGEST_HEAD]) if type(value) is str else None
    if head is None:
        raise NotEmbedded(f"is {_what_it_is(value)}: a picture is sent as {PICTURE_FORM}")
    body = value[head.end() :]
    try:
        content = base64.b64decode(body.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        why = ": it has white space in it" if _WHITE_SPACE.search(body) else ""
        raise BrokenBase64(f"is not valid base64{why}") from None
    return content, head["type"]


def _what_it_is(value: object) -> str:
    """Say what somebody sent in place of a data URL."""
    if not isinstance(value, str):
        return _KINDS.get(type(value), "a number")
    return _kind_of_string(value, value[:_LONGEST_HEAD].strip()) if value.strip() else "empty"


def _kind_of_string(value: str, head: str) -> str:
    if head[:5].lower() == "data:":
        before, whole, _ = head[5:].lower().partition(";base64,")
        if not whole:
            return "a data URL without base64"
        more = "more than a type" if ";" in before else "no type of a picture"
        return f"a data URL with {more} before its base64"
    if "://" in head or _SCHEME.match(head):
        return "an address, and addresses are not fetched"
    if _is_bare_base64(value):
        return "base64 without the beginning of a data URL"
    return "no data URL, and paths are not read"


def _is_bare_base64(value: str) -> bool:
    """Tell whether a string is a picture in base64, or long and of nothing but its characters."""
    start = value[:_LONGEST_HEAD]
    if not _BASE64.fullmatch(start):
        return False
    return len(start) == _LONGEST_HEAD or sniff(base64.b64decode(start[:16])) is not None


def is_data_url(value: object) -> bool:
    """Tell whether a value looks like an embedded picture, good or not."""
    return type(value) is str and _DATA_URL.match(value[:_LONGEST_HEAD]) is not None


def stated_type(media_type: str | None) -> str | None:
    """Return the usual name of a type that a client states; None for one that says nothing."""
    called = (media_type or _ANY_TYPE).strip().lower()
    return None if called == _ANY_TYPE else _ALIASES.get(called, called)


@dataclass(frozen=True, slots=True)
class PictureExample:
    """A picture's bytes, the type they are stated to be, and the label to learn."""

    content: bytes
    media_type: str
    label: str

    def check(self) -> Header:
        """Return the picture's header; UnusablePicture, as the end of a sentence, otherwise."""
        try:
            return check_picture(self.content, media_type=stated_type(self.media_type))
        except UnusablePicture as error:
            raise UnusablePicture(f"has a picture that cannot be used: {error}") from None


def holds_picture(messages: object) -> bool:
    """Tell whether a chat shows a picture."""
    return next(_pictures(messages), None) is not None


def picture_example(line: Mapping[str, Any]) -> PictureExample:
    """Return the example of one JSON object; UnusablePicture, as the end of a sentence, if none."""
    chat = "messages" in line
    if not chat and "image" not in line:
        raise UnusablePicture("has no 'image'")
    value, label = _of_chat(line["messages"]) if chat else (line.get("image"), line.get("label"))
    if isinstance(label, int) and not isinstance(label, bool):
        label = str(label)
    if not isinstance(label, str) or not label.strip():
        what = "message of the assistant with the label" if chat else "'label' with text"
        raise UnusablePicture(f"has no {what}")
    try:
        return PictureExample(*decode_data_url(value), label.strip())
    except UnusablePicture as error:
        raise UnusablePicture(f"has a picture that {error}") from None


def _of_chat(messages: object) -> tuple[object, object]:
    """Return the address of a chat's one picture, and what the assistant says last."""
    shown = list(_pictures(messages))
    if len(shown) != 1:
        raise UnusablePicture(f"has {len(shown)} pictures in its messages, and one is needed")
    asked, address = shown[0]
    after = messages[asked + 1 :] if isinstance(messages, list) else []
    said = [m for m in after if isinstance(m, dict) and m.get("role") == "assistant"]
    learned = [message for message in said if message.get("weight") != 0]
    return address, _text(learned[-1].get("content")) if learned else None


def _pictures(messages: object) -> Iterator[tuple[int, object]]:
    """Yield the place of each message of a user that shows a picture, and the picture's address."""
    for place, message in enumerate(messages if isinstance(messages, list) else ()):
        if not isinstance(message, dict) or message.get("role") != "user":
            continue
        for part in _parts(message.get("content")):
            if part.get("type") == "image_url":
                value = part.get("image_url")
                yield place, value.get("url") if isinstance(value, dict) else value


def _text(content: object) -> str | None:
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "")) for part in _parts(content)) or None


def _parts(content: object) -> Sequence[Mapping[str, Any]]:
    parts = content if isinstance(content, list) else []
    return [part for part in parts if isinstance(part, dict)]
