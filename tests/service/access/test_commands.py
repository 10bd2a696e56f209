"""`hone keys` and `hone jobs`, as a person types them."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hone.cli import build_app
from hone.models.errors import Conflict, HoneError, InvalidInput, NotFound
from hone.service.jobs.claims import Claims, NewModel
from hone.service.jobs.events import NewEvent
from hone.service.jobs.records import NewJob
from hone.service.settings import Settings
from hone.service.state import State, open_state


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with contextlib.closing(open_state(Settings(state_dir=tmp_path))) as opened:
        yield opened


def hone(state: State, *words: str) -> Result:
    arguments = [*words, "--state", str(state.folder)]
    return CliRunner().invoke(build_app(words[0]), arguments, env={"COLUMNS": "200"})


def said(state: State, *words: str) -> str:
    done = hone(state, *words)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def refused(state: State, *words: str) -> HoneError:
    error = hone(state, *words).exception
    assert isinstance(error, HoneError)
    return error


def test_a_key_is_printed_once_and_works(state: State) -> None:
    words = ("--owner", "acme", "--scope", "train", "--scope", "infer", "--queued-jobs", "3")
    text = said(state, "keys", "create", *words, "--days", "2", "--name", "[red]ci").strip()
    key = state.keys.authenticate(text)
    assert key is not None
    assert (key.owner, key.scopes, key.queued_jobs) == ("acme", ["infer", "train"], 3)
    listed = said(state, "keys", "list")
    assert key.id in listed
    assert "[red]ci" in listed
    assert "works until" in listed
    assert text.rpartition("_")[2] not in listed
    assert f"revoked key {key.id}" in said(state, "keys", "revoke", key.id)
    assert state.keys.authenticate(text) is None
    assert "revoked" in said(state, "keys", "list", "--owner", "acme")
    assert [entry.action for entry in state.audit.since()] == ["key.create", "key.revoke"]


def test_what_cannot_be_made_or_found_is_said(state: State) -> None:
    assert "There are no keys" in said(state, "keys", "list")
    assert isinstance(refused(state, "keys", "create", "--scope", "root"), InvalidInput)
    assert isinstance(refused(state, "keys", "create", "--days", "0"), InvalidInput)
    assert isinstance(refused(state, "keys", "create", "--owner", ""), InvalidInput)
    assert isinstance(refused(state, "keys", "revoke", "nobody"), NotFound)
    assert "There are no jobs" in said(state, "jobs", "list")
    assert isinstance(refused(state, "jobs", "list", "--status", "lost"), InvalidInput)
    assert isinstance(refused(state, "jobs", "show", "ftjob-none"), NotFound)


def job(state: State, owner: str = "acme") -> str:
    new = NewJob(owner, "modern", "ada", "file-x", 1, given={"n_epochs": 3})
    return state.records.create(new, events=[NewEvent("Created [it]")]).id


def test_jobs_of_every_owner_are_listed_and_shown(state: State) -> None:
    first, second = job(state), job(state, "globex")
    listed = said(state, "jobs", "list")
    assert re.findall(r"ftjob-\w+", listed) == [second, first]
    shown = said(state, "jobs", "show", second)
    for words in ("globex", "queued, 1 ahead of it", "n_epochs 3", "Created [it]"):
        assert words in shown
    assert said(state, "jobs", "list", "--status", "failed").strip() == "There are no jobs."


def test_a_job_is_cancelled_at_once_or_by_its_worker(state: State) -> None:
    waiting = job(state)
    assert f"{waiting} is cancelled" in said(state, "jobs", "cancel", waiting)
    assert isinstance(refused(state, "jobs", "cancel", waiting), Conflict)
    running = job(state)
    assert Claims(state.database, "a test").claim() is not None
    assert f"{running} is being cancelled" in said(state, "jobs", "cancel", running)
    assert "running, to be cancelled" in said(state, "jobs", "show", running)


def test_following_tells_all_and_ends_as_the_job_does(state: State) -> None:
    good, bad = job(state), job(state)
    claims = Claims(state.database, "a test")
    claim = claims.claim()
    assert claim is not None
    metrics = [
        NewEvent(f"Step {step}/1234:", type="metrics", data={"step": step, "total_steps": 1234})
        for step in [*range(1, 1234, 6), 1234]  # not every step is told
    ]
    state.events.add(good, [*metrics, NewEvent("careful", level="warn")])
    claims.succeed(claim, NewModel("ft:ada:acme::x", "ada", 1))
    text = said(state, "jobs", "follow", good)
    assert "Created [it]" in text
    assert "careful" in text
    told = [int(step) for step in re.findall(r"Step (\d+)/1234:", text)]
    assert [10 * step // 1234 for step in told] == list(range(1, 11)), "each tenth is told once"
    assert "succeeded: ft:ada:acme::x" in text
    state.records.cancel("acme", bad)
    done = hone(state, "jobs", "follow", bad)
    assert done.exit_code == 1
    assert "cancelled" in done.output
