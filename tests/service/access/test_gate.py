"""Who may do what, on every route there is, and what closes the gate."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from hone.models.errors import InvalidInput
from hone.service.access import (
    FRESH_S,
    PUBLIC_PATHS,
    Gate,
    Guarded,
    Needs,
    is_loopback,
    needs_of,
)
from hone.service.app import create_app
from hone.service.errors import Forbidden, Unauthorized
from hone.service.fine_tuning import FineTuning
from hone.service.health import HealthChecks
from hone.service.jobs.keys import Key, NewKey
from hone.service.metrics import Metrics
from hone.service.pool import ModelPool
from hone.service.serving import Host
from hone.service.settings import Settings
from hone.service.state import State, open_state

INFER, TRAIN, ADMIN = Needs({"infer"}), Needs({"train"}), Needs({"admin"})


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with contextlib.closing(open_state(Settings(state_dir=tmp_path))) as opened:
        yield opened


def application(state: State, **settings: bool) -> FastAPI:
    async def make() -> FastAPI:
        chosen, metrics = Settings(**settings), Metrics()  # type: ignore[arg-type]
        pool = ModelPool(Host(chosen, metrics, {}, asyncio.get_running_loop()))
        gate = Gate(state.keys, "on", "127.0.0.1")
        fine_tuning = FineTuning(state, pool, metrics, gate)
        return create_app(chosen, metrics, HealthChecks(pool, chosen), fine_tuning)

    return asyncio.run(make())


def test_every_route_has_a_scope_or_is_on_the_public_list(state: State) -> None:
    routes = application(state).routes
    assert len(routes) > 30
    public = {route.path for route in routes if not _is_guarded(route)}  # type: ignore[attr-defined]
    assert public == PUBLIC_PATHS
    for route in routes:
        needs = needs_of(route)
        if needs is not None and getattr(route, "path", "") != "/metrics":
            assert needs != ADMIN, f"nobody declared what {route} needs"


def _is_guarded(route: object) -> bool:
    return isinstance(getattr(route, "app", None), Guarded)


def test_metrics_need_admin_unless_they_are_made_public(state: State) -> None:
    for public in (False, True):
        routes = application(state, public_metrics=public).routes
        (metrics,) = [route for route in routes if getattr(route, "path", "") == "/metrics"]
        assert _is_guarded(metrics) is not public
        assert needs_of(metrics) == ADMIN


def test_looking_at_models_takes_either_scope_and_deleting_one_takes_train(state: State) -> None:
    routes = [route for route in application(state).routes if isinstance(route, APIRoute)]
    models = [route for route in routes if route.path.startswith("/v1/models")]
    needs = [(sorted(route.methods or ()), needs_of(route)) for route in models]
    either = (["GET"], INFER | TRAIN)
    assert needs == [either, either, (["DELETE"], TRAIN)]


def test_a_route_that_nobody_declared_needs_admin() -> None:
    app = FastAPI()

    @app.get("/v1/livez", tags=["something new"])
    def livez() -> None:
        pass

    assert needs_of(app.routes[-1]) == ADMIN


def admit(gate: Gate, *headers: tuple[bytes, bytes], needs: Needs = INFER) -> str:
    return asyncio.run(gate.admit(headers, needs)).owner


def bearer(text: str) -> tuple[bytes, bytes]:
    return b"authorization", b"Bearer " + text.encode()


def test_a_key_is_known_by_its_owner_and_scopes(state: State) -> None:
    _, text = state.keys.create(NewKey("acme", ("infer",)))
    gate = Gate(state.keys, "auto", "0.0.0.0")
    assert admit(gate, bearer(text)) == "acme"
    with pytest.raises(Forbidden, match="scope train"):
        admit(gate, bearer(text), needs=TRAIN)
    known, unknown, empty = bearer(text), bearer(text + "x"), bearer("")
    for strange in ((), (unknown,), (empty,), (known, known)):
        with pytest.raises(Unauthorized):
            admit(gate, *strange)
    for value in (b"Basic " + text.encode(), text.encode(), b"Bearer \xff\xfe", b"Bearer " * 99):
        with pytest.raises(Unauthorized):
            admit(gate, (b"authorization", value))


def test_a_revoked_key_works_no_longer_than_a_second(state: State) -> None:
    now = [0.0]
    key, text = state.keys.create(NewKey("acme"))
    gate = Gate(state.keys, "on", "127.0.0.1", clock=lambda: now[0])
    assert admit(gate, bearer(text)) == "acme"
    state.keys.revoke(key.id)
    now[0] = FRESH_S
    with pytest.raises(Unauthorized):
        admit(gate, bearer(text))


def test_the_first_key_closes_an_open_gate_for_good(state: State) -> None:
    gate = Gate(state.keys, "auto", "127.0.0.1")
    gate.look()
    assert gate.is_open
    key, _ = state.keys.create(NewKey("acme"))
    state.keys.revoke(key.id)
    gate.look()
    assert not gate.is_open


def test_only_a_loopback_address_may_be_open(state: State) -> None:
    assert not Gate(state.keys, "auto", "0.0.0.0").is_open
    assert not Gate(state.keys, "on", "127.0.0.1").is_open
    assert Gate(state.keys, "off", "::1").is_open
    with pytest.raises(InvalidInput, match="loopback"):
        Gate(state.keys, "off", "192.0.2.1")
    assert [is_loopback(a) for a in ("127.9.9.9", "::1", "0.0.0.0", "::", "localhost", "")] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("header", "let_in"),
    [
        ((b"host", b"localhost:8000"), True),
        ((b"host", b"127.0.0.1"), True),
        ((b"host", b"[::1]:8000"), True),
        ((b"host", b"hone"), True),
        ((b"host", b"a.localhost"), True),
        ((b"host", b"evil.example"), False),
        ((b"host", b"evil.example.:8000"), False),
        ((b"host", b"127.0.0.1.evil.example"), False),
        ((b"origin", b"http://localhost:3000"), True),
        ((b"origin", b"https://evil.example"), False),
        ((b"origin", b"http://[::1]:3000"), True),
        ((b"origin", b"http://127.0.0.1"), True),
        ((b"origin", b"null"), False),
        ((b"origin", b"http://192.0.2.7"), False),
        ((b"origin", b"http://intranet"), False),
        ((b"sec-fetch-site", b"cross-site"), False),
        ((b"sec-fetch-site", b"same-origin"), True),
    ],
)
def test_an_open_gate_keeps_web_pages_out(
    state: State, header: tuple[bytes, bytes], let_in: bool
) -> None:
    gate = Gate(state.keys, "off", "127.0.0.1")
    if let_in:
        assert admit(gate, header) == "local"
    else:
        with pytest.raises(Forbidden):
            admit(gate, header)


def test_when_a_key_was_used_is_written_after_the_answer(state: State) -> None:
    _, text = state.keys.create(NewKey("acme"))
    gate = Gate(state.keys, "on", "::1")
    admit(gate, bearer(text))
    assert state.keys.list()[0].last_used_at is None
    gate.look()
    assert state.keys.list()[0].last_used_at is not None


def test_a_hundred_requests_at_once_look_a_key_up_once(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, text = state.keys.create(NewKey("acme"))
    gate, real = Gate(state.keys, "on", "::1"), state.keys.authenticate
    asked: list[str] = []

    def counted(given: str) -> Key | None:
        asked.append(given)
        return real(given)

    monkeypatch.setattr(state.keys, "authenticate", counted)

    async def all_at_once() -> None:
        await asyncio.gather(*(gate.admit([bearer(text)], INFER) for _ in range(100)))

    asyncio.run(all_at_once())
    assert asked == [text]
