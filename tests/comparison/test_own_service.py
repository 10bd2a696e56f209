"""A model that Hone itself serves is asked by each of its APIs, and says what the bundle says."""

from pathlib import Path

from hone.models.registry import Registry
from tests.comparison.experiments import experiment_text, prompt, run, write_data
from tests.comparison.picture_runs import write_picture_data
from tests.service.running import serving
from tests.tiny_bundle import publish_tiny
from tests.tiny_picture_bundle import publish_tiny_pictures

LABELS = ("card_lost", "greeting", "password", "refund")


def test_every_api_of_our_own_service_gives_the_bundles_labels(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", test=8)
    registry = Registry(tmp_path / "store")
    publish_tiny(registry, labels=LABELS)
    with serving(registry.store, log_folder=tmp_path) as service:
        address = f"http://127.0.0.1:{service.port}/v1"
        there = {"kind": "served", "model": "support", "address": address, "billing": "hosting"}
        text = experiment_text(
            data,
            {"name": "here", "kind": "bundle", "model": "support", "store": str(registry.store)},
            *({"name": api, "api": api, **there} for api in ("classify", "chat", "completions")),
            {"name": "decisions", "api": "decisions", **there},
            prompt(address, "prompted", model="support", billing="hosting", examples_as="turns"),
        )
        finished = run(text, tmp_path / "out")
    labels = {
        name: [outcome.label for outcome in finished.outcomes if outcome.contender == name]
        for name in ("here", "classify", "chat", "completions", "decisions", "prompted")
    }
    assert len(set(labels["here"])) > 1
    for name, found in labels.items():
        assert found == labels["here"], name
    for outcome in finished.outcomes:
        if outcome.contender in {"classify", "decisions"}:
            assert outcome.confidence is not None
        if outcome.contender in {"chat", "completions", "classify"}:
            assert outcome.usage.counting == "measured"
    assert finished.sums.usd == 0


def test_our_own_service_gives_the_bundles_labels_of_pictures(tmp_path: Path) -> None:
    data = write_picture_data(tmp_path / "data")
    registry = Registry(tmp_path / "store")
    publish_tiny_pictures(registry)
    with serving(registry.store, log_folder=tmp_path) as service:
        address = f"http://127.0.0.1:{service.port}/v1"
        there = {"kind": "served", "model": "colours", "address": address, "billing": "hosting"}
        text = experiment_text(
            data,
            {"name": "here", "kind": "bundle", "model": "colours", "store": str(registry.store)},
            {"name": "classify", **there},
            {"name": "chat", "api": "chat", "detail": "high", **there},
            {"name": "with words", "api": "chat", "template": "Which colour? {image}", **there},
        )
        finished = run(text, tmp_path / "out")
    said = {
        name: [(o.label, o.usage) for o in finished.outcomes if o.contender == name]
        for name in ("here", "classify", "chat", "with words")
    }
    labels = {name: [label for label, _ in found] for name, found in said.items()}
    assert labels["here"] == ["green", "red", "blue"] * 3
    for name, found in labels.items():
        assert found == labels["here"], name
    assert {usage.counting for name in ("classify", "chat") for _, usage in said[name]} == {
        "measured"
    }
