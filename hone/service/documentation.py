"""What describes the service to strangers: the OpenAPI document, its page, the privacy policy.

The document names the scheme of the keys, the scopes that each operation asks for, and where the
service is, so that tools which import actions from such documents can use it as it is. Its page
works without a network: Swagger UI's files come from the package `fastapi-offline`.
"""

import html
from collections.abc import Callable
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from hone.service.plain_route import ERRORS
from hone.service.settings import Settings

DOCUMENT_PATH, PAGE_PATH, PRIVACY_PATH = "/openapi.json", "/docs", "/privacy"
FILE_PATHS = {
    f"{PAGE_PATH}/swagger-ui-bundle.js": "text/javascript",
    f"{PAGE_PATH}/swagger-ui.css": "text/css",
    f"{PAGE_PATH}/favicon.png": "image/png",
}
"""The files of the document's page, and their kinds."""

_SCHEME = "key"
_SCHEMES = {
    _SCHEME: {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "hone_…",
        "description": "A key from `hone keys create`. None is needed on a loopback address while "
        "none was ever made. The roles of an operation are the scopes of which it needs one.",
    }
}

ScopesOf = Callable[[BaseRoute], frozenset[str] | None]
"""Tells the scopes of which a route needs one; None if it is public."""


def operation_id(route: APIRoute) -> str:
    """Return the name of a route's operation: its function's."""
    return route.name


def describe(app: FastAPI, settings: Settings, scopes_of: ScopesOf) -> None:
    """Make the application's document say where it is and who may ask what.

    Call it when all routes are there and before they are guarded.
    """
    security = {
        (route.path_format, method.lower()): _security(scopes_of(route))
        for route in app.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }
    app.servers = [{"url": settings.public_address, "description": "This service."}]
    generate = app.openapi

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            content = generate()
            content.setdefault("components", {})["securitySchemes"] = _SCHEMES
            for path, operations in content["paths"].items():
                for method, operation in operations.items():
                    operation["security"] = security[path, method]
        return app.openapi_schema or {}

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's own way to extend it


def _security(scopes: frozenset[str] | None) -> list[dict[str, list[str]]]:
    return [{_SCHEME: [scope]} for scope in sorted(scopes or ())]


def add_documentation(app: FastAPI, settings: Settings) -> None:
    """Add the document's page, its files, and the policy."""

    @app.get(PAGE_PATH, include_in_schema=False)
    def page() -> HTMLResponse:
        made = get_swagger_ui_html(
            openapi_url=DOCUMENT_PATH.removeprefix("/"),
            title="Hone: the API",
            swagger_js_url="docs/swagger-ui-bundle.js",
            swagger_css_url="docs/swagger-ui.css",
            swagger_favicon_url="docs/favicon.png",
            swagger_ui_parameters={"tryItOutEnabled": True, "defaultModelsExpandDepth": 0},
        )
        return HTMLResponse(bytes(made.body).decode().replace("</head>", f"{_DARK}</head>", 1))

    for path, kind in FILE_PATHS.items():
        _add_file(app, path, kind)

    @app.get(PRIVACY_PATH, response_class=HTMLResponse, responses=ERRORS, tags=["documentation"])
    def privacy() -> HTMLResponse:
        """Tell what the service keeps of what it is sent, for how long, and who sees it."""
        return HTMLResponse(_policy(settings))


def _add_file(app: FastAPI, path: str, kind: str) -> None:
    source = files("fastapi_offline") / "static" / path.rpartition("/")[2]

    @app.get(path, include_in_schema=False)
    def file() -> FileResponse:
        kept = {"cache-control": "max-age=86400"}
        return FileResponse(str(source), media_type=kind, headers=kept)


def _policy(settings: Settings) -> str:
    operator = html.escape(settings.operator)
    points = "".join(f"<li>{point}</li>\n" for point in (*_POINTS, _who_else(settings)))
    return _POLICY.format(operator=operator, points=points)


_DARK = """<script>
if (matchMedia("(prefers-color-scheme: dark)").matches)
  document.documentElement.classList.add("dark-mode");
</script>
"""
"""Swagger UI has a dark dress and does not put it on by itself."""

_POINTS = (
    """<b>Texts to be classified or completed</b> are held in memory until they are answered. They
    are neither written to disk nor logged.""",
    """<b>Uploaded files</b> are kept until they are deleted, or expire if they were uploaded so.
    Only their owner's keys reach them.""",
    """<b>Fine-tuning jobs</b> keep their settings, events and scores. The copies that training
    makes of its files are removed when the job ends. A <b>fine-tuned model</b> stays until it is
    deleted; it holds its labels and the prompt text that all its examples share.""",
    """<b>Keys</b> are kept as keyed hashes, with their owner, scopes and time of last use. An audit
    log keeps which key made or deleted which file, job and model, and when.""",
    """<b>Logs and metrics</b> hold ids, times, counts and addresses of the API, no texts.""",
)


def _who_else(settings: Settings) -> str:
    """Say to whom texts go: to nobody, unless the operator named an address for fallbacks."""
    if settings.fallback_url is None:
        return """<b>Nobody else</b> is sent anything: models run on the service's own machine, and
    the service reports to no one."""
    host = html.escape(urlsplit(settings.fallback_url).hostname or "another service")
    return f"""<b>Texts that a model is not sure of</b> may be sent to {host}, inside a prompt, if
    that model has a fallback; answers say so. Nobody else is sent anything."""


_POLICY = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Privacy</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 42rem }}
body {{ margin: 3rem auto; padding: 0 1rem }}
li {{ margin: .6rem 0 }}
</style>
</head>
<body>
<h1>Privacy</h1>
<p>This service runs <a href="docs">Hone</a>. It is operated by {operator}, who answers for what is
done with the data and to whom questions and requests for deletion go.</p>
<ul>
{points}</ul>
</body>
</html>
"""
