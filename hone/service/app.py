"""The application: its routes, its one error body, its OpenAPI document.

When all routes are there, each is put behind the check of its key (`access`).
"""

import asyncio
from functools import partial

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

import hone
from hone.models.errors import HoneError
from hone.service.access import needs_of
from hone.service.classify import read_classify
from hone.service.documentation import add_documentation, describe, operation_id
from hone.service.endpoint import ClassifierEndpoint, ReadQuestion, read_and_find
from hone.service.errors import ErrorAnswer, answer_for, answer_for_status
from hone.service.fine_tuning import FineTuning
from hone.service.health import HealthChecks
from hone.service.jobs.ids import new_id
from hone.service.metrics import Metrics
from hone.service.openai.generation import Readers, completion_look
from hone.service.openai.routes import completion_routes
from hone.service.plain_route import ERRORS, PlainRoute
from hone.service.schemas import (
    CLASSIFY_FORM,
    ClassifyRequest,
    ClassifyResponse,
    Health,
)
from hone.service.settings import Settings

CLASSIFY_PATH = "/v1/classify"


def create_app(
    settings: Settings, metrics: Metrics, checks: HealthChecks, fine_tuning: FineTuning
) -> FastAPI:
    """Return the application."""
    app = FastAPI(
        title="Hone",
        version=hone.__version__,
        description="Classifies texts with small fine-tuned models, and counts what the large "
        "prompt that they replace would have cost.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=operation_id,
        exception_handlers={
            HoneError: _on_hone_error,
            HTTPException: _on_http_exception,
            RequestValidationError: _on_invalid,
            Exception: _on_bug,
        },
    )

    def endpoint(
        read: ReadQuestion | Readers, prefix: str, *, forms: bool = False
    ) -> ClassifierEndpoint:
        find = fine_tuning.find
        look = (
            completion_look(read, find=find, settings=settings)
            if isinstance(read, Readers)
            else read_and_find(read, find=find, settings=settings)
        )
        return ClassifierEndpoint(
            look,
            prefix=prefix,
            settings=settings,
            metrics=metrics,
            forms=forms,
            takes_pictures=fine_tuning.takes_pictures,
        )

    app.router.routes.append(
        PlainRoute(
            CLASSIFY_PATH,
            classify,
            endpoint(read_classify, "cls", forms=True),
            tag="classify",
            form=CLASSIFY_FORM,
        )
    )
    app.router.routes += completion_routes(endpoint)
    fine_tuning.add_routes(app)
    _add_health(app, checks)
    if settings.metrics:
        _add_metrics(app, metrics)
    add_documentation(app, settings)
    describe(app, settings, partial(needs_of, public_metrics=settings.public_metrics))
    fine_tuning.guard(app)
    return app


def with_short_cut(app: FastAPI) -> ASGIApp:
    """Return the application with the busy routes in front of the middleware and the router.

    Going through them costs as much as all our own work on a request. What is not exactly one of
    those addresses and its method goes the long way, which ends at the same endpoints.
    """
    plain = (route for route in app.routes if isinstance(route, PlainRoute))
    endpoints = {route.path: route.app for route in plain if not route.param_convertors}

    async def front(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in endpoints:
            await endpoints[scope["path"]](scope, receive, send)
        else:
            await app(scope, receive, send)

    return front


def classify(request: ClassifyRequest) -> ClassifyResponse:
    """Classify one text or picture, or many; each gets its labels with calibrated scores.

    Pictures may also be sent as a multipart form: fields `model` and `top_k`, files `image`.
    """
    raise NotImplementedError  # the ASGI endpoint answers


def _add_health(app: FastAPI, checks: HealthChecks) -> None:
    @app.get("/livez", responses=ERRORS, tags=["health"])
    async def livez() -> Health:
        """Tell whether the process works; if not, it should be restarted."""
        return checks.live()

    @app.get("/startupz", responses=ERRORS, tags=["health"])
    async def startupz() -> Health:
        """Tell whether loading at the start is over."""
        return checks.started()

    @app.get("/readyz", responses=ERRORS, tags=["health"])
    async def readyz() -> Health:
        """Tell whether to send traffic here: each model has just classified a text."""
        return await checks.ready()

    for path, check in (("/livez", livez), ("/startupz", startupz), ("/readyz", readyz)):
        # Watchers of uptime ask so. Documented is GET.
        app.add_api_route(path, check, methods=["HEAD"], tags=["health"], include_in_schema=False)


def _add_metrics(app: FastAPI, metrics: Metrics) -> None:
    @app.get("/metrics", response_class=Response, responses=ERRORS, tags=["health"])
    async def read_metrics() -> Response:
        """Give the metrics in Prometheus' text format."""
        content = await asyncio.to_thread(metrics.exposition)
        return Response(content, media_type=CONTENT_TYPE_LATEST)


def _response(answer: ErrorAnswer) -> Response:
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    headers["x-request-id"] = new_id("req_")  # routes that a guard stands before have theirs, too
    return Response(answer.body(), answer.status, headers, media_type="application/json")


async def _on_hone_error(_: Request, error: Exception) -> Response:
    return _response(answer_for(error))


async def _on_http_exception(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    given = (error.headers if isinstance(error, HTTPException) else None) or {}
    headers = tuple((name.lower().encode(), value.encode()) for name, value in given.items())
    return _response(answer_for_status(status, headers))


async def _on_invalid(_: Request, error: Exception) -> Response:
    del error  # it quotes the request at length
    return _response(answer_for_status(400))


async def _on_bug(_: Request, error: Exception) -> Response:
    return _response(answer_for(error))
