"""Adding the routes of one part of the API: each with its name, its errors and its body."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.responses import Response

from hone.service.plain_route import ERRORS

Method = Literal["GET", "POST", "DELETE"]
Schema = Mapping[str, Any]

JSON_BODY, FORM_BODY = "application/json", "multipart/form-data"


class RouteList:
    """Adds routes whose addresses begin alike and that belong to the same part (tag)."""

    def __init__(self, app: FastAPI, prefix: str, tag: str) -> None:
        self._app, self._prefix, self._tag = app, prefix, tag

    def add(
        self,
        method: Method,
        path: str,
        endpoint: Callable[..., Any],
        *,
        name: str,
        answer: type[BaseModel] | None = None,
        body: tuple[str, Schema] | None = None,
    ) -> None:
        """Add a route; `answer` and `body` describe what its signature does not."""
        documented = {body[0]: {"schema": dict(body[1])}} if body else None
        more: dict[str, Any] = {} if answer is None else {"response_model": answer}
        self._app.add_api_route(
            self._prefix + path,
            endpoint,
            methods=[method],
            operation_id=name,
            summary=_summary(name),
            responses=ERRORS,
            tags=[self._tag],
            openapi_extra={"requestBody": {"content": documented}} if documented else None,
            **more,
        )

    def add_raw(self, path: str, endpoint: Callable[..., Any], *, name: str) -> None:
        """Add a route for GET whose answer is no JSON."""
        self._app.add_api_route(
            self._prefix + path,
            endpoint,
            operation_id=name,
            summary=_summary(name),
            responses=ERRORS,
            tags=[self._tag],
            response_class=Response,
        )


def _summary(name: str) -> str:
    return name.replace("_", " ").capitalize()
