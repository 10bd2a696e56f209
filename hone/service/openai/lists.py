"""Lists as they are sent: read and encoded in a thread, however long they are.

An item is encoded at a time. One call over a whole list would hold the interpreter for as long as
it takes, and the event loop would stand still although the call runs in another thread.
"""

from collections.abc import Callable, Iterable
from typing import ParamSpec

import orjson
from starlette.responses import Response

from hone.service.openai.store_calls import asked
from hone.service.schemas import Body

P = ParamSpec("P")


async def list_answer(make: Callable[P, bytes], *args: P.args, **kwargs: P.kwargs) -> Response:
    """Return the answer whose body `make` reads from the store."""
    return Response(await asked(make, *args, **kwargs), media_type="application/json")


def list_body(items: Iterable[Body], **more: object) -> bytes:
    """Return the body of a list; `more` stands beside its `data`."""
    data = b",".join([item.model_dump_json().encode() for item in items])
    rest = b"," + orjson.dumps(more)[1:] if more else b"}"
    return b'{"object":"list","data":[' + data + b"]" + rest
