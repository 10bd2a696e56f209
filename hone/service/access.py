"""Who asks, and whether they may: a key in `Authorization: Bearer`, checked for each route.

Every route is wrapped, and what it needs hangs on the route itself, never on the address of a
request, which hostile headers can bend. A route that nobody declared anything for needs `admin`.
The check comes before a byte of the body is read.

Without a key only these are answered: `/livez`, `/readyz`, `/startupz`, `/privacy`, and the
documentation. And everything, as the owner `local`, where access is off: only on a loopback
address, by choice or while no key was ever made. Web pages are kept out then by their own headers:
a `Host` or an `Origin` that is a name of the public DNS is refused.
"""

import asyncio
import contextlib
import functools
import hashlib
import ipaddress
import time
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hone.models.errors import HoneError, InvalidInput
from hone.service.documentation import DOCUMENT_PATH, FILE_PATHS, PAGE_PATH, PRIVACY_PATH
from hone.service.errors import Forbidden, Unauthorized, answer_for
from hone.service.jobs import keys as keystore
from hone.service.jobs.ids import Clock, new_id
from hone.service.jobs.keys import Key, Keys
from hone.service.limits import ALLOWANCE, Allowance, RateLimits
from hone.service.metrics import NO_MODEL, Metrics
from hone.service.settings import AccessMode

CALLER = "hone.caller"
"""Where a request's ASGI scope holds who asks."""

LOCAL_OWNER = "local"
FRESH_S = 1.0
"""For how long a key is taken to be what it was when it was last looked up."""

_FOREIGN = frozenset({b"cross-site", b"same-site"})
_MOST_KNOWN = 10_000
_LONGEST_KEY = 200
_HEADER_SAFE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
_API_VERSION = b"2020-10-01"

Needs = frozenset[keystore.Scope]
"""Scopes, any one of which is enough."""

_INFER, _TRAIN, _ADMIN = Needs({"infer"}), Needs({"train"}), Needs({"admin"})
_BY_TAG = {
    "classify": _INFER,
    "chat": _INFER,
    "completions": _INFER,
    "decisions": _INFER,
    "files": _TRAIN,
    "uploads": _TRAIN,
    "fine-tuning": _TRAIN,
    "fine-tunes": _TRAIN,
}
_MODELS = "models"
_METRICS_PATH = "/metrics"
PUBLIC_PATHS = frozenset(
    {"/livez", "/readyz", "/startupz", PRIVACY_PATH, DOCUMENT_PATH, PAGE_PATH, *FILE_PATHS}
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks; `key` is None where no key is needed. Rows belong to `owner`."""

    owner: str
    key: Key | None = None

    def may_use_model(self, name: str) -> bool:
        """Say whether the key allows a model, by the name in the request."""
        return self.key is None or self.key.allows_model(name)


NOBODY = Caller(LOCAL_OWNER)


def caller_of(scope: Scope) -> Caller:
    """Return who makes a request that has passed its route's check."""
    caller: Caller = scope.get(CALLER, NOBODY)
    return caller


def needs_of(route: BaseRoute, *, public_metrics: bool = False) -> Needs | None:
    """Return the scopes of which a route needs one; None if it is public."""
    path = getattr(route, "path", "")
    if path in PUBLIC_PATHS or (public_metrics and path == _METRICS_PATH):
        return None
    tags = route.tags if isinstance(route, APIRoute) else []
    methods = (route.methods if isinstance(route, Route) else None) or set()
    if _MODELS in tags:
        return _INFER | _TRAIN if methods <= {"GET", "HEAD"} else _TRAIN
    return next((_BY_TAG[str(tag)] for tag in tags if tag in _BY_TAG), _ADMIN)


@dataclass(frozen=True, slots=True)
class _Known:
    key: Key | None
    until: float


class Gate:
    """Recognises keys. For the event loop's thread, but `look`, which is for another one."""

    def __init__(
        self, keys: Keys, mode: AccessMode, address: str, *, clock: Clock = time.monotonic
    ) -> None:
        """Take the address that is listened on; InvalidInput for `off` on one that others reach."""
        loopback = is_loopback(address)
        if mode == "off" and not loopback:
            raise InvalidInput("access without keys is for a loopback address alone")
        self._keys, self._mode, self._clock = keys, mode, clock
        self.is_open = mode == "off" or (mode == "auto" and loopback)
        self._known: dict[bytes, _Known] = {}
        self._used: set[str] = set()
        self._lookups: dict[bytes, asyncio.Task[Key | None]] = {}

    def look(self) -> None:
        """Close the gate if a key was made meanwhile, and note which keys were used.

        It never opens again.
        """
        self._mark_used()
        if self.is_open and self._mode == "auto" and self._keys.list():
            self.is_open = False

    async def admit(self, headers: Iterable[tuple[bytes, bytes]], needs: Needs) -> Caller:
        """Return who asks. Unauthorized without a good key, Forbidden without the scope."""
        if self.is_open:
            _refuse_web_pages(headers)
            return NOBODY
        key = await self._recognise(_bearer(headers))
        if key is None:
            raise Unauthorized("This key is not known, or it was revoked or has expired.")
        if not any(key.allows(scope) for scope in needs):
            wanted = " or ".join(sorted(needs))
            raise Forbidden(f"This needs a key with the scope {wanted}.")
        return Caller(key.owner, key)

    async def _recognise(self, text: str) -> Key | None:
        digest = hashlib.sha256(text.encode(errors="surrogatepass")).digest()
        known = self._known.get(digest)
        if known is not None and self._clock() < known.until:
            return known.key
        lookup = self._lookups.get(digest)
        if lookup is None:
            lookup = asyncio.create_task(asyncio.to_thread(self._look_up, text))
            self._lookups[digest] = lookup
            lookup.add_done_callback(lambda done: self._looked_up(digest, done))
        return await asyncio.shield(lookup)

    def _look_up(self, text: str) -> Key | None:
        key = self._keys.authenticate(text)
        if key is not None:
            self._used.add(key.id)
        return key

    def _mark_used(self) -> None:
        """Write down which keys were used since the last look; no request waits for that."""
        used, self._used = self._used, set()
        for id_ in used:
            with contextlib.suppress(HoneError):  # when it was used is not worth a complaint
                self._keys.mark_used(id_)

    def _looked_up(self, digest: bytes, lookup: "asyncio.Task[Key | None]") -> None:
        self._lookups.pop(digest, None)
        self._known.pop(digest, None)
        if lookup.cancelled() or lookup.exception() is not None:
            return
        while len(self._known) >= _MOST_KNOWN:
            self._known.pop(next(iter(self._known)))
        self._known[digest] = _Known(lookup.result(), self._clock() + FRESH_S)


def is_loopback(address: str) -> bool:
    """Say whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _bearer(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the one key of a request's headers."""
    given = [value for name, value in headers if name == b"authorization"]
    if len(given) != 1:
        raise Unauthorized("Give a key in one header: 'Authorization: Bearer hone_…'.")
    kind, _, text = given[0].decode("latin-1").strip().partition(" ")
    if kind.lower() != "bearer" or not 0 < len(text.strip()) <= _LONGEST_KEY:
        raise Unauthorized("The header 'Authorization' does not hold a Bearer key.")
    return text.strip()


def _refuse_web_pages(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise Forbidden for a request that a web page of another site makes through a browser."""
    for name, value in headers:
        if name == b"host" and not _is_near(value):
            raise Forbidden("Without keys, only this machine's own names are answered.")
        is_foreign = name == b"sec-fetch-site" and value in _FOREIGN
        if is_foreign or (name == b"origin" and not _is_own(value)):
            raise Forbidden("Without keys, web pages of other sites are not answered.")


@functools.lru_cache(maxsize=256)
def _is_own(origin: bytes) -> bool:
    """Say whether a web page's origin is this machine: the loopback address, or `localhost`.

    `null`, which sandboxed pages and redirects send, is anybody.
    """
    name = _name_of(origin.rpartition(b"//")[2])
    return name == "localhost" or name.endswith(".localhost") or is_loopback(name)


@functools.lru_cache(maxsize=256)
def _is_near(host: bytes) -> bool:
    """Say whether a host cannot be a name that strangers point at this machine.

    An IP address is where the client went itself, and a name without a dot is not public.
    """
    name = _name_of(host).rstrip(".")
    if "." not in name or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _name_of(host: bytes) -> str:
    """Return a host without its port, in small letters; an IPv6 address without its brackets."""
    text = host.decode("latin-1").lower()
    return text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0]


class Guarded:
    """A route's application behind its check."""

    def __init__(
        self, app: ASGIApp, needs: Needs, *, gate: Gate, limits: RateLimits, metrics: Metrics
    ) -> None:
        self._app, self._needs = app, needs
        self._gate, self._limits, self._metrics = gate, limits, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        allowance: Allowance | None = None
        try:
            caller = await self._gate.admit(scope["headers"], self._needs)
            allowance = self._limits.of(caller.key)
            if allowance is not None:
                allowance.take()
        except HoneError as error:
            await self._refuse(error, allowance, send)
            return
        scope[CALLER], scope[ALLOWANCE] = caller, allowance
        if allowance is not None or self._needs != _INFER:
            send = _with_headers(send, caller, allowance)
        await self._app(scope, receive, send)

    async def _refuse(self, error: HoneError, allowance: Allowance | None, send: Send) -> None:
        answer = answer_for(error)
        asks_a_model = self._needs == _INFER
        self._metrics.refuse(answer.code or "refused", NO_MODEL if asks_a_model else None)
        body = answer.body()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", new_id("req_").encode()),
            *answer.headers,
            *(allowance.headers() if allowance else ()),
        ]
        start = {"type": "http.response.start", "status": answer.status, "headers": headers}
        await send(start)
        await send({"type": "http.response.body", "body": body})


@functools.lru_cache(maxsize=256)
def _as_header(owner: str) -> bytes:
    """Return a name as a header may hold it: what is not printable ASCII is percent-encoded."""
    return quote(owner, safe=_HEADER_SAFE).encode()


def _with_headers(send: Send, caller: Caller, allowance: Allowance | None) -> Send:
    """Return a `send` that adds the headers which clients of the hosted API read."""
    started = time.monotonic()

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *headers(message)]
        await send(message)

    def headers(message: Message) -> Iterable[tuple[bytes, bytes]]:
        yield b"openai-version", _API_VERSION
        yield b"openai-organization", _as_header(caller.owner)
        yield b"openai-processing-ms", b"%d" % round((time.monotonic() - started) * 1000)
        if not any(name == b"x-request-id" for name, _ in message.get("headers", ())):
            yield b"x-request-id", new_id("req_").encode()
        if allowance is not None:
            yield from allowance.headers()

    return sending


def guard(
    app: FastAPI, *, gate: Gate, limits: RateLimits, metrics: Metrics, public_metrics: bool = False
) -> None:
    """Put every route of the application behind its check, but those that are public."""
    for route in app.routes:
        needs = needs_of(route, public_metrics=public_metrics)
        if needs is None:
            continue
        if not isinstance(route, Route):
            raise InvalidInput(f"a route of the kind {type(route).__name__} cannot be guarded")
        route.app = Guarded(route.app, needs, gate=gate, limits=limits, metrics=metrics)
