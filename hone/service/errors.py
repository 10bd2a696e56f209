"""From an error to an HTTP status and the one error body, in the OpenAI shape.

    HoneError (hone.models.errors)
    ├── InvalidInput        400     what it says may be shown: it is about the caller's own words
    │   └── InvalidRequest  400     `param` names the field
    │       ├── TooLarge          413
    │       └── NotJson           415
    ├── NotFound            404     `param` names the field, where one is named
    │   └── NoSuchItem      404     `param` names the field or the part of the address
    ├── Conflict            409
    ├── Unauthorized        401
    ├── Forbidden           403
    ├── Overloaded          429     with Retry-After
    │   └── RateLimited     429     also with the limits' headers
    ├── NotReady            503     with Retry-After
    │   └── BatcherClosed
    ├── InferenceFailed     500
    ├── with a `status`     as it says, such as the job store's DiskFull: 507
    └── every other         500     the message stays in the log

A response never holds a path, another library's words, or more than 200 characters of the
caller's text.
"""

import math
from dataclasses import dataclass, field

import orjson

from hone.models.errors import Conflict, HoneError, InvalidInput, NotFound, Overloaded

_LONGEST_MESSAGE = 500


class InvalidRequest(InvalidInput):
    """A request body that cannot be used; `param` is the field that is wrong."""

    code = "invalid_request"
    status = 400

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        if code is not None:
            self.code = code


class TooLarge(InvalidRequest):
    """A body of more bytes than the limit."""

    code = "body_too_large"
    status = 413


class NotJson(InvalidRequest):
    """A body that says it is not plain JSON."""

    code = "unsupported_media_type"
    status = 415


class ModelNotFound(NotFound):
    """A model or version that this service does not have."""

    code = "model_not_found"
    param = "model"


class NoSuchItem(NotFound):
    """A file, upload or job that the caller does not have; `param` says what named it."""

    def __init__(self, message: str, *, param: str | None = "id") -> None:
        super().__init__(message)
        self.param = param


class Unauthorized(HoneError):
    """A request without a key that works."""

    code = "invalid_api_key"


class Forbidden(HoneError):
    """A request that its key may not make."""

    code = "insufficient_permissions"


class RateLimited(Overloaded):
    """A key that has used up what it may use in a minute."""

    code = "rate_limit_exceeded"


class NotReady(HoneError):
    """A model that is known and not loaded (yet)."""

    code = "not_ready"
    retry_after_s = 1.0


class InferenceFailed(HoneError):
    """The model failed on this text, alone as well as in a batch."""

    code = "inference_failed"
    status = 500

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class BatcherClosed(NotReady):
    """The model was replaced, or the service is stopping."""


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """An HTTP status, the error body's fields, and headers (lower case) to send with them."""

    status: int
    message: str
    type: str
    code: str | None
    param: str | None = None
    headers: tuple[tuple[bytes, bytes], ...] = field(default=())

    def body(self) -> bytes:
        """Return the JSON body."""
        error = {
            "message": self.message[:_LONGEST_MESSAGE],
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }
        return orjson.dumps({"error": error})


def answer_for(error: BaseException) -> ErrorAnswer:
    """Return what the client is told about `error`."""
    match error:
        case Overloaded():
            return _later(429, str(error), "rate_limit_error", error.code, error.retry_after_s)
        case NotReady():
            return _later(503, str(error), "server_error", error.code, error.retry_after_s)
        case InferenceFailed():
            return ErrorAnswer(500, str(error), "server_error", error.code, error.param)
        case HoneError() if (status := _status(error)) != 500:
            kind = "server_error" if status > 500 else "invalid_request_error"
            param = getattr(error, "param", None)
            headers = _WANTED_KEY if status == 401 else ()
            return ErrorAnswer(status, str(error), kind, error.code, param, headers)
        case _:
            return answer_for_status(500)


def _status(error: HoneError) -> int:
    """Return the status of an error that says what the client did; 500 for one that does not."""
    default = next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)
    return int(getattr(error, "status", default))


_WANTED_KEY = ((b"www-authenticate", b"Bearer"),)
_STATUSES: tuple[tuple[type[HoneError], int], ...] = (
    (InvalidInput, 400),
    (Unauthorized, 401),
    (Forbidden, 403),
    (NotFound, 404),
    (Conflict, 409),
)


def answer_for_status(status: int, headers: tuple[tuple[bytes, bytes], ...] = ()) -> ErrorAnswer:
    """Return the error body for a bare HTTP status, such as a router's 404 or 405."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    message, code = _STATUS_WORDS.get(status, ("The request was refused.", "refused"))
    return ErrorAnswer(status, message, kind, code, headers=headers)


_STATUS_WORDS = {
    400: ("The request could not be understood.", "bad_request"),
    404: ("There is nothing at this address.", "unknown_url"),
    405: ("This address does not take this method.", "method_not_allowed"),
    408: ("The request took too long to arrive.", "request_timeout"),
    413: ("The request is too large.", "body_too_large"),
    415: ("The body must be plain application/json.", "unsupported_media_type"),
    429: ("Too many requests; ask again.", "overloaded"),
    431: ("The request's header is too large.", "header_too_large"),
    500: ("The server failed on this request; its log says why.", "internal_error"),
    503: ("The server is busy or not ready; ask again.", "not_ready"),
}


def _later(status: int, message: str, kind: str, code: str, seconds: float) -> ErrorAnswer:
    """Return an answer that says when to ask again, in both headers that clients read."""
    headers = (
        (b"retry-after", b"%d" % max(1, math.ceil(seconds))),
        (b"retry-after-ms", b"%d" % max(1, math.ceil(seconds * 1000))),
    )
    return ErrorAnswer(status, message, kind, code, headers=headers)
