"""Lists as they are sent: read and encoded in a thread, and written piece by piece.

The event loop must not stand still for a list, however long it is. An item is encoded at a time,
as one call over a whole list would hold the interpreter from another thread too; and no piece of
the body is large, as the loop copies each.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import ParamSpec

import orjson
from starlette.responses import Response, StreamingResponse

from hone.service.openai.store_calls import asked
from hone.service.schemas import Body

P = ParamSpec("P")

Pieces = Sequence[bytes]
"""A body, in pieces of `_PIECE_BYTES` and up to one item more."""

_PIECE_BYTES = 256 * 2**10


async def list_answer(make: Callable[P, Pieces], *args: P.args, **kwargs: P.kwargs) -> Response:
    """Return the answer whose body `make` reads from the store."""
    pieces = await asked(make, *args, **kwargs)
    if len(pieces) == 1:
        return Response(pieces[0], media_type="application/json")
    headers = {"content-length": str(sum(map(len, pieces)))}
    return StreamingResponse(_sent(pieces), headers=headers, media_type="application/json")


def list_body(items: Iterable[Body], **more: object) -> Pieces:
    """Return the body of a list; `more` stands beside its `data`."""
    rest = b"]," + orjson.dumps(more)[1:] if more else b"]}"
    return list(_pieces(b'{"object":"list","data":[', items, rest))


def _pieces(head: bytes, items: Iterable[Body], tail: bytes) -> Iterator[bytes]:
    parts, size = [head], 0
    for number, item in enumerate(items):
        encoded = item.model_dump_json().encode()
        if size >= _PIECE_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
        parts += [b",", encoded] if number else [encoded]
        size += len(encoded)
    yield b"".join([*parts, tail])


async def _sent(pieces: Pieces) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
        await asyncio.sleep(0)  # what one turn of the loop writes is sent as one
