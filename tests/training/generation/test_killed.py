"""A training that SIGKILL ended goes on as if nothing had been, whatever is trained."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hone.training.generation.conversations import Preference
from hone.training.generation.generation_recipe import GenerationRecipe
from hone.training.generation.sampling import read_samples
from tests.training.generation.running import recipe_for, train, without_publishing, write_splits
from tests.training.generation.tiny import colour_rows
from tests.training.runs import ONE_THREAD, ROOT

LORA: dict[str, Any] = {"method": "lora", "lora_rank": 4, "lora_dropout": 0.1}
KINDS: dict[str, dict[str, dict[str, Any]]] = {
    "full": {"model": {"dropout": 0.1}},
    "lora": {"model": LORA, "optimizer": {"name": "adafactor"}},
    "dpo": {"model": LORA},
}
KILLED_AT = 8
"""In the second epoch of six steps each: an evaluation is behind it, and one is to come."""


def preferences(count: int, first: int) -> list[Any]:
    return [
        Preference(row.prompt, row.completion, " no")  # type: ignore[union-attr]
        for row in colour_rows(count, first)
    ]


def recipe(folder: Path, kind: str, *, checkpoint_every_s: float) -> GenerationRecipe:
    rows = preferences if kind == "dpo" else colour_rows
    data = write_splits(folder / kind / "data", rows)
    training = {"checkpoint_every_s": checkpoint_every_s}
    return recipe_for(folder / kind, data, training=training, **KINDS[kind])


def weights(run: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(run / "model" / "model.safetensors")
    return found


@pytest.mark.slow
def test_killed_runs_go_on_to_the_last_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {kind: recipe(tmp_path / "broken", kind, checkpoint_every_s=1e-9) for kind in KINDS}
    files = []
    for kind, one in broken.items():
        files.append(tmp_path / f"{kind}.json")
        files[-1].write_text(one.model_dump_json(), encoding="utf-8")
    driver = ["tests.training.generation.kill_driver", str(KILLED_AT), *map(str, files)]
    subprocess.run([sys.executable, "-m", *driver], env=ONE_THREAD, cwd=ROOT, check=True)

    without_publishing(monkeypatch)
    monkeypatch.setattr("os.fsync", lambda _: None)
    for kind, one in broken.items():
        (left,) = (tmp_path / "broken" / kind / "runs").glob("*/.checkpoint-*.new")
        assert left.name == f".checkpoint-{KILLED_AT}.new", "it was killed half-way"
        resumed = train(one)
        assert resumed.named("resumed")[0]["step"] == KILLED_AT - 1
        whole = train(recipe(tmp_path / "whole", kind, checkpoint_every_s=1e9))
        assert whole.named("resumed") == []
        expected, found = weights(whole.folder), weights(resumed.folder)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected), kind
        assert list(read_samples(resumed.folder)) == list(read_samples(whole.folder))
