"""A comparison whose verdict is a fallback: the model errs where it is unsure, the prompt never."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hone.comparison.judging import judge
from hone.models.manifest import Manifest
from hone.models.names import parse_reference
from hone.models.predictor import load_predictor
from hone.models.registry import Registry
from tests.comparison.experiments import experiment_text, run, write_lines
from tests.comparison.upstream import Upstream
from tests.tiny_bundle import LABELS, WORDS, publish_tiny

SURE = 0.7
SHARP = {"temperature": 0.4, "ece_before": 0.1, "ece_after": 0.05, "n": 10}
KEY = "sk-of-the-comparison"


def rows(store: Path, count: int, *, seed: int) -> list[dict[str, Any]]:
    """Return texts that name their label, which the model finds if, and only if, it is sure.

    Of every second one it is; the stand-in upstream reads the name.
    """
    predictor = load_predictor(Registry(store).open(parse_reference("support")))
    words = [word for word in WORDS if word not in LABELS]
    generator = np.random.default_rng(seed)
    found: list[dict[str, Any]] = []
    while len(found) < count:
        text = " ".join(generator.choice(words, size=3))
        label = str(generator.choice(LABELS))
        whole = f"{text} {label} {seed}{len(found)}"
        scores = predictor.probabilities(predictor.encode([whole]))[0]
        confidence = float(scores.max())
        sure = confidence >= SURE
        wanted = len(found) % 2 == 0
        if sure == wanted == (LABELS[int(scores.argmax())] == label):
            found.append({"text": whole, "label": label, "confidence": confidence})
    return found


def plain(found: list[dict[str, Any]]) -> list[Mapping[str, Any]]:
    return [{"text": row["text"], "label": row["label"]} for row in found]


def prompt(server: Upstream, **changes: Any) -> dict[str, Any]:
    """Return the baseline: a zero-shot prompt."""
    return {
        "name": "prompted",
        "kind": "prompt",
        "prompt": "zero-shot",
        "model": "big",
        "address": server.address,
        **changes,
    }


def compared(folder: Path, server: Upstream, *, test: int = 400, **changes: Any) -> Path:
    """Publish a tiny model, compare it with a prompt, judge, and return the run's folder.

    The store is `folder/store`; `changes` are of the prompt.
    """
    store, data = folder / "store", folder / "data"
    if not store.is_dir():
        publish_tiny(Registry(store), seed=3, calibration=SHARP)
    write_lines(data / "train.jsonl", plain(rows(store, 40, seed=1)))
    write_lines(data / "test.jsonl", plain(rows(store, test, seed=2)))
    (data / "prices.json").write_text(
        '{"big": {"input_cost_per_token": 1e-5, "output_cost_per_token": 5e-5}}'
    )
    tuned = {"name": "tuned", "kind": "bundle", "model": "support@1", "store": str(store)}
    text = experiment_text(
        data,
        tuned,
        prompt(server, **changes),
        decision={"baseline": "prompted", "max_error": 0.1, "margin": 0.05},
        experiment={"labels": list(LABELS)},
    )
    finished = run(text, folder / "run")
    judge(finished.folder, finished.question)
    return finished.folder


def adopted(registry: Registry) -> Manifest:
    """Return the newest version's manifest."""
    return registry.manifest(parse_reference("support@latest"))
