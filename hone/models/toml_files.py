"""Files that people write in TOML: recipes and experiments. Every problem is named at once."""

import difflib
import tomllib
from collections.abc import Callable, Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError


class Group(BaseModel):
    """A group of a file; the docstrings of its keys are their reference.

    Unknown keys and values of another type are refused.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


def parse_toml(content: bytes, name: str) -> dict[str, Any]:
    """Return a file's table; ValueError says what is wrong with it, `name` being what it is called.

    A byte order mark is taken off.
    """
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ValueError(f"{name} is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{name} is not TOML: {error}") from None
    except (ValueError, RecursionError):  # a number of thousands of digits; as many brackets
        raise ValueError(f"{name} is not TOML that can be read") from None


def fault_of_keys(message: str, *keys: str) -> PydanticCustomError:
    """Return what a validator of a group raises for keys that do not go together.

    `message` has no braces. Which keys these are stands in the error's context (`keys_of`).
    """
    return PydanticCustomError("keys", message, {"keys": keys})


def keys_of(found: ErrorDetails) -> frozenset[str]:
    """Return the keys that an error about a whole group is about; none where it does not say."""
    return frozenset(found.get("ctx", {}).get("keys", ()))


_SAID_BY_THEMSELVES = frozenset(
    {"extra_forbidden", "missing", "union_tag_invalid", "union_tag_not_found"}
)
"""Problems whose message needs no value beside it."""
_TABLES = frozenset({"model_type", "model_attributes_type", "dict_type", "dataclass_type"})


def complaints(
    error: ValidationError,
    *,
    place: Callable[[ErrorDetails], str],
    known_keys: Callable[[ErrorDetails], Iterable[str]],
    own_words: Callable[[ErrorDetails], str | None] = lambda _: None,
    hidden: Callable[[ErrorDetails], bool] = lambda _: False,
) -> list[str]:
    """Say each wrong place once, in the file's own terms.

    `place` names where a problem is, `known_keys` what might have been meant by an unknown key, and
    `own_words` may word a problem otherwise; a value that is `hidden` is not repeated, as it may
    hold a secret. A value that may be one type or another fails once for each; the messages are
    joined.
    """
    places: dict[str, dict[str, None]] = {}
    shown: dict[str, str] = {}
    for found in error.errors():
        where = place(found)
        message = own_words(found)
        if message is None and found["type"] == "extra_forbidden":
            message = f"unknown key{suggestion(str(found['loc'][-1]), known_keys(found))}"
        elif message is None and found["type"] == "missing":
            message = "missing"
        elif message is None:
            message = _in_words(found)
        tells = found["type"] not in _SAID_BY_THEMSELVES and not hidden(found)
        if tells and isinstance(found["input"], str | int | float | bool | list):
            shown[where] = f" (it is {found['input']!r:.80})"
        places.setdefault(where, {})[message] = None
    return [
        f"{where}: {' or '.join(messages)}{shown.get(where, '')}".removeprefix(": ")
        for where, messages in places.items()
    ]


def _in_words(found: ErrorDetails) -> str:
    """Return what pydantic says of a value, without names of this program's own classes."""
    if found["type"] in _TABLES:
        return "should be a table"
    if found["type"] == "too_short":
        least = found.get("ctx", {}).get("min_length")
        return f"should have {least} entries at least"
    return found["msg"].removeprefix("Value error, ").removeprefix("Input ")


def suggestion(wrong: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'key'?` with the known key that is nearest; empty if none is near."""
    near = difflib.get_close_matches(wrong, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
