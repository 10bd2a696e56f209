"""What this room reads from the environment: keys of APIs, by the names that a file gives."""

import os

from hone.models.errors import InvalidInput


def read_api_key(variable: str) -> str:
    """Return the key that an environment variable holds; InvalidInput without one.

    The key is for the request's header alone: it goes into no file, message or log.
    """
    key = os.environ.get(variable, "").strip()
    if not key:
        raise InvalidInput(f"the environment variable {variable} holds no key")
    if not key.isascii() or not key.isprintable():
        raise InvalidInput(f"the key in the environment variable {variable} cannot be in a header")
    return key
