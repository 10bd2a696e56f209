"""Bodies of requests, read in bounds: JSON objects whole, the rest in pieces."""

from collections.abc import AsyncIterator
from typing import Any, Protocol

from fastapi import Request
from starlette.requests import ClientDisconnect

from hone.service.endpoint import CLIENT_WATCH
from hone.service.errors import InvalidRequest, NotJson, TooLarge
from hone.service.openai.fields import Fields
from hone.service.reading import read_object

_PIECE_BYTES = 256 * 2**10


class PatientClient(Protocol):
    """A connection that can be given time; `protocol.HoneProtocol` is one."""

    def allow_time(self, seconds: float) -> None:
        """Let the request that is being received take so long."""


def allow_time(request: Request, seconds: float) -> None:
    """Let a client take this long to send the request, where the server can be told so."""
    client: PatientClient | None = request.scope.get("extensions", {}).get(CLIENT_WATCH)
    if client is not None:
        client.allow_time(seconds)


async def pieces(request: Request, most_bytes: int) -> AsyncIterator[bytes]:
    """Yield the body in pieces; TooLarge as soon as it has more bytes than allowed.

    InvalidRequest if the client leaves in the middle; nobody reads that.
    """
    _check_length(request, most_bytes)
    size, held = 0, bytearray()
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > most_bytes:
                raise _too_large(most_bytes)
            held += chunk
            if len(held) >= _PIECE_BYTES:
                yield bytes(held)
                held.clear()
    except ClientDisconnect:
        raise InvalidRequest("The client left.", code="client_gone") from None
    if held:
        yield bytes(held)


async def read_json(request: Request, most_bytes: int) -> bytes:
    """Return a body that says it is JSON, not yet parsed; empty if there is none."""
    _check_encoding(request)
    body = b"".join([piece async for piece in pieces(request, most_bytes)])
    kind = request.headers.get("content-type", "")
    if body and kind and "json" not in kind.lower():
        raise NotJson("The body must be application/json.")
    return body


def read_fields(body: bytes) -> Fields:
    """Return the fields of a body that is one JSON object."""
    return Fields(read_object(body))


async def read_nothing(request: Request, most_bytes: int) -> None:
    """Read a body that carries nothing, and refuse what it carries all the same.

    Clients send none, or `{}`, or an empty form.
    """
    body = await read_json(request, most_bytes)
    if body.strip():
        read_fields(body).end()


def take_pairs(fields: Fields, name: str) -> dict[str, str] | None:
    """Return a field of up to 16 pairs of strings: keys of up to 64 characters, values of 512."""
    found: Any = fields.take(name)
    if found is None:
        return None
    if type(found) is not dict or len(found) > 16:
        raise fields.wrong(name, "must be an object with at most 16 pairs")
    for key, value in found.items():
        if not 0 < len(key) <= 64:
            raise fields.wrong(name, "has a key that does not have 1 to 64 characters")
        if type(value) is not str or len(value) > 512:
            raise fields.wrong(name, "has a value that is not a string of at most 512 characters")
    return found


def needed_word(fields: Fields, name: str) -> str:
    """Return a string that must be there."""
    word = fields.word(name)
    if not word:
        raise fields.wrong(name, "is needed, as a string", "missing_required_parameter")
    return word


def _check_length(request: Request, most_bytes: int) -> None:
    length = request.headers.get("content-length")
    if length is not None and (
        not length.isdigit() or len(length) > 18 or int(length) > most_bytes
    ):
        raise _too_large(most_bytes)


def _check_encoding(request: Request) -> None:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise NotJson("The body must not be compressed.")


def _too_large(most_bytes: int) -> TooLarge:
    return TooLarge(f"The body has more than {most_bytes} bytes.")
