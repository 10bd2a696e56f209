"""Routes that FastAPI documents and plain ASGI applications answer."""

from collections.abc import Callable, Mapping
from typing import Any

from fastapi.routing import APIRoute
from starlette.types import ASGIApp

from hone.service.schemas import ErrorBody

ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "The request cannot be answered as it is."},
    "5XX": {"model": ErrorBody, "description": "The service cannot answer, or not now."},
}
"""The `responses` of every route."""


class PlainRoute(APIRoute):
    """A route for POST whose function's signature and docstring stand in the document.

    The function is never called: `app` answers. `form` is the schema of a multipart form that is
    read as well as the body in the signature.
    """

    def __init__(
        self,
        path: str,
        described: Callable[..., Any],
        app: ASGIApp,
        *,
        tag: str,
        form: Mapping[str, Any] | None = None,
    ) -> None:
        content = {"multipart/form-data": {"schema": dict(form)}} if form is not None else None
        super().__init__(
            path,
            described,
            methods=["POST"],
            responses=ERRORS,
            tags=[tag],
            operation_id=described.__name__,
            openapi_extra={"requestBody": {"content": content}} if content else None,
        )
        self.app = app
