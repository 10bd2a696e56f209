"""One service whose jobs nobody works on, its state opened beside it, and the newest client."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from hone.models.registry import Registry
from hone.service.jobs.claims import Claim, Claims, NewModel
from hone.service.jobs.events import NewEvent
from hone.service.jobs.naming import model_name
from hone.service.jobs.records import Job
from hone.service.settings import Settings
from hone.service.state import State, open_state
from tests.service.running import Service, serving
from tests.tiny_bundle import publish_tiny

OWNER = "local"
EXAMPLES = b"".join(
    b'{"prompt":"text %d ->","completion":" %s"}\n' % (i, (b"yes", b"no")[i % 2]) for i in range(40)
)


@dataclass(frozen=True)
class Workbench:
    """A service, its store and its state: what a worker would do to a job, a test does."""

    service: Service
    state: State
    store: Path

    def upload(self, name: str = "train.jsonl", content: bytes = EXAMPLES) -> str:
        answer = self.form([("purpose", b"fine-tune", None), ("file", content, name)])
        assert answer.status == 200, answer.body
        id_: str = answer.json()["id"]
        return id_

    def form(
        self,
        parts: list[tuple[str, bytes, str | None]],
        path: str = "/v1/files",
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        boundary = b"limit-of-the-form"
        body = b"".join(_part(boundary, *part) for part in parts) + b"--" + boundary + b"--\r\n"
        kind = {"content-type": f"multipart/form-data; boundary={boundary.decode()}"}
        return self.service.request("POST", path, body, kind | dict(headers or {}))

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        content = None if body is None else json.dumps(body).encode()
        sent = {"content-type": "application/json"} if content else {}
        return self.service.request(method, path, content, {**sent, **headers})

    def made(self, path: str, **fields: Any) -> Any:
        answer = self.ask("POST", path, fields)
        assert answer.status == 200, answer.body
        return answer.json()

    def claim(self, id_: str) -> Claim:
        """Take a job as a worker does; every other waiting job is cancelled."""
        records = self.state.records
        for job in records.list_all(statuses=["validating_files", "queued"]).items:
            if job.id != id_:
                records.cancel(job.owner, job.id)
        records.admit(id_)
        claim = Claims(self.state.database, "a test").claim()
        assert claim is not None
        assert claim.job.id == id_
        return claim

    def succeed(self, claim: Claim, *events: str) -> Job:
        """Publish a tiny model for a job and end it, as a worker does."""
        job = claim.job
        publish_tiny(Registry(self.store), job.store_model, seed=3)
        model = NewModel(model_name(job, job.model, job.created_at), job.model, 1)
        told = [NewEvent(message) for message in events]
        Claims(self.state.database, "a test").heartbeat(claim)
        if told:
            self.state.events.add(job.id, told)
        return Claims(self.state.database, "a test").succeed(claim, model)


def _part(boundary: bytes, name: str, content: bytes, filename: str | None) -> bytes:
    disposition = f'form-data; name="{name}"'
    if filename is not None:
        disposition += f'; filename="{filename}"'
    head = b"--%s\r\nContent-Disposition: %s\r\n\r\n" % (boundary, disposition.encode())
    return head + content + b"\r\n"


Run = Callable[..., Workbench]


@pytest.fixture(scope="session")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    """Run the service that most tests ask; each must only look at what it made."""
    folder = tmp_path_factory.mktemp("workbench")
    publish_tiny(Registry(folder / "store"))
    with (
        serving(
            folder / "store",
            log_folder=folder,
            run_jobs="false",
            stream_ping_s=0.3,
            max_file_bytes=2_000_000,
            max_queued_jobs=1000,
        ) as service,
        opened(folder / "store") as state,
    ):
        yield Workbench(service, state, folder / "store")


@contextmanager
def opened(store: Path) -> Iterator[State]:
    """Open the state beside a running service."""
    state = open_state(Settings(store=store))
    try:
        yield state
    finally:
        state.close()


@pytest.fixture(scope="session")
def client(workbench: Workbench) -> Iterator[OpenAI]:
    """Return the newest client."""
    base_url = f"http://127.0.0.1:{workbench.service.port}/v1"
    with OpenAI(base_url=base_url, api_key="unused", max_retries=0) as client:
        yield client
