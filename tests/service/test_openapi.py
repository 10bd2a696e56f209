"""The OpenAPI document: committed, served, and true.

After a change of the API: `python -m tests.service.test_openapi` writes it anew.
"""

import asyncio
import contextlib
import json
import tempfile
from pathlib import Path
from typing import Any

from hone.service.access import Gate
from hone.service.app import create_app
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


def test_the_service_gives_the_document_and_a_page_for_it(asked: Service) -> None:
    assert asked.get("/openapi.json").json() == document()
    page = asked.get("/docs")
    assert page.status == 200
    assert b"/openapi.json" in page.body


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
