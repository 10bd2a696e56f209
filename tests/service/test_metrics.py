"""Each counter moves by exactly one for one request, and the sums are right."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hone.comparison.prices import load_prices
from hone.models.registry import Registry
from tests.service.running import Service, serving, wait_until
from tests.service.starting import answers, loading_slowly
from tests.tiny_bundle import BASELINE, publish_tiny

Labels = tuple[tuple[str, str], ...]
SUPPORT: Labels = (("model", "support"), ("version", "1"))
NO_MODEL: Labels = (("model", ""), ("version", ""))
METHOD = ("method", "estimated:characters")
ANSWERED_COUNTS = {
    "hone_request_duration_seconds_count",
    "hone_tokenization_duration_seconds_count",
    "hone_queue_duration_seconds_count",
    "hone_inference_duration_seconds_count",
}


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("counted")
    registry = Registry(folder / "store")
    publish_tiny(registry)
    publish_tiny(registry, "unpriced", baseline={**BASELINE, "price_model": "nobody-knows-it"})
    publish_tiny(registry, "losing", baseline={**BASELINE, "static_tokens": 0})
    publish_tiny(registry, "plain", baseline=None)
    with serving(registry.store, log_folder=folder, max_items=8) as service:
        yield service


def moved(service: Service, body: object, status: int) -> dict[tuple[str, Labels], float]:
    """Send one request; return every counter that moved and by how much."""
    before = service.metrics()
    assert service.post(body).status == status
    after = service.metrics()
    return {
        sample: value - before.get(sample, 0.0)
        for sample, value in after.items()
        if sample[0].startswith("hone_")
        and sample[0].endswith(("_total", "_count"))
        and value != before.get(sample, 0.0)
    }


def outcome(labels: Labels, word: str) -> tuple[str, Labels]:
    return "hone_requests_total", tuple(sorted((*labels, ("outcome", word))))


def test_an_answered_request_moves_each_of_its_counters_once(counted: Service) -> None:
    changes = moved(counted, {"model": "support", "input": ["where is my card", "money"]}, 200)
    counts = {(name, SUPPORT) for name in ANSWERED_COUNTS} | {outcome(SUPPORT, "answered")}
    assert {sample: changes.pop(sample) for sample in counts} == dict.fromkeys(counts, 1.0)
    assert changes.pop(("hone_batch_texts_count", SUPPORT)) in {1, 2}
    assert changes.pop(("hone_batch_padding_ratio_count", SUPPORT)) in {1, 2}
    counted_by = tuple(sorted((*SUPPORT, METHOD)))
    priced = tuple(sorted((*SUPPORT, METHOD, ("price_model", "gpt-4o-mini"))))
    price = load_prices()["gpt-4o-mini"]
    dollars = 246 * price.input_cost_per_token + 2 * 2 * price.output_cost_per_token
    assert changes.pop(("hone_dollars_saved_total", priced)) == pytest.approx(dollars)
    assert changes == {
        ("hone_texts_total", SUPPORT): 2,
        ("hone_prompt_tokens_total", SUPPORT): 9,
        ("hone_baseline_tokens_total", counted_by): 246,
        ("hone_tokens_saved_total", counted_by): 237,
    }


def test_an_unknown_price_is_counted_and_no_dollars_are_claimed(counted: Service) -> None:
    changes = moved(counted, {"model": "unpriced", "input": "card"}, 200)
    labels = (("model", "unpriced"), ("version", "1"))
    assert changes["hone_unpriced_requests_total", labels] == 1
    assert not any(name == "hone_dollars_saved_total" for name, _ in changes)


def test_a_loss_is_counted_as_a_loss(counted: Service) -> None:
    changes = moved(counted, {"model": "losing", "input": "a b c d"}, 200)
    labels = tuple(sorted((("model", "losing"), ("version", "1"), METHOD)))
    assert changes["hone_tokens_lost_total", labels] == 6 - 2
    assert ("hone_tokens_saved_total", labels) not in changes


def test_without_a_baseline_nothing_is_saved_or_unpriced(counted: Service) -> None:
    changes = moved(counted, {"model": "plain", "input": "card"}, 200)
    names = {name for name, _ in changes}
    assert not any("saved" in name or "baseline" in name or "unpriced" in name for name in names)


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"{", 400, "invalid_json"),
        ({"model": "support", "input": ""}, 400, "empty_text"),
        ({"model": "support", "input": ["a"] * 9}, 400, "too_many_items"),
        ({"model": "support", "input": "a" * 100_001}, 400, "text_too_long"),
        ({"model": "support", "input": "a", "x": 1}, 400, "unknown_field"),
        ({"model": "nothing", "input": "a"}, 404, "model_not_found"),
        ({"model": "support", "input": "a" * 3_000_000}, 413, "body_too_large"),
    ],
)
def test_a_refused_request_moves_two_counters_once(
    counted: Service, body: object, status: int, reason: str
) -> None:
    assert moved(counted, body, status) == {
        outcome(NO_MODEL, "rejected"): 1,
        ("hone_rejections_total", (("reason", reason),)): 1,
    }


def test_a_failed_text_is_a_failed_request(tmp_path: Path) -> None:
    with serving(
        tmp_path / "none",
        "0",
        "~",
        program=("-m", "tests.service.fake_driver"),
        log_folder=tmp_path,
    ) as service:
        service.classify("warm", "fake")
        answer = service.post({"model": "fake", "input": ["fine", "not ~ fine"]})
        assert answer.status == 500
        assert answer.error() == {
            "message": "The model failed on 'input[1]'.",
            "type": "server_error",
            "param": "input[1]",
            "code": "inference_failed",
        }
        labels: Labels = (("model", "fake"), ("version", "1"))
        changes = moved(service, {"model": "fake", "input": "~"}, 500)
        assert changes == {outcome(labels, "failed"): 1}
        assert service.classify("fine", "fake")["model"] == "fake@1"
        assert "poisoned" in service.logged()


def test_a_request_s_seconds_hold_the_loading_of_its_version(tmp_path: Path) -> None:
    for seed in (1, 2):
        publish_tiny(Registry(tmp_path / "store"), seed=seed)
    with loading_slowly(tmp_path / "store", 1) as service:
        wait_until(lambda: answers(service) and service.get("/readyz").status == 200)
        service.classify("card", "support@1")
        spent = service.metrics()["hone_request_duration_seconds_sum", SUPPORT]
        assert 1 <= spent < 20


def test_probes_and_other_routes_are_no_requests(counted: Service) -> None:
    before = counted.metrics()
    for path in ("/readyz", "/livez", "/startupz", "/v1/models", "/docs", "/nothing"):
        counted.get(path)
    after = counted.metrics()
    for sample, value in after.items():
        if sample[0] in {"hone_requests_total", "hone_rejections_total", "hone_texts_total"}:
            assert value == before[sample]


def test_metrics_have_units_and_the_standing_facts(counted: Service) -> None:
    samples = counted.metrics()
    names = {name for name, _ in samples if name.startswith("hone_")}
    assert names
    assert samples["hone_loaded_models", ()] == 4
    assert [value for (name, _), value in samples.items() if name == "hone_build_info"] == [1]
    buckets = [
        float(dict(labels)["le"])
        for name, labels in samples
        if name == "hone_inference_duration_seconds_bucket" and SUPPORT[0] in labels
    ]
    assert min(buckets) == 0.0005


def test_metrics_can_be_turned_off(tmp_path: Path) -> None:
    with serving(tmp_path / "none", "--fake", log_folder=tmp_path, metrics=False) as service:
        assert service.get("/metrics").status == 404
        service.classify("card", "fake")
