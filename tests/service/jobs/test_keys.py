"""Keys are recognised by their secret alone, say no more than they must, and end for good."""

import hmac
import multiprocessing
import os
import re
import stat
import string
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from hone.models.errors import InvalidInput, NotFound
from hone.service.jobs.database import Database
from hone.service.jobs.errors import StoreFailed
from hone.service.jobs.keys import SCOPES, Keys, Limits, NewKey, load_pepper
from hone.service.jobs.tables import api_keys
from tests.service.jobs.clock import SetClock

PEPPER = b"p" * 32


@pytest.fixture
def keys(database: Database) -> Keys:
    return Keys(database, PEPPER)


def test_a_key_has_its_form_and_is_recognised(keys: Keys) -> None:
    made, text = keys.create(NewKey("acme", scopes=("train", "infer"), name="ci"))
    assert re.fullmatch(r"hone_[a-z0-9]{8}_[A-Za-z0-9_-]{43}", text)
    assert text.split("_")[1] == made.id
    assert keys.authenticate(text) == made
    assert made.scopes == ["infer", "train"]
    assert made.allows("train")
    assert not made.allows("admin")


def test_limits_models_and_owner_come_back(keys: Keys) -> None:
    limits = Limits(requests_per_minute=60, tokens_per_minute=1000, queued_jobs=3)
    made, text = keys.create(NewKey("acme", models=["b", "a"], limits=limits))
    found = keys.authenticate(text)
    assert found == made
    assert (found.owner, found.models, found.queued_jobs) == ("acme", ["a", "b"], 3)
    assert (found.requests_per_minute, found.tokens_per_minute) == (60, 1000)
    assert found.allows_model("a")
    assert not found.allows_model("c")


def test_a_key_that_allows_no_model_allows_none(keys: Keys) -> None:
    made, _ = keys.create(NewKey("acme", models=[]))
    assert not made.allows_model("a")


def test_the_database_holds_no_secret(keys: Keys, database: Database) -> None:
    _, text = keys.create(NewKey("acme"))
    secret = text.rsplit("_", maxsplit=1)[1] if text.count("_") == 2 else text[14:]
    with database.reading() as connection:
        rows = str(connection.execute(select(api_keys)).all())
    assert secret not in rows
    assert secret not in repr(keys.list())


def test_another_pepper_recognises_nothing(keys: Keys, database: Database) -> None:
    _, text = keys.create(NewKey("acme"))
    assert Keys(database, b"q" * 32).authenticate(text) is None


@pytest.mark.parametrize("at", [0, 5, 8, 14, 30, 56])
def test_one_wrong_character_anywhere_is_another_key(keys: Keys, at: int) -> None:
    _, text = keys.create(NewKey("acme"))
    other = "b" if text[at] != "b" else "c"
    assert keys.authenticate(text[:at] + other + text[at + 1 :]) is None


@pytest.mark.parametrize(
    "wrong",
    ["", "hone_", "hone_aaaaaaaa_", "sk-123", "hone_aaaaaaaa_" + "x" * 43, "\0", "\ud800",
     "hone_" + "x" * 100_000, "Bearer x", "hone_aaaaaaaa_" + "x" * 42 + "\n"],
)  # fmt: skip
def test_what_is_no_key_is_refused_and_never_an_error(keys: Keys, wrong: str) -> None:
    keys.create(NewKey("acme"))
    assert keys.authenticate(wrong) is None


def test_a_key_with_something_around_it_is_another(keys: Keys) -> None:
    _, text = keys.create(NewKey("acme"))
    for wrong in (text + "\n", " " + text, text.upper(), text + "x", text[:-1]):
        assert keys.authenticate(wrong) is None


@given(text=st.text(max_size=80))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_no_text_is_a_key_by_chance(keys: Keys, text: str) -> None:
    assert keys.authenticate(text) is None


def test_known_and_unknown_ids_take_the_same_steps(keys: Keys) -> None:
    _, text = keys.create(NewKey("acme"))
    wrong = text[:14] + ("x" if text[14] != "x" else "y") + text[15:]
    unknown = "hone_00000000_" + "x" * 43
    calls: list[tuple[int, int]] = []
    real = hmac.compare_digest

    def compare(a: str, b: str) -> bool:
        calls.append((len(a), len(b)))
        return real(a, b)

    with patch("hone.service.jobs.keys.hmac.compare_digest", compare):
        for given_text in (text, wrong, unknown, "nonsense"):
            keys.authenticate(given_text)
    assert calls == [(64, 64)] * 4


def test_a_revoked_key_is_over_and_stays_listed(keys: Keys) -> None:
    made, text = keys.create(NewKey("acme"))
    revoked = keys.revoke(made.id)
    assert keys.authenticate(text) is None
    assert keys.revoke(made.id) == revoked
    assert [key.id for key in keys.list()] == [made.id]
    with pytest.raises(NotFound):
        keys.revoke("nobody00")


def test_a_list_is_the_owners_own(keys: Keys) -> None:
    first, _ = keys.create(NewKey("acme"))
    second, _ = keys.create(NewKey("other"))
    assert [key.id for key in keys.list()] == [first.id, second.id]
    assert [key.id for key in keys.list("other")] == [second.id]


def test_an_expired_key_ends_at_its_second(database: Database) -> None:
    clock = SetClock(1000)
    keys = Keys(database, PEPPER, clock=clock)
    _, text = keys.create(NewKey("acme", expires_at=1010))
    clock.time = 1009.9
    assert keys.authenticate(text)
    clock.time = 1010
    assert keys.authenticate(text) is None


def test_use_is_noted_at_most_once_a_minute_whatever_the_clock_does(database: Database) -> None:
    clock = SetClock(1000)
    keys = Keys(database, PEPPER, clock=clock)
    made, _ = keys.create(NewKey("acme"))
    seen = []
    for now in (1000, 1059, 1060, 500):
        clock.time = now
        keys.mark_used(made.id)
        seen.append(keys.list()[0].last_used_at)
    assert seen == [1000, 1000, 1060, 500]


@pytest.mark.parametrize(
    "choices",
    [{"owner": ""}, {"scopes": ()}, {"scopes": ("root",)}, {"scopes": ("infer", "root")},
     {"limits": Limits(queued_jobs=-1)}, {"owner": "a\0b"}],
)  # fmt: skip
def test_an_unusable_choice_is_refused(keys: Keys, choices: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        keys.create(NewKey(**{"owner": "acme", **choices}))
    assert keys.list() == []


def test_secrets_are_evenly_random(keys: Keys) -> None:
    texts = [keys.create(NewKey("acme", scopes=SCOPES))[1] for _ in range(60)]
    assert len(set(texts)) == 60
    letters = Counter("".join(text[14:] for text in texts))
    assert set(letters) <= {*string.ascii_letters, *string.digits, "-", "_"}
    assert max(letters.values()) < 4 * 60 * 43 / 64


class TestPepper:
    def test_it_is_made_once_and_is_the_owners_alone(self, tmp_path: Path) -> None:
        first = load_pepper(tmp_path / "state")
        assert load_pepper(tmp_path / "state") == first
        assert len(first) >= 32
        [file] = (tmp_path / "state").iterdir()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    def test_a_narrow_umask_is_not_needed(self, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            load_pepper(tmp_path)
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "pepper").stat().st_mode) == 0o600

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
    def test_one_that_others_may_read_is_refused(self, tmp_path: Path, mode: int) -> None:
        load_pepper(tmp_path)
        (tmp_path / "pepper").chmod(mode)
        with pytest.raises(StoreFailed, match="0600"):
            load_pepper(tmp_path)

    def test_an_empty_one_is_refused(self, tmp_path: Path) -> None:
        load_pepper(tmp_path)
        (tmp_path / "pepper").write_bytes(b"")
        with pytest.raises(StoreFailed):
            load_pepper(tmp_path)

    def test_a_short_one_that_was_given_is_refused(self, database: Database) -> None:
        with pytest.raises(InvalidInput):
            Keys(database, b"short")

    def test_processes_that_start_at_once_agree(self, tmp_path: Path) -> None:
        with multiprocessing.get_context("spawn").Pool(4) as pool:
            found: Sequence[bytes] = pool.map(load_pepper, [tmp_path / "state"] * 8)
            pool.close()
            pool.join()
        assert len(set(found)) == 1
        assert [path.name for path in (tmp_path / "state").iterdir()] == ["pepper"]
