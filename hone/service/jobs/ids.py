"""Ids of every kind, and the time of rows.

An id is a prefix and 24 lower-case letters and digits (124 random bits). A job's id is therefore
also a valid model name: the one under which its bundle, and no other's, is published.
"""

import secrets
import string
import time
from collections.abc import Callable
from typing import Literal

ALPHABET = string.ascii_lowercase + string.digits
RANDOM_CHARACTERS = 24

Prefix = Literal[
    "file-", "upload_", "part_", "ftjob-", "ft-", "ftevent-", "ftckpt_", "modelperm-", "req_"
]

Clock = Callable[[], float]
"""Seconds; `time.time` for what people read, `time.monotonic` for how long something lasts."""


def new_id(prefix: Prefix) -> str:
    """Return an id that was never given before."""
    return prefix + random_characters(RANDOM_CHARACTERS)


def random_characters(count: int) -> str:
    """Return `count` random lower-case letters and digits."""
    return "".join(secrets.choice(ALPHABET) for _ in range(count))


def unix_seconds(clock: Clock = time.time) -> int:
    """Return the time of a row: whole seconds since 1970, as the API's objects have it."""
    return int(clock())
