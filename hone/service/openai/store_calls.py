"""Calls of the job store from the event loop: in threads, their refusals in this API's words."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from hone.models.errors import Conflict, HoneError, NotFound
from hone.service.access import Caller
from hone.service.errors import InvalidRequest, NoSuchItem
from hone.service.jobs.audit import Action, AuditLog, Outcome

logger = logging.getLogger(__name__)

P = ParamSpec("P")
Result = TypeVar("Result")


async def asked(call: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
    """Return what a store's call returns; it may block, so that it runs in a thread."""
    with refusals():
        return await asyncio.to_thread(call, *args, **kwargs)


@contextmanager
def refusals() -> Iterator[None]:
    """Turn a missing row into a 404 about the id, and a state that forbids it into a 400.

    A 409 would tell clients to send the same request again, which cannot help here.
    """
    try:
        yield
    except NotFound as error:
        param = getattr(error, "param", "id")
        raise NoSuchItem(_sentence(error), param=param) from None
    except Conflict as error:
        if error.code != Conflict.code:
            raise
        raise InvalidRequest(_sentence(error), code="invalid_state") from None


def note(audit: AuditLog, caller: Caller, action: str, target: str | None) -> None:
    """Write what was done into the audit log. Blocks.

    That it was done stands: a log that cannot be written is only complained of.
    """
    key_id = caller.key.id if caller.key else None
    outcome: Outcome = "done"
    try:
        audit.write(Action(caller.owner, key_id, action, target, outcome))
    except HoneError as error:
        logger.warning("audit log not written", extra={"action": action, "reason": str(error)})


def noted(
    audit: AuditLog, caller: Caller, action: str, call: Callable[P, Result]
) -> Callable[P, Result]:
    """Return the call with an entry in the audit log after it; its last argument is the target."""

    def calling(*args: P.args, **kwargs: P.kwargs) -> Result:
        result = call(*args, **kwargs)
        note(audit, caller, action, str(args[-1]))
        return result

    return calling


def _sentence(error: HoneError) -> str:
    text = str(error)
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
