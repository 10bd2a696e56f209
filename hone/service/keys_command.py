"""`hone keys`: make, list and revoke the keys of the API.

Works on the job store itself and not over HTTP: the first key must come from somewhere, and whoever
may read the pepper and the database needs no key. A running service knows of it within a second.
"""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from hone.models.errors import InvalidInput
from hone.models.tables import console, id_table
from hone.models.terminal import plain
from hone.service.access import LOCAL_OWNER, Caller
from hone.service.command import settings_from
from hone.service.jobs.keys import SCOPES, Key, Limits, NewKey, Scope
from hone.service.openai.store_calls import note
from hone.service.state import State, open_existing_state, open_state
from hone.service.terminal import when

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)

StoreOption = Annotated[
    Path | None, typer.Option("--store", help="The folder that holds the bundles. [default: store]")
]
StateOption = Annotated[
    Path | None,
    typer.Option("--state", help="The service's state folder. [default: .state in the store]"),
]
_DAY_S = 24 * 3600
_OPERATOR = Caller("operator")


@app.command("create")
def create_key(  # noqa: PLR0913, PLR0917 - the command line's options
    owner: Annotated[
        str, typer.Option(help="Whose it is: keys of one owner share files, jobs and models.")
    ] = LOCAL_OWNER,
    scope: Annotated[
        list[str] | None,
        typer.Option(help="infer, train, feedback or admin; may be repeated. [default: infer]"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="A model that it may use; may be repeated. [default: all]"),
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(min=1, help="Default: no limit.")
    ] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(min=1, help="Default: no limit.")] = None,
    queued_jobs: Annotated[
        int | None, typer.Option(help="Unfinished jobs at a time. Default: the service's limit.")
    ] = None,
    days: Annotated[
        float | None, typer.Option(help="How long it works. Default: for ever.")
    ] = None,
    store: StoreOption = None,
    state: StateOption = None,
) -> None:
    """Make a key and print it: once, for nobody can read it again."""
    new = NewKey(
        owner,
        scopes=_scopes(scope or ["infer"]),
        name=name,
        models=model or None,
        limits=Limits(requests_per_minute, tokens_per_minute, queued_jobs),
        expires_at=_expiry(days),
    )
    opened = _open(store, state)
    try:
        key, text = opened.keys.create(new)
        note(opened.audit, _OPERATOR, "key.create", key.id)
    finally:
        opened.close()
    print(text)  # the first of all: nobody can read it again
    said = f"is key {key.id} of {plain(key.owner)}, for {', '.join(key.scopes)}"
    Console(stderr=True).print(said, highlight=False, soft_wrap=True)


@app.command("list")
def list_keys(
    owner: Annotated[str | None, typer.Option(help="Only this owner's.")] = None,
    store: StoreOption = None,
    state: StateOption = None,
) -> None:
    """List all keys, without their secrets, the revoked ones too."""
    opened = _existing(store, state)
    try:
        keys = opened.keys.list(owner)
    finally:
        opened.close()
    if not keys:
        Console().print("There are no keys. `hone keys create` makes one.")
        return
    table = id_table("id", "owner", "name", "scopes", "models", "limits", "state", "last used")
    for key in keys:
        table.add_row(*map(plain, _row(key)))
    console().print(table)


@app.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The 8 letters after `hone_`.")],
    store: StoreOption = None,
    state: StateOption = None,
) -> None:
    """End a key for good; running services refuse it within a second."""
    opened = _existing(store, state)
    try:
        key = opened.keys.revoke(key_id)
        note(opened.audit, _OPERATOR, "key.revoke", key.id)
    finally:
        opened.close()
    Console().print(f"revoked key {key.id} of {plain(key.owner)}")


def _open(store: Path | None, state: Path | None) -> State:
    return open_state(settings_from(store=store, state_dir=state))


def _existing(store: Path | None, state: Path | None) -> State:
    return open_existing_state(settings_from(store=store, state_dir=state))


def _scopes(names: list[str]) -> list[Scope]:
    unknown = sorted(set(names) - set(SCOPES))
    if unknown:
        raise InvalidInput(f"there is no scope {unknown[0][:80]!r}: give {', '.join(SCOPES)}")
    return [scope for scope in SCOPES if scope in names]


def _expiry(days: float | None) -> int | None:
    if days is None:
        return None
    if not 0 < days < 36_500:
        raise InvalidInput("a key works for more than 0 and less than 36500 days")
    return int(time.time() + days * _DAY_S)


def _row(key: Key) -> list[str]:
    models = "all" if key.models is None else ", ".join(key.models)
    used = "never" if key.last_used_at is None else when(key.last_used_at)
    return [
        key.id,
        key.owner,
        key.name or "",
        ", ".join(key.scopes),
        models,
        _limits(key),
        _state(key),
        used,
    ]


def _limits(key: Key) -> str:
    limits = {
        "requests/min": key.requests_per_minute,
        "tokens/min": key.tokens_per_minute,
        "jobs": key.queued_jobs,
    }
    return ", ".join(f"{count} {kind}" for kind, count in limits.items() if count is not None)


def _state(key: Key) -> str:
    if key.revoked_at is not None:
        return f"revoked {when(key.revoked_at)}"
    if key.expires_at is None:
        return "works"
    expired = key.expires_at <= time.time()
    return f"{'expired' if expired else 'works until'} {when(key.expires_at)}"
