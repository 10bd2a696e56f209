"""API keys: `hone_<id>_<secret>`, shown once and kept only as an HMAC.

A secret has 256 random bits, so that a fast keyed hash is enough; the pepper lies in a file and
not in the database, so that a copy of the database alone is worth nothing.
"""

import hashlib
import hmac
import os
import re
import secrets
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, insert, or_, select, update

from hone.models import durable
from hone.models.errors import InvalidInput, NotFound
from hone.service.jobs.database import Database
from hone.service.jobs.errors import StoreFailed, disk_errors
from hone.service.jobs.ids import Clock, random_characters, unix_seconds
from hone.service.jobs.pages import columns_of, read_rows
from hone.service.jobs.tables import api_keys

Scope = Literal["infer", "train", "feedback", "admin"]
SCOPES: tuple[Scope, ...] = ("infer", "train", "feedback", "admin")

_KEY = re.compile(r"hone_([a-z0-9]{8})_([A-Za-z0-9_-]{43})")
_NOBODY = "0" * 64
"""The digest that an unknown id is compared with, so that it costs what a known one does."""

_PEPPER_BYTES = 32
_USED_EVERY_S = 60


@dataclass(frozen=True, slots=True)
class Limits:
    """What a key may use; None is no limit of its own."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    queued_jobs: int | None = None


@dataclass(frozen=True, slots=True)
class NewKey:
    """What is chosen when a key is made; `models` None allows every model."""

    owner: str
    scopes: Sequence[Scope] = ("infer",)
    name: str | None = None
    models: Sequence[str] | None = None
    limits: Limits = Limits()
    expires_at: int | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """A key without its secret. Times are Unix seconds."""

    id: str
    owner: str
    name: str | None
    scopes: list[Scope]
    models: list[str] | None
    requests_per_minute: int | None
    tokens_per_minute: int | None
    queued_jobs: int | None
    created_at: int
    expires_at: int | None
    revoked_at: int | None
    last_used_at: int | None

    def allows(self, scope: Scope) -> bool:
        """Say whether the key may do what a scope covers; `admin` does not stand for the others."""
        return scope in self.scopes

    def allows_model(self, name: str) -> bool:
        """Say whether the key may use a model."""
        return self.models is None or name in self.models

    def works_at(self, now: int) -> bool:
        """Say whether the key is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True)
class _Stored(Key):
    digest: str


class Keys:
    """Makes, lists, revokes and recognises keys."""

    def __init__(self, database: Database, pepper: bytes, *, clock: Clock = time.time) -> None:
        if len(pepper) < _PEPPER_BYTES:
            raise InvalidInput(f"a pepper has at least {_PEPPER_BYTES} bytes")
        self._database, self._pepper, self._clock = database, pepper, clock

    def create(self, new: NewKey) -> tuple[Key, str]:
        """Make a key and return it with its text, which nobody can read again.

        InvalidInput for an unknown scope, none at all, a negative limit or an empty owner.
        """
        _check(new)
        id_, secret = random_characters(8), secrets.token_urlsafe(32)
        text = f"hone_{id_}_{secret}"
        values = _values(new, id_, unix_seconds(self._clock))
        with self._database.writing() as connection:
            connection.execute(insert(api_keys).values(digest=self._digest(text), **values))
            return _key(connection, id_), text

    def list(self, owner: str | None = None) -> Sequence[Key]:
        """Return all keys, or an owner's, oldest first, the revoked ones too."""
        found = select(*columns_of(Key, api_keys)).order_by(api_keys.c.number)
        if owner is not None:
            found = found.where(api_keys.c.owner == owner)
        with self._database.reading() as connection:
            return read_rows(connection, Key, found)

    def revoke(self, id_: str) -> Key:
        """End a key for good; NotFound if there is none. Revoking twice keeps the first time."""
        now = unix_seconds(self._clock)
        with self._database.writing() as connection:
            of_key = (api_keys.c.id == id_, api_keys.c.revoked_at.is_(None))
            connection.execute(update(api_keys).where(*of_key).values(revoked_at=now))
            return _key(connection, id_)

    def authenticate(self, text: str) -> Key | None:
        """Return the key that a text is; None if it is none, or revoked, or expired.

        A text that is no key, an unknown id and a wrong secret take the same steps.
        """
        form = _KEY.fullmatch(text)
        stored = self._stored(form[1] if form else "")
        given = self._digest(text)
        same = hmac.compare_digest(given, stored.digest if stored else _NOBODY)
        if stored is None or not same or not stored.works_at(unix_seconds(self._clock)):
            return None
        return _without_digest(stored)

    def mark_used(self, id_: str) -> None:
        """Note that a key was used, at most once a minute."""
        now = unix_seconds(self._clock)
        used = api_keys.c.last_used_at
        stale = or_(used.is_(None), used <= now - _USED_EVERY_S, used > now)
        with self._database.reading() as connection:
            due = connection.scalar(select(api_keys.c.id).where(api_keys.c.id == id_, stale))
        if due is not None:
            with self._database.writing() as connection:
                of_key = update(api_keys).where(api_keys.c.id == id_)
                connection.execute(of_key.values(last_used_at=now))

    def _stored(self, id_: str) -> _Stored | None:
        found = select(*columns_of(_Stored, api_keys)).where(api_keys.c.id == id_)
        with self._database.reading() as connection:
            return next(iter(read_rows(connection, _Stored, found)), None)

    def _digest(self, text: str) -> str:
        given = text.encode(errors="surrogatepass")
        return hmac.new(self._pepper, given, hashlib.sha256).hexdigest()


def load_pepper(state: Path) -> bytes:
    """Return the pepper in the state folder, made at first use with mode 0600.

    Processes that start at once agree on one. StoreFailed if others may read the file.
    """
    path = state / "pepper"
    with disk_errors():
        if not path.exists():
            _make_pepper(path)
        mode = stat.S_IMODE(path.stat().st_mode)
        content = path.read_bytes()
    if mode & 0o077:
        raise StoreFailed(f"{path} may be read by others: its mode must be 0600, and is {mode:04o}")
    if len(content) < _PEPPER_BYTES:
        raise StoreFailed(f"{path} is not a pepper: it has fewer than {_PEPPER_BYTES} bytes")
    return content


def _make_pepper(path: Path) -> None:
    """Write a pepper beside its place and link it there: whoever comes first wins."""
    durable.make_folder(path.parent)
    beside = path.with_name(f".pepper.{os.getpid()}.{secrets.token_hex(4)}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_PEPPER_BYTES))
        durable.fsync_file(beside)
        try:
            path.hardlink_to(beside)
        except FileExistsError:
            return
        durable.fsync_folder(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def _check(new: NewKey) -> None:
    if not new.owner:
        raise InvalidInput("a key needs an owner")
    if not new.owner.isprintable() or not (new.name or "").isprintable():
        raise InvalidInput("a key's owner and name hold no control characters")
    if not new.scopes or not set(new.scopes) <= set(SCOPES):
        raise InvalidInput(f"a key's scopes are some of {', '.join(SCOPES)}")
    limits = (
        new.limits.requests_per_minute,
        new.limits.tokens_per_minute,
        new.limits.queued_jobs,
    )
    if any(limit is not None and limit < 0 for limit in limits):
        raise InvalidInput("a key's limits are not negative")


def _values(new: NewKey, id_: str, now: int) -> dict[str, Any]:
    return {
        "id": id_,
        "owner": new.owner,
        "name": new.name,
        "scopes": [scope for scope in SCOPES if scope in new.scopes],
        "models": None if new.models is None else sorted(set(new.models)),
        "requests_per_minute": new.limits.requests_per_minute,
        "tokens_per_minute": new.limits.tokens_per_minute,
        "queued_jobs": new.limits.queued_jobs,
        "created_at": now,
        "expires_at": new.expires_at,
    }


def _key(connection: Connection, id_: str) -> Key:
    found = select(*columns_of(Key, api_keys)).where(api_keys.c.id == id_)
    rows = read_rows(connection, Key, found)
    if not rows:
        raise NotFound("there is no key with this id")
    return rows[0]


def _without_digest(stored: _Stored) -> Key:
    return Key(**{name: getattr(stored, name) for name in Key.__dataclass_fields__})
