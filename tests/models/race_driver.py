"""Several processes at one store: writers, a remover and a reader, each a fork of this one.

    python -m tests.models.race_driver /tmp/store

Prints one JSON object: the versions that each writer was given, and every complaint.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hone.models.errors import NotFound
from hone.models.names import ModelReference
from hone.models.registry import Registry
from tests.models.bodies import publish

WRITERS, VERSIONS_EACH, READINGS = 4, 8, 60

Complaints = list[str]


def write(store: Path) -> list[int]:
    """Publish several versions of the one model and return their numbers."""
    registry = Registry(store)
    return [publish(registry, size=100).version for _ in range(VERSIONS_EACH)]


def come_and_go(store: Path) -> Complaints:
    """Publish and remove versions of another model; while others sweep, nothing may fail."""
    registry = Registry(store)
    publish(registry, "other", size=100)
    for _ in range(VERSIONS_EACH):
        number = publish(registry, "other", size=100).version
        registry.promote(ModelReference("other", version=number))
        registry.remove("other", number - 1)
    versions = registry.listing("other").versions
    return [] if versions == [VERSIONS_EACH + 1] else [f"other has {versions}"]


def read(store: Path) -> Complaints:
    """Open whatever is listed; no reader may see a part of a bundle or a number go back."""
    registry, highest = Registry(store), 0
    for _ in range(READINGS):
        try:
            latest = registry.open(ModelReference("support")).manifest.version
        except NotFound:
            continue
        if latest < highest:
            return [f"latest went back from {highest} to {latest}"]
        highest = latest
    return []


def fork(work: Callable[[Path], Any], store: Path) -> int:
    """Run `work` in a fork; return the descriptor that its answer, or its error, comes by."""
    receiver, sender = os.pipe()
    if os.fork():
        os.close(sender)
        return receiver
    try:
        answer = work(store)
    except Exception as error:  # noqa: BLE001 - the parent reports it
        answer = [repr(error)]
    os.write(sender, json.dumps(answer).encode())
    os._exit(0)


def answer_from(end: int) -> Any:
    """Return what a fork sent."""
    with os.fdopen(end, "rb") as receiver:
        return json.loads(receiver.read())


def main(store: Path) -> dict[str, Any]:
    """Let all of them loose on one store."""
    writers = [fork(write, store) for _ in range(WRITERS)]
    others = [fork(work, store) for work in (come_and_go, read, read)]
    given = [answer_from(end) for end in writers]
    complaints = [complaint for end in others for complaint in answer_from(end)]
    left = [str(path) for path in (store / ".staging").glob("[!.]*")]
    return {"given": given, "complaints": complaints + left}


if __name__ == "__main__":
    with patch("os.fsync"):
        print(json.dumps(main(Path(sys.argv[1]))))
