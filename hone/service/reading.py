"""Reading a request's body: hostile bytes in, checked values out.

A request is read by hand, because each of its refusals needs a sentence, a field and a code of
its own, and because the general validators of this field echo what they were sent.
"""

from typing import Any

import orjson

from hone.models.imaging.embedded import is_data_url
from hone.service.errors import InvalidRequest
from hone.service.pictures import embedded_picture
from hone.service.schemas import LONGEST_REFERENCE
from hone.service.settings import Settings
from hone.service.tickets import Input


def read_object(body: bytes) -> dict[str, Any]:
    """Return the body's one JSON object; InvalidRequest if it is anything else."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        message = f"The body is not valid JSON ({place})."
        raise InvalidRequest(message, code="invalid_json") from None
    if type(content) is not dict:
        raise InvalidRequest("The body is not a JSON object.", code="invalid_json")
    return content


def check_model(model: Any) -> str:  # noqa: ANN401 - any JSON
    """Return the name of a model; InvalidRequest if it cannot be one."""
    if type(model) is not str or not 0 < len(model) <= LONGEST_REFERENCE:
        raise InvalidRequest("'model' must be a string such as 'support'.", param="model")
    return model


def check_texts(
    value: Any,  # noqa: ANN401 - any JSON
    name: str,
    settings: Settings,
    *,
    blank: bool = False,
) -> list[str]:
    """Return the texts of a field that may be one or a list of them; `blank` ones if allowed."""
    if type(value) is str:
        check_text(value, name, settings.max_characters, blank=blank)
        return [value]
    if type(value) is not list or not value:
        raise InvalidRequest(f"'{name}' must be a string or a list of strings.", param=name)
    if len(value) > settings.max_items:
        raise InvalidRequest(
            f"'{name}' has {len(value)} texts; at most {settings.max_items} go into one request.",
            param=name,
            code="too_many_items",
        )
    for index, text in enumerate(value):
        check_text(text, f"{name}[{index}]", settings.max_characters, blank=blank)
    return value


def check_inputs(value: Any, name: str, settings: Settings) -> list[Input]:  # noqa: ANN401 - any JSON
    """Return the inputs of a field: one text or picture, or a list of them.

    A picture is `{"image": "data:image/jpeg;base64,..."}`.
    """
    if type(value) is not list:
        return [_input(value, name, settings)]
    if not value:
        raise InvalidRequest(f"'{name}' is an empty list.", param=name)
    most, kind = settings.max_items, "texts"
    if any(type(item) is dict for item in value):
        most, kind = settings.max_pictures, "inputs with pictures"
    if len(value) > most:
        raise InvalidRequest(
            f"'{name}' has {len(value)} {kind}; at most {most} go into one request.",
            param=name,
            code="too_many_items",
        )
    return [_input(item, f"{name}[{index}]", settings) for index, item in enumerate(value)]


def _input(value: Any, place: str, settings: Settings) -> Input:  # noqa: ANN401 - any JSON
    if type(value) is dict:
        return _picture(value, place)
    if type(value) is not str:
        listed = "" if place.endswith("]") else ", or a list of these"
        message = f"'{place}' must be a string, or an object with 'image'{listed}."
        raise InvalidRequest(message, param=place)
    if len(value) > settings.max_characters and is_data_url(value):
        raise picture_as_text(place)
    check_text(value, place, settings.max_characters)
    return value


def picture_as_text(place: str) -> InvalidRequest:
    """Return the error of a picture that was sent as if it were a text."""
    return InvalidRequest(
        f"'{place}' is a picture as a string: send it as an object, "
        '{"image": "data:image/jpeg;base64,…"}.',
        param=place,
        code="wrong_kind_of_input",
    )


def _picture(value: dict[str, Any], place: str) -> bytes:
    if set(value) != {"image"}:
        message = f"'{place}' must be a string, or an object with 'image' and nothing else."
        raise InvalidRequest(message, param=place)
    return embedded_picture(value["image"], f"{place}.image")


def check_text(
    text: Any,  # noqa: ANN401 - any JSON
    name: str,
    max_characters: int,
    *,
    blank: bool = False,
) -> None:
    """Raise InvalidRequest unless it is a string, not too long, that says something or may not."""
    if type(text) is not str:
        raise InvalidRequest(f"'{name}' must be a string.", param=name)
    if not blank and (not text or text.isspace()):
        raise InvalidRequest(f"'{name}' is empty.", param=name, code="empty_text")
    if len(text) > max_characters:
        raise InvalidRequest(
            f"'{name}' has {len(text)} characters; at most {max_characters} are taken.",
            param=name,
            code="text_too_long",
        )
