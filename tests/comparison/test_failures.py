"""Calls that fail: retried within bounds, counted, paid for once, and never a wrong answer."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hone.comparison.asking import CannotAsk
from hone.comparison.budget import BudgetSpent
from hone.comparison.cache import open_cache
from hone.comparison.outcomes import Outcome
from hone.models.errors import InvalidInput
from hone.models.prompting.calls import failure, retry_after_s
from tests.comparison.experiments import experiment_text, prompt, run, write_data
from tests.comparison.upstream import Behaviour, Upstream, upstream

KEY = "sk-secret-0123456789"


def one_item(tmp_path: Path, server: Upstream, **changes: Any) -> Outcome:
    """Ask about one item, and return its outcome."""
    data = write_data(tmp_path / "data", test=1)
    limits = changes.pop("limits", {})
    text = experiment_text(data, prompt(server.address, **changes), limits=limits)
    return run(text, tmp_path / "out").outcomes[0]


@pytest.mark.parametrize(
    "action", ["status:500", "status:429:0", "status:503:0", "cut", "malformed", "shapeless"]
)
def test_a_passing_failure_is_retried(tmp_path: Path, action: str) -> None:
    with upstream(script=[action]) as server:
        outcome = one_item(tmp_path, server)
        assert len(server.served) == 2
    assert (outcome.kind, outcome.label, outcome.calls) == ("answered", "card_lost", 2)
    told = server.answers if action != "shapeless" else [one.answer for one in server.served]
    assert outcome.spent.prompt_tokens == sum(a["usage"]["prompt_tokens"] for a in told if a)
    assert outcome.usage.prompt_tokens == server.answers[-1]["usage"]["prompt_tokens"]


@pytest.mark.parametrize(
    ("action", "said", "tries"),
    [
        ("status:500", "status 500 (some_error)", 4),
        ("status:400", "status 400 (some_error)", 1),
        ("status:410", "status 410 (some_error)", 1),
        ("cut", "the connection broke before the answer was whole", 4),
        ("malformed", "the body is not JSON", 4),
        ("shapeless", "the body is no answer of the chat API", 4),
        ("endless", "the answer is longer than 8 MiB", 1),
    ],
)
def test_a_lasting_failure_is_an_outcome_of_its_own(
    tmp_path: Path, action: str, said: str, tries: int
) -> None:
    with upstream(script=[action] * 4) as server:
        outcome = one_item(tmp_path, server)
        assert len(server.served) == tries
    assert (outcome.kind, outcome.label, outcome.error) == ("failed", None, said)
    assert (outcome.calls, outcome.seconds) == (tries, None)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ({"code": "unsupported_parameter", "param": "max_tokens"}, "unsupported_parameter: max_to"),
        ({"code": None, "type": "invalid_request_error", "param": None}, "invalid_request_error)"),
        ({"code": "Your key sk-1", "param": "<b>"}, ""),
        ({"param": "temperature"}, "temperature)"),
    ],
)
def test_a_refused_request_is_told_with_the_parameter_that_is_wrong(
    error: dict[str, object], said: str
) -> None:
    """Words alone: what a server says in sentences may repeat a text, or a part of the key."""
    found = failure(400, {}, json.dumps({"error": {**error, "message": "no, sk-1"}}).encode())
    assert found.reason.startswith(f"status 400 ({said}" if said else "status 400")
    assert "sk-1" not in found.reason
    assert "<" not in found.reason


def test_an_answer_that_does_not_come_in_time_is_a_failure(tmp_path: Path) -> None:
    with upstream(script=["hang"]) as server:
        limits = {"timeout_s": 0.3, "retries": 0}
        outcome = one_item(tmp_path, server, limits=limits)
    assert (outcome.kind, outcome.error) == ("failed", "no answer in time")
    with open_cache(tmp_path / "out") as cache:
        assert cache.sums().unclear_usd > 0  # it may have been billed


@pytest.mark.parametrize("action", ["refuse", "filter", "say:I cannot help with that."])
def test_a_refusal_is_one_whichever_way_it_is_said(tmp_path: Path, action: str) -> None:
    with upstream(script=[action]) as server:
        outcome = one_item(tmp_path, server)
        assert len(server.served) == 1
    assert (outcome.kind, outcome.label, outcome.confidence) == ("refused", None, None)


def test_a_refusal_of_the_decisions_api_is_one(tmp_path: Path) -> None:
    with upstream(script=["refuse"]) as server:
        assert one_item(tmp_path, server, api="decisions").kind == "refused"


def test_an_answer_that_names_no_label_is_not_a_wrong_one(tmp_path: Path) -> None:
    with upstream(script=["garble"]) as server:
        outcome = one_item(tmp_path, server)
    assert (outcome.kind, outcome.label) == ("unparsable", None)
    assert "ツ" in outcome.raw
    assert outcome.usage.completion_tokens > 0  # and was paid for


def test_the_wait_that_is_asked_for_is_waited(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", test=8)
    with upstream(script=["status:429:1"]) as server:
        text = experiment_text(
            data, prompt(server.address, concurrency=1), limits={"longest_wait_s": 5.0}
        )
        finished = run(text, tmp_path / "out")
        with open_cache(tmp_path / "out") as cache:
            sent = [datetime.fromisoformat(row["sent"]) for row in cache.rows()]
    assert (sent[1] - sent[0]).total_seconds() >= 0.99
    assert {outcome.kind for outcome in finished.outcomes} == {"answered"}


def test_who_asks_for_a_longer_wait_than_allowed_is_not_asked_sooner(tmp_path: Path) -> None:
    with upstream(script=["status:429:3600"]) as server:
        outcome = one_item(tmp_path, server)
        assert len(server.served) == 1
    assert outcome.error == "status 429 (some_error), and asks to wait 3600 s"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Fri, 27 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Fri, 27 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
    ],
)
def test_the_wait_is_read_in_all_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, datetime(2026, 11, 27, 12, tzinfo=UTC)) == seconds


def test_what_failed_is_asked_again_by_the_next_run(tmp_path: Path) -> None:
    data, out = write_data(tmp_path / "data", test=6), tmp_path / "out"
    with upstream(script=["status:400"]) as server:
        text = experiment_text(data, prompt(server.address))
        first = run(text, out).outcomes
        again = run(text, out).outcomes
        assert len(server.served) == 7
    assert sum(outcome.kind == "failed" for outcome in first) == 1
    assert {outcome.kind for outcome in again} == {"answered"}
    (late,) = (outcome for outcome in again if outcome.calls == 2)
    assert late.item == next(outcome.item for outcome in first if outcome.kind == "failed")


# A contender that cannot be asked at all


def test_a_wrong_key_ends_the_run_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSTREAM_KEY", "sk-wrong")
    data = write_data(tmp_path / "data")
    with upstream(Behaviour(key=KEY)) as server:
        text = experiment_text(data, prompt(server.address, api_key_env="UPSTREAM_KEY"))
        with pytest.raises(CannotAsk) as caught:
            run(text, tmp_path / "out")
        assert len(server.served) <= 4  # one for each worker
    assert "few cannot be asked: status 401 (invalid_api_key)" in str(caught.value)
    assert "sk-wrong" not in str(caught.value)
    assert server.address not in str(caught.value)
    assert not (tmp_path / "out" / "outcomes.jsonl").exists()
    assert (
        json.loads((tmp_path / "out" / "unfinished" / "run.json").read_bytes())["state"] == "failed"
    )


@pytest.mark.parametrize("status", [302, 308, 404, 405])
def test_an_address_that_is_none_of_an_api_ends_the_run(tmp_path: Path, status: int) -> None:
    data = write_data(tmp_path / "data")
    with upstream(script=[f"status:{status}"] * 12) as server:
        with pytest.raises(CannotAsk, match=f"few cannot be asked: status {status}"):
            run(experiment_text(data, prompt(server.address)), tmp_path / "out")
        assert len(server.served) <= 4  # one for each worker


def test_nobody_at_the_address_ends_the_run(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    with upstream() as server:
        address = server.address
    text = experiment_text(data, prompt(address), limits={"retries": 1})
    with pytest.raises(CannotAsk, match="few cannot be asked: cannot connect"):
        run(text, tmp_path / "out")


def test_a_key_that_is_not_there_is_named_before_anything_is_asked(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    with upstream() as server:
        text = experiment_text(
            data,
            prompt(server.address, "first"),
            prompt(server.address, api_key_env="HONE_TEST_NO_SUCH_KEY"),
        )
        with pytest.raises(InvalidInput, match="HONE_TEST_NO_SUCH_KEY holds no key"):
            run(text, tmp_path / "out")
        assert server.served == []


def test_a_key_is_kept_nowhere_even_if_the_answer_repeats_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSTREAM_KEY", KEY)
    data, out = write_data(tmp_path / "data"), tmp_path / "out"
    with upstream(Behaviour(key=KEY, echo_key=True, fails=0.3)) as server:
        text = experiment_text(data, prompt(server.address, api_key_env="UPSTREAM_KEY"))
        run(text, out)
        assert all(one.key == KEY for one in server.served)
        assert KEY in json.dumps(server.answers)
    files = [path for path in out.rglob("*") if path.is_file()]
    assert len(files) >= 6
    for path in files:
        assert KEY.encode() not in path.read_bytes(), path.name


def test_another_header_gets_the_key_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSTREAM_KEY", KEY)
    with upstream(Behaviour(key=KEY)) as server:
        changes = {"api_key_env": "UPSTREAM_KEY", "key_header": "authorization"}
        assert one_item(tmp_path, server, **changes).kind == "answered"
        changes["key_header"] = "api-key"
        with pytest.raises(CannotAsk):
            one_item(tmp_path / "b", server, **changes)


# The budget


def test_the_budget_is_never_passed_and_more_of_it_goes_on_where_it_ended(tmp_path: Path) -> None:
    data, out = write_data(tmp_path / "data", test=40), tmp_path / "out"
    with upstream() as server:

        def text(dollars: float) -> str:
            return experiment_text(data, prompt(server.address), limits={"dollars": dollars})

        with pytest.raises(BudgetSpent, match=r"limits\.dollars are spent"):
            run(text(0.02), out)
        with open_cache(out) as cache:
            first = cache.sums()
        assert 0.005 < first.usd + first.unclear_usd <= 0.02
        asked = len(server.served)
        assert 0 < asked < 40
        assert json.loads((out / "unfinished" / "run.json").read_bytes())["state"] == "budget spent"
        assert not (out / "outcomes.jsonl").exists()
        with pytest.raises(BudgetSpent):
            run(text(0.02), out)
        assert len(server.served) == asked
        finished = run(text(1.0), out)
        assert len(server.served) == 40
    assert {outcome.calls for outcome in finished.outcomes} == {0, 1}


def test_a_budget_of_nothing_asks_nothing(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    with upstream() as server:
        text = experiment_text(data, prompt(server.address), limits={"dollars": 0.0})
        with pytest.raises(BudgetSpent):
            run(text, tmp_path / "out")
        assert server.served == []


def test_what_costs_nothing_by_the_call_needs_no_budget(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", test=4)
    with upstream() as server:
        text = experiment_text(
            data, prompt(server.address, billing="hosting"), limits={"dollars": 0.0}
        )
        finished = run(text, tmp_path / "out")
    assert (finished.sums.usd, finished.sums.unpriced_calls) == (0.0, 0)


def test_calls_without_a_price_are_counted(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", test=4)
    with upstream() as server:
        text = experiment_text(data, prompt(server.address, model="unheard-of"))
        finished = run(text, tmp_path / "out")
    assert (finished.sums.usd, finished.sums.unpriced_calls) == (0.0, 4)
    assert finished.question.arms["few"].costs.price is None
