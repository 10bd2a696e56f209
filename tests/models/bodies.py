"""The least that a bundle can be made of: for tests of the store, not of prediction."""

import random
from pathlib import Path
from typing import Any

from hone.models.manifest import (
    FileEntry,
    Manifest,
    ManifestBody,
    build_manifest,
)
from hone.models.registry import Registry

MODEL_FILE = "model.fp32.onnx"
ROOT = Path(__file__).resolve().parents[2]


def make_body(**changes: Any) -> ManifestBody:
    """Return a valid body; `changes` replace its fields."""
    fields: dict[str, Any] = {
        "task": "text-classification",
        "labels": ["bug", "praise"],
        "limits": {"max_tokens": 64},
        "base": {"id": "tiny", "licence": "MIT", "revision": "0" * 64},
        "recipe": {"sha256": "1" * 64, "content": {"epochs": 3, "rate": 2e-5}},
        "data": {"train": {"rows": 10, "sha256": "2" * 64}},
        "scores": {"test": {"accuracy": {"value": 0.5, "low": 0.1, "high": 0.9, "n": 10}}},
        "calibration": {"temperature": 1.25, "ece_before": 0.1, "ece_after": 0.05, "n": 10},
        "variants": {"fp32": MODEL_FILE},
        "parity": {},
        "token_lengths": {"p50": 5, "p90": 9, "p99": 12, "longest": 13},
    }
    return ManifestBody.model_validate(fields | changes)


def fill(folder: Path, *, size: int = 2048, seed: int = 0) -> None:
    """Write the files of a bundle, of random bytes."""
    (folder / MODEL_FILE).write_bytes(random.Random(seed).randbytes(size))
    (folder / "card.md").write_text("# A card\n", encoding="utf-8")


def publish(registry: Registry, model: str = "support", *, size: int = 2048) -> Manifest:
    """Publish one more version of a model."""
    with registry.staging() as staged:
        fill(staged, size=size)
        return registry.publish(model, staged, make_body())


def make_manifest(**changes: Any) -> Manifest:
    return build_manifest(
        make_body(**changes),
        model="support",
        version=1,
        hone_version="0.1.0",
        files=[FileEntry(path=MODEL_FILE, size=1, sha256="a" * 64)],
    )
