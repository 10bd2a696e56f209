"""Says of settings that cannot be used which they are, and why."""

from collections.abc import Callable

from pydantic import ValidationError

from hone.models.errors import InvalidInput


def wrong_settings(error: ValidationError, name: Callable[[str], str] = str) -> InvalidInput:
    """Return the error that names every setting with a value it cannot have, each once.

    `name` makes of a field's name the one that the operator knows.
    """
    first: dict[str, str] = {}
    for problem in error.errors(include_url=False, include_context=False):
        place = next(iter(problem["loc"]), None)
        first.setdefault("settings" if place is None else name(str(place)), problem["msg"])
    problems = [f"{place}: {message}" for place, message in first.items()]
    return InvalidInput("the settings cannot be used:\n  - " + "\n  - ".join(problems))
