"""The OpenAPI document: committed, served, and true.

After a change of the API: `python -m tests.service.test_openapi` writes it anew.
"""

import asyncio
import contextlib
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from hone.service.access import Gate
from hone.service.app import create_app
from hone.service.documentation import add_documentation
from hone.service.fine_tuning import FineTuning
from hone.service.health import HealthChecks
from hone.service.metrics import Metrics
from hone.service.pool import ModelPool
from hone.service.serving import Host
from hone.service.settings import Settings
from hone.service.state import State, open_state
from tests.service.running import ROOT, Service

COMMITTED = ROOT / "docs" / "openapi.json"


def document() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(state_dir=Path(folder))
        with contextlib.closing(open_state(settings)) as state:
            return asyncio.run(_document(settings, state))


async def _document(settings: Settings, state: State) -> dict[str, Any]:
    metrics = Metrics()
    pool = ModelPool(Host(settings, metrics, {}, asyncio.get_running_loop()))
    gate = Gate(state.keys, "auto", "127.0.0.1")
    fine_tuning = FineTuning(state, pool, metrics, gate)
    return create_app(settings, metrics, HealthChecks(pool, settings), fine_tuning).openapi()


def as_text(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def test_the_committed_document_is_current() -> None:
    assert COMMITTED.read_text(encoding="utf-8") == as_text(document())


def test_pictures_may_be_sent_as_files_by_the_document_too() -> None:
    content = document()["paths"]["/v1/classify"]["post"]["requestBody"]["content"]
    assert content.keys() == {"application/json", "multipart/form-data"}
    form = content["multipart/form-data"]["schema"]
    assert form["properties"].keys() == {"model", "top_k", "image"}
    assert form["properties"]["image"]["items"] == {"type": "string", "format": "binary"}


def test_the_service_gives_the_document_and_a_page_for_it(asked: Service) -> None:
    given = asked.get("/openapi.json").json()
    assert given.pop("servers")[0]["url"] == "/"  # its port was not chosen by its settings
    expected = document()
    expected.pop("servers")
    assert given == expected
    page = asked.get("/docs")
    assert page.status == 200
    assert b"'openapi.json'" in page.body


def test_the_page_needs_nothing_from_elsewhere(asked: Service) -> None:
    page = asked.get("/docs").body.decode()
    named = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(named) == 3
    for reference in named:
        found = asked.get(f"/{reference}")
        assert (found.status, len(found.body) > 1000) == (200, True), reference
    assert not re.search(r"https?://", page)


def test_operations_have_plain_names_and_short_descriptions() -> None:
    operations = [o for paths in document()["paths"].values() for o in paths.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z_]{3,64}", name) for name in names), names
    assert all(0 < len(operation["description"]) <= 300 for operation in operations)


def test_operations_say_which_scopes_they_need() -> None:
    content = document()
    assert content["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    paths = content["paths"]
    assert paths["/v1/classify"]["post"]["security"] == [{"key": ["infer"]}]
    assert paths["/v1/files"]["post"]["security"] == [{"key": ["train"]}]
    assert paths["/metrics"]["get"]["security"] == [{"key": ["admin"]}]
    assert paths["/v1/models"]["get"]["security"] == [{"key": ["infer"]}, {"key": ["train"]}]
    assert paths["/livez"]["get"]["security"] == []


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        ({}, "http://127.0.0.1:8000"),
        ({"host": "::1", "port": 9000}, "http://[::1]:9000"),
        ({"host": "0.0.0.0"}, "/"),
        ({"port": 0}, "/"),
        (
            {"host": "0.0.0.0", "public_url": "https://hone.example/api/"},
            "https://hone.example/api",
        ),
    ],
)
def test_the_document_says_where_the_service_is(settings: dict[str, Any], address: str) -> None:
    assert Settings(**settings).public_address == address


def test_the_policy_names_the_operator_and_cannot_be_bent(asked: Service, tmp_path: Path) -> None:
    page = asked.get("/privacy")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    assert b"its operator, who gave you its address" in page.body
    settings = Settings(state_dir=tmp_path, operator="<script>ACME</script>")
    app = FastAPI()
    add_documentation(app, settings)
    (route,) = (route for route in app.routes if getattr(route, "path", "") == "/privacy")
    said = route.endpoint().body  # type: ignore[attr-defined]
    assert b"&lt;script&gt;ACME" in said


def test_every_reference_in_the_document_leads_somewhere() -> None:
    content = document()
    text = as_text(content)
    for part in text.split('"$ref": "#/')[1:]:
        found: Any = content
        for step in part.split('"')[0].split("/"):
            found = found[step]


def test_every_path_documents_its_errors() -> None:
    for path, operations in document()["paths"].items():
        for operation in operations.values():
            assert {"200", "4XX", "5XX"} <= set(operation["responses"]), path
            assert "422" not in operation["responses"], path


def main(path: Path = COMMITTED) -> None:
    path.write_text(as_text(document()), encoding="utf-8")


if __name__ == "__main__":
    main()
