"""A real service that wants keys, and the newest client with good and bad ones."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest
from openai import OpenAI

from hone.models.registry import Registry
from hone.service.jobs.keys import Limits, NewKey, Scope
from hone.service.settings import Settings
from hone.service.state import State, open_state
from tests.service.openai_jobs.conftest import EXAMPLES
from tests.service.running import Service, exchange, serving, wait_until
from tests.tiny_bundle import publish_tiny


@dataclass(frozen=True)
class Locked:
    service: Service
    state: State

    def key(
        self,
        owner: str,
        *scopes: Scope,
        limits: Limits | None = None,
        models: list[str] | None = None,
    ) -> str:
        new = NewKey(owner, scopes, models=models, limits=limits or Limits())
        return self.state.keys.create(new)[1]

    def client(self, key: str) -> OpenAI:
        base_url = f"http://127.0.0.1:{self.service.port}/v1"
        return OpenAI(base_url=base_url, api_key=key, max_retries=0)


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    folder = tmp_path_factory.mktemp("locked")
    store = folder / "store"
    publish_tiny(Registry(store))
    settings = Settings(store=store)
    with (
        serving(store, log_folder=folder, access="on", run_jobs="false") as service,
        contextlib.closing(open_state(settings)) as state,
    ):
        yield Locked(service, state)


def test_what_has_no_key_is_refused_everywhere_but_at_the_doors(locked: Locked) -> None:
    document = locked.service.get("/openapi.json").json()
    for path, operations in document["paths"].items():
        for method in operations:
            address = path.replace("{", "").replace("}", "")
            answer = locked.service.request(method.upper(), address)
            if path in {"/livez", "/readyz", "/startupz", "/privacy"}:
                assert answer.status == 200
            else:
                assert answer.status == 401, path
                assert answer.error()["code"] == "invalid_api_key"
                assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("host", [b"evil.example", b"a/livez?", b"[", b"x" * 2000, b"\xff", b""])
def test_no_host_header_opens_anything(locked: Locked, host: bytes) -> None:
    for target in (b"/v1/models", b"/livez/../v1/models", b"//livez", b"/v1/models?/livez"):
        raw = exchange(locked.service, b"GET %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (target, host))
        assert raw.split()[1] in {b"400", b"401", b"404"}, raw


def test_a_scope_opens_its_own_routes_alone(locked: Locked) -> None:
    infer = locked.client(locked.key("acme", "infer"))
    train = locked.client(locked.key("acme", "train"))
    assert infer.completions.create(model="support", prompt="card").choices
    assert infer.models.list().data
    assert train.models.list().data
    assert train.files.list().data == []
    with pytest.raises(openai.PermissionDeniedError) as refused:
        infer.files.list()
    assert refused.value.code == "insufficient_permissions"
    with pytest.raises(openai.PermissionDeniedError):
        train.completions.create(model="support", prompt="card")
    with pytest.raises(openai.PermissionDeniedError):
        locked.client(locked.key("root", "admin")).completions.create(model="support", prompt="a")
    with pytest.raises(openai.AuthenticationError):
        locked.client("hone_aaaaaaaa_" + "a" * 43).models.list()


def test_another_owners_ids_are_404s(locked: Locked) -> None:
    mine = locked.client(locked.key("acme", "train"))
    same = locked.client(locked.key("acme", "train"))
    other = locked.client(locked.key("globex", "train"))
    file = mine.files.create(file=("a.jsonl", EXAMPLES), purpose="fine-tune")
    job = mine.fine_tuning.jobs.create(model="ada", training_file=file.id)
    assert same.fine_tuning.jobs.retrieve(job.id).organization_id == "acme"
    assert other.files.list().data == []
    assert other.fine_tuning.jobs.list().data == []
    for call in (
        lambda: other.files.retrieve(file.id),
        lambda: other.files.content(file.id),
        lambda: other.files.delete(file.id),
        lambda: other.fine_tuning.jobs.retrieve(job.id),
        lambda: other.fine_tuning.jobs.cancel(job.id),
        lambda: other.fine_tuning.jobs.pause(job.id),
        lambda: other.fine_tuning.jobs.list_events(job.id),
        lambda: other.fine_tuning.jobs.checkpoints.list(job.id),
    ):
        with pytest.raises(openai.NotFoundError):
            call()
    with pytest.raises(openai.BadRequestError) as refused:
        other.fine_tuning.jobs.create(model="ada", training_file=file.id)
    assert refused.value.code == "file_not_found"


def test_a_key_may_be_kept_to_some_models(locked: Locked) -> None:
    kept = locked.client(locked.key("acme", "infer", models=["another"]))
    with pytest.raises(openai.NotFoundError):
        kept.completions.create(model="support", prompt="card")
    with pytest.raises(openai.NotFoundError):
        kept.models.retrieve("support")
    assert kept.models.list().data == []


def test_requests_and_tokens_are_limited_and_the_headers_say_so(locked: Locked) -> None:
    limits = Limits(requests_per_minute=2, tokens_per_minute=10_000)
    client = locked.client(locked.key("limited", "infer", limits=limits))
    first = client.completions.with_raw_response.create(model="support", prompt="card")
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    usage = first.parse().usage
    assert usage is not None
    assert int(first.headers["x-ratelimit-remaining-tokens"]) <= 10_000 - usage.prompt_tokens
    client.models.list()
    with pytest.raises(openai.RateLimitError) as refused:
        client.models.list()
    headers = refused.value.response.headers
    assert refused.value.code == "rate_limit_exceeded"
    assert 0 < int(headers["retry-after-ms"]) <= 31_000
    assert int(headers["retry-after"]) <= 31
    assert headers["x-ratelimit-remaining-requests"] == "0"


def test_the_jobs_of_a_key_are_limited(locked: Locked) -> None:
    limits = Limits(queued_jobs=1)
    client = locked.client(locked.key("narrow", "train", limits=limits))
    file = client.files.create(file=("a.jsonl", EXAMPLES), purpose="fine-tune")
    first = client.fine_tuning.jobs.create(model="ada", training_file=file.id)
    with pytest.raises(openai.RateLimitError) as refused:
        client.fine_tuning.jobs.create(model="ada", training_file=file.id)
    assert "retry-after-ms" in refused.value.response.headers
    client.fine_tuning.jobs.cancel(first.id)
    client.fine_tuning.jobs.create(model="ada", training_file=file.id)


def test_answers_have_the_headers_that_clients_read(locked: Locked) -> None:
    client = locked.client(locked.key("acme", "train"))
    headers = client.files.with_raw_response.list().headers
    assert headers["openai-organization"] == "acme"
    assert headers["openai-version"] == "2020-10-01"
    assert int(headers["openai-processing-ms"]) >= 0
    assert headers["x-request-id"].startswith("req_")


def test_what_was_done_with_a_key_is_in_the_audit_log(locked: Locked) -> None:
    client = locked.client(locked.key("audited", "train"))
    file = client.files.create(file=b"x", purpose="batch")
    client.files.delete(file.id)
    found = [entry for entry in locked.state.audit.since() if entry.owner == "audited"]
    assert [(entry.action, entry.target, entry.outcome) for entry in found] == [
        ("file.create", file.id, "done"),
        ("file.delete", file.id, "done"),
    ]


def test_the_first_key_closes_a_running_service(tmp_path: Path) -> None:
    with serving(tmp_path / "store", "--fake", log_folder=tmp_path, run_jobs="false") as service:
        assert "without keys" in service.banner
        assert service.get("/v1/models").status == 200
        evil = service.request("GET", "/v1/models", headers={"Host": "evil.example"})
        assert evil.status == 403
        assert json.loads(evil.body)["error"]["code"] == "insufficient_permissions"
        with contextlib.closing(open_state(Settings(store=tmp_path / "store"))) as state:
            key, text = state.keys.create(NewKey("acme"))
            wait_until(lambda: service.get("/v1/models").status == 401)
            asked = {"authorization": f"Bearer {text}"}
            assert service.request("GET", "/v1/models", headers=asked).status == 200
            state.keys.revoke(key.id)
            wait_until(
                lambda: service.request("GET", "/v1/models", headers=asked).status == 401,
                timeout_s=10,
            )
