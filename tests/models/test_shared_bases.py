"""Adapters and their bases in the store: found by content, and kept while they are needed."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from hone.models.command import app
from hone.models.decoding import loading
from hone.models.decoding.adapters import AdapterWeights
from hone.models.decoding.loading import causal_parts
from hone.models.errors import Conflict, NotFound
from hone.models.manifest import MANIFEST_FILE, AdapterRecord, Manifest, file_sha256
from hone.models.names import ModelReference
from hone.models.registry import Registry
from tests.models.bodies import MODEL_FILE, make_body
from tests.models.shared_bases import GENERATION, publish_adapter, publish_base


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "store")


def record(manifest: Manifest) -> AdapterRecord:
    assert manifest.adapter is not None
    return manifest.adapter


def test_a_base_is_found_by_its_content_in_whatever_version(registry: Registry) -> None:
    first, other, same = (publish_base(registry, seed) for seed in (0, 1, 0))
    assert file_sha256(first, "fp32") == file_sha256(same, "fp32") != file_sha256(other, "fp32")
    on_first, on_other = (publish_adapter(registry, base) for base in (first, other))
    assert registry.base_of(record(on_first), "fp32") == ModelReference("base-0", version=3)
    assert registry.base_of(record(on_other), "fp32") == ModelReference("base-0", version=2)
    registry.remove("base-0", 3)
    assert registry.base_of(record(on_first), "fp32") == ModelReference("base-0", version=1)


def test_the_last_version_with_a_needed_file_stays(registry: Registry) -> None:
    first, other, _ = (publish_base(registry, seed) for seed in (0, 1, 0))
    publish_adapter(registry, first)
    registry.remove("base-0", other.version)  # nobody needs it
    registry.remove("base-0", 1)  # the third holds the same
    with pytest.raises(Conflict, match="support@1 is an adapter on base-0@3"):
        registry.remove("base-0", 3)
    assert registry.listing("base-0").versions == [3]
    registry.remove("support", 1)
    registry.remove("base-0", 3)
    assert registry.models() == []


def test_an_adapter_without_its_base_is_found_out(registry: Registry) -> None:
    base = publish_base(registry)
    adapter = publish_adapter(registry, base)
    words = ["verify", "--store", str(registry.store)]
    assert CliRunner().invoke(app, words).exit_code == 0
    (registry.folder("base-0", 1) / MODEL_FILE).parent.rename(registry.store / ".gone")
    with pytest.raises(NotFound, match="base 'base-0' is not in the store"):
        registry.base_of(record(adapter), "fp32")
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1
    assert "support@1" in done.output
    assert "base-0" in done.output


def test_what_weights_are_shared_as_is_the_same_for_a_base_and_its_adapters(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = publish_base(registry)
    publish_adapter(registry, base)
    weights = AdapterWeights(4, {})
    monkeypatch.setattr(loading, "read_adapter", lambda _: weights)
    of_base = causal_parts(registry.open(ModelReference("base-0")), registry)
    of_adapter = causal_parts(registry.open(ModelReference("support")), registry)
    assert of_base.shared_as == of_adapter.shared_as == file_sha256(base, "fp32")
    assert (of_base.home, of_adapter.home) == (None, ModelReference("base-0", version=1))
    assert (of_base.adapter, of_adapter.adapter) == (None, weights)
    assert of_adapter.open_weights(registry).manifest.model == "base-0"
    with pytest.raises(NotFound, match="base 'base-0' is not in the store"):
        causal_parts(registry.open(ModelReference("support")), Registry(registry.store / "other"))


@pytest.mark.parametrize(
    "changes",
    [
        {"adapter": {"rank": 0, "base": "b", "base_files": {"fp32": "0" * 64}}},
        {"adapter": {"rank": 4, "base": "../b", "base_files": {"fp32": "0" * 64}}},
        {"adapter": {"rank": 4, "base": "b", "base_files": {"int8": "0" * 64}}},
        {"adapter": {"rank": 4, "base": "b", "base_files": {}}},
        {
            "adapter": {"rank": 4, "base": "b", "base_files": {"fp32": "0" * 64}},
            "generation": {**GENERATION, "takes_adapters": True},
        },
    ],
)
def test_a_manifest_that_contradicts_itself_about_its_adapter_is_refused(
    changes: dict[str, Any],
) -> None:
    with pytest.raises(ValidationError):
        make_body(**{"task": "text-generation", "labels": [], "generation": GENERATION, **changes})


def test_a_classifier_is_no_adapter() -> None:
    with pytest.raises(ValidationError):
        make_body(adapter={"rank": 4, "base": "b", "base_files": {"fp32": "0" * 64}})


def break_manifest(registry: Registry, version: int) -> None:
    (registry.folder("base-0", version) / MANIFEST_FILE).write_bytes(b"{}")


def test_a_version_that_cannot_be_read_can_be_removed(registry: Registry) -> None:
    publish_adapter(registry, publish_base(registry))
    break_manifest(registry, 1)
    registry.remove("base-0", 1)
    assert registry.models() == ["support"]


def test_a_broken_version_keeps_no_healthy_one_and_stands_in_for_none(registry: Registry) -> None:
    first, other, same = (publish_base(registry, seed) for seed in (0, 1, 0))
    adapter = publish_adapter(registry, first)
    break_manifest(registry, same.version)
    registry.remove("base-0", other.version)
    with pytest.raises(Conflict, match="support@1 is an adapter on base-0@1"):
        registry.remove("base-0", first.version)
    assert registry.base_of(record(adapter), "fp32") == ModelReference("base-0", version=1)
