"""Who answers: the model where it is sure, the prompt where it is not, and never an error."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from hone.comparison.adoption import read_adoption
from hone.models.manifest import Manifest
from hone.models.names import parse_reference
from hone.models.registry import Registry
from tests.comparison.fallback_runs import compared
from tests.comparison.upstream import Behaviour, Upstream, upstream
from tests.service.fallback.conftest import KEY, served
from tests.service.running import Service, serving, wait_until

Rows = list[dict[str, Any]]


def split(texts: Rows) -> tuple[Rows, Rows]:
    """Return texts of which the model is sure, and others."""
    return [r for r in texts if r["sure"]], [r for r in texts if not r["sure"]]


def outcomes(service: Service) -> dict[str, float]:
    return {
        dict(labels)["outcome"]: value
        for (name, labels), value in service.metrics().items()
        if name == "hone_fallback_texts_total"
    }


def timed(service: Service) -> dict[str, tuple[float, float]]:
    """Return how many calls ended in which way, and how many seconds those took in all."""
    metrics = service.metrics()
    stem = "hone_fallback_duration_seconds"
    return {
        dict(labels)["outcome"]: (value, metrics[f"{stem}_sum", labels])
        for (name, labels), value in metrics.items()
        if name == f"{stem}_count"
    }


def test_only_unsure_texts_are_asked_and_the_answer_says_who_answered(
    service: Service, big: Upstream, texts: Rows
) -> None:
    answer = service.post({"model": "support", "input": [row["text"] for row in texts]})
    body = answer.json()
    sure, unsure = split(texts)
    assert [e["answered_by"] for e in body["data"]] == [
        "model" if row["sure"] else "prompt" for row in texts
    ]
    assert [e["label"] for e in body["data"]] == [row["label"] for row in texts]
    assert [e["fallback"] for e in body["data"]] == [
        None if row["sure"] else "answered" for row in texts
    ]
    for entry in body["data"]:  # the scores stay the model's, best first
        scores = [score["score"] for score in entry["scores"]]
        assert scores == sorted(scores, reverse=True)
    assert len(big.served) == len(unsure) > 5
    assert len(sure) > 5
    assert {one.key for one in big.served} == {KEY}
    assert len(texts) > 32
    assert answer.headers["x-hone-answered-by"] == "mixed"
    assert answer.headers["x-hone-fallback"] == "mixed"
    few = service.post({"model": "support", "input": [sure[0]["text"], unsure[0]["text"]]})
    assert few.headers["x-hone-answered-by"] == "model, prompt"
    assert few.headers["x-hone-fallback"] == "none, answered"


def test_tokens_and_dollars_are_counted_and_savings_are_net_of_them(
    service: Service, big: Upstream, texts: Rows
) -> None:
    unsure = split(texts)[1]
    body = service.classify([row["text"] for row in unsure])
    usages = [answer["usage"] for answer in big.answers]
    prompt = sum(usage["prompt_tokens"] for usage in usages)
    said = sum(usage["completion_tokens"] for usage in usages)
    savings = body["savings"]
    assert savings["fallback_tokens"] == prompt
    own = body["usage"]["prompt_tokens"]
    assert savings["tokens_saved"] == savings["baseline_prompt_tokens"] - own - prompt
    metrics = service.metrics()
    found = {
        (name, dict(labels).get("kind")): value
        for (name, labels), value in metrics.items()
        if name.startswith("hone_fallback")
    }
    assert found["hone_fallback_tokens_total", "prompt"] == prompt
    assert found["hone_fallback_tokens_total", "answer"] == said
    cost = prompt * 1e-5 + said * 5e-5
    assert found["hone_fallback_dollars_total", None] == pytest.approx(cost, abs=1e-9)
    assert {kind: count for kind, (count, _) in timed(service).items()} == {"answered": len(unsure)}
    assert outcomes(service) == {"answered": len(unsure)}


def test_a_request_is_the_very_one_of_the_comparison(
    tmp_path: Path, made: tuple[Path, Manifest]
) -> None:
    store = made[0] / "store"
    kinds: list[dict[str, Any]] = [
        {"prompt": "few-shot", "k": 6},
        {"prompt": "few-shot", "k": 4, "examples_as": "turns", "system": "Say {labels}."},
        {"prompt": "zero-shot", "api": "completions", "logprobs": True},
        {"prompt": "zero-shot", "api": "decisions"},
        {"prompt": "retrieved", "k": 3},
    ]
    for number, changes in enumerate(kinds):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "store").symlink_to(store)
        with upstream(Behaviour(key=None)) as server:
            run = compared(folder, server, **changes)
            asked = {repr(sorted(one.body.items())) for one in server.served}
            read_adoption(run, despite_verdict=True).publish()
            items = [r["text"] for r in rows_of(run)][:60]
            server.served.clear()
            with served(folder / "store", server, folder) as service:
                entries = service.classify(items, model="support@latest")["data"]
            again = [repr(sorted(one.body.items())) for one in server.served]
        assert len(again) == sum(e["fallback"] is not None for e in entries) > 3
        assert set(again) <= asked, changes


def rows_of(run: Path) -> Rows:
    return [json.loads(line) for line in (run / "items.jsonl").read_text().splitlines()]


def test_openai_clients_get_the_prompts_label_in_a_valid_answer(
    service: Service, big: Upstream, texts: Rows
) -> None:
    sure, unsure = split(texts)
    base_url = f"http://127.0.0.1:{service.port}/v1"
    with OpenAI(base_url=base_url, api_key="unused", max_retries=0) as client:
        for row, whose in ((sure[0], "model"), (unsure[0], "prompt")):
            raw = client.chat.completions.with_raw_response.create(
                model="support",
                messages=[{"role": "user", "content": row["text"]}],
                logprobs=True,
                top_logprobs=2,
            )
            assert raw.headers["x-hone-answered-by"] == whose
            choice = raw.parse().choices[0]
            assert choice.message.content == row["label"]
            assert choice.logprobs is not None
            assert choice.logprobs.content is not None
            token = choice.logprobs.content[0]
            assert token.token == row["label"]
            tops = [top.logprob for top in token.top_logprobs]
            assert tops == sorted(tops, reverse=True)
            streamed = client.chat.completions.create(
                model="support", messages=[{"role": "user", "content": row["text"]}], stream=True
            )
            said = "".join(part.choices[0].delta.content or "" for part in streamed)
            assert said == row["label"]
        done = client.completions.with_raw_response.create(
            model="support", prompt=[sure[0]["text"], unsure[0]["text"]], logprobs=1
        )
        assert [c.text for c in done.parse().choices] == [sure[0]["label"], unsure[0]["label"]]
        assert done.headers["x-hone-answered-by"] == "model, prompt"
        assert done.headers["x-hone-fallback"] == "none, answered"
        before = len(big.served)
        client.completions.create(
            model="support", prompt=unsure[0]["text"], echo=True, max_tokens=0
        )
        assert len(big.served) == before  # no label was wanted


def test_decisions_ask_only_for_a_choice_among_all_labels(
    service: Service, big: Upstream, texts: Rows
) -> None:
    row = split(texts)[1][0]
    labels = ["other", "refund", "card", "transfer"]
    choice = {"type": "choice", "instructions": "?", "choices": [{"value": n} for n in labels]}
    some = {"type": "choice", "instructions": "?", "choices": [{"value": n} for n in labels[:2]]}
    predicate = {"type": "predicate", "instructions": "?", "name": "card"}
    body = {"model": "support", "input": row["text"], "questions": [some, predicate]}
    answer = service.post(body, "/v1/decisions")
    assert answer.headers["x-hone-answered-by"] == "model"
    assert not big.served
    body["questions"] = [choice, some, predicate]
    answer = service.post(body, "/v1/decisions")
    assert answer.headers["x-hone-answered-by"] == "prompt"
    first = answer.json()["answers"][0]
    assert first["choice"] == row["label"]
    shares = {entry["value"]: entry["probability"] for entry in first["probabilities"]}
    assert first["confidence"] == shares[row["label"]]
    assert len(big.served) == 1


@pytest.mark.parametrize(
    ("action", "outcome"),
    [
        ("refuse", "refused"),
        ("filter", "refused"),
        ("garble", "unreadable"),
        ("say:one of card or refund", "unreadable"),
        ("status:500", "failed"),
        ("status:400", "failed"),
        ("cut", "failed"),
        ("malformed", "failed"),
        ("shapeless", "failed"),
        ("endless", "failed"),
    ],
)
def test_without_a_label_the_models_own_is_the_answer_and_the_outcome_says_why(
    service: Service, big: Upstream, texts: Rows, action: str, outcome: str
) -> None:
    row = split(texts)[1][0]
    big.behaviour.script = [action]
    answer = service.post({"model": "support", "input": row["text"]})
    assert answer.status == 200
    entry = answer.json()["data"][0]
    assert (entry["answered_by"], entry["fallback"]) == ("model", outcome)
    assert entry["label"] == entry["scores"][0]["label"] != row["label"]
    assert answer.headers["x-hone-fallback"] == outcome
    assert outcomes(service) == {outcome: 1}
    ((kind, (count, seconds)),) = timed(service).items()
    assert (kind, count) == (outcome, 1)
    assert seconds > 0


def test_without_an_address_the_model_answers_alone_and_says_so(
    made: tuple[Path, Manifest], texts: Rows, tmp_path: Path
) -> None:
    with serving(made[0] / "store", log_folder=tmp_path, run_jobs="false") as service:
        body = service.classify([row["text"] for row in texts])
        assert {e["answered_by"] for e in body["data"]} == {"model"}
        assert {e["fallback"] for e in body["data"]} == {None, "off"}
        assert "the model answers alone" in service.logged()


def test_a_dead_upstream_is_left_alone_after_some_failures_and_found_again(
    made: tuple[Path, Manifest], texts: Rows, tmp_path: Path
) -> None:
    unsure = split(texts)[1]
    with upstream(Behaviour()) as server:
        limits = {"fallback_timeout_s": 1, "fallback_failures": 3, "fallback_pause_s": 2}
        with served(made[0] / "store", server, tmp_path, **limits) as service:
            server.behaviour.script = ["hang"] * 3
            found = [service.classify(row["text"])["data"][0]["fallback"] for row in unsure[:3]]
            assert found == ["timed_out"] * 3
            started = time.monotonic()
            for _ in range(20):
                entry = service.classify(unsure[0]["text"])["data"][0]
                assert (entry["answered_by"], entry["fallback"]) == ("model", "paused")
            assert time.monotonic() - started < 2 + 1  # none of them waited for its own timeout
            assert len(server.served) == 3
            assert set(timed(service)) == {"timed_out"}  # what was not called took no time
            count, seconds = timed(service)["timed_out"]
            assert count == 3
            assert seconds > 3 * 0.9
            wait_until(
                lambda: service.classify(unsure[0]["text"])["data"][0]["fallback"] == "answered"
            )
            assert service.classify(unsure[1]["text"])["data"][0]["answered_by"] == "prompt"


def test_many_texts_ask_no_more_at_once_than_may_and_end_in_time(
    made: tuple[Path, Manifest], texts: Rows, tmp_path: Path
) -> None:
    unsure = [row["text"] for row in split(texts)[1]]
    with upstream(Behaviour(delay_s=0.3)) as server:
        limits = {"fallback_timeout_s": 0.7, "fallback_concurrency": 2}
        with served(made[0] / "store", server, tmp_path, **limits) as service:
            found = [e["fallback"] for e in service.classify([*unsure, unsure[0]])["data"]]
        assert server.busiest <= 2
        assert "answered" in found
        assert {"busy", "timed_out"} & set(found)
        assert found[-1] == found[0]  # equal texts share a call


def test_a_client_that_leaves_ends_the_call(service: Service, big: Upstream, texts: Rows) -> None:
    big.behaviour.script = ["hang"]
    row = split(texts)[1][0]
    content = f'{{"model": "support", "input": "{row["text"]}"}}'.encode()
    with service.connect() as connection:
        connection.sendall(
            b"POST /v1/classify HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%s" % (len(content), content)
        )
        wait_until(lambda: len(big.served) == 1)
    wait_until(lambda: outcomes(service) == {"cancelled": 1})
    assert timed(service)["cancelled"][0] == 1
    cancelled = ("hone_requests_total", "cancelled")
    wait_until(
        lambda: any(
            (name, dict(labels).get("outcome")) == cancelled and value == 1
            for (name, labels), value in service.metrics().items()
        )
    )


def test_a_new_fallback_is_followed_without_a_failed_request(
    made: tuple[Path, Manifest], texts: Rows, tmp_path: Path
) -> None:
    folder, manifest = made
    registry = Registry(folder / "store")
    row = split(texts)[1][0]
    registry.promote(parse_reference("support@1"))
    try:
        with (
            upstream(Behaviour()) as server,
            served(folder / "store", server, tmp_path, reload_interval_s=0.1) as service,
        ):
            assert service.classify(row["text"])["data"][0]["fallback"] is None
            registry.promote(parse_reference(f"support@{manifest.version}"))

            def by_prompt() -> bool:
                return bool(service.classify(row["text"])["data"][0]["answered_by"] == "prompt")

            wait_until(by_prompt)
            registry.promote(parse_reference("support@1"))
            wait_until(lambda: not by_prompt())
    finally:
        registry.promote(parse_reference(f"support@{manifest.version}"))


def test_the_key_is_in_no_log_metric_or_answer(
    service: Service, big: Upstream, texts: Rows
) -> None:
    big.behaviour.echo_key = True
    big.behaviour.script = ["answer", "status:401", "malformed"]
    for row in split(texts)[1][:3]:
        assert KEY.encode() not in service.post({"model": "support", "input": row["text"]}).body
    assert KEY not in service.logged()
    assert KEY.encode() not in service.get("/metrics").body


def test_the_privacy_page_says_where_texts_may_go(
    service: Service, made: tuple[Path, Manifest], tmp_path: Path
) -> None:
    said = service.get("/privacy").body.decode()
    assert "may be sent to 127.0.0.1" in " ".join(said.split())
    with serving(made[0] / "store", log_folder=tmp_path, run_jobs="false") as alone:
        assert "<b>Nobody else</b> is sent anything" in alone.get("/privacy").body.decode()
