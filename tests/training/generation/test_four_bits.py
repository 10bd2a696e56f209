"""QLoRA's way to the whole base, with weights that are rounded coarsely for four bits."""

from pathlib import Path
from typing import Any

import pytest
import torch

from hone.training.generation import text_generation
from hone.training.generation.causal_data import CausalData
from hone.training.generation.causal_model import build_causal_model
from hone.training.generation.causal_scores import Scores, score_splits
from hone.training.generation.conversations import Preference
from hone.training.generation.losses import DirectPreference
from tests.training.generation.running import recipe_for, train, without_publishing, write_splits
from tests.training.generation.tiny import COLOURS


def preferences(count: int, first: int) -> list[Any]:
    return [
        Preference(f"{n} like ->", f" {COLOURS[n % 4]}", f" {COLOURS[n % 3]} and more")
        for n in range(first, first + count)
    ]


def build_rounded(base: Any, group: Any, **options: Any) -> Any:
    """Build the model on a CPU; the base of `qlora` is one whose weights are rounded to tenths."""
    if group.method != "qlora":
        return build_causal_model(base, group, **options)
    model = build_causal_model(base, group.model_copy(update={"method": "lora"}), **options)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" not in name:
                weight.copy_(torch.round(weight, decimals=1))
    return model


def test_a_pair_gains_from_what_was_learned_not_from_what_rounding_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[tuple[Any, DirectPreference]] = []

    def score(model: Any, data: CausalData, base: Any, objective: Any, **options: Any) -> Scores:
        judged.append((model, objective))
        return score_splits(model, data, base, objective, **options)

    without_publishing(monkeypatch)
    monkeypatch.setattr(text_generation, "build_causal_model", build_rounded)
    monkeypatch.setattr(text_generation, "refuse_what_needs_a_gpu", lambda *_: None)
    monkeypatch.setattr(text_generation, "score_splits", score)
    recipe = recipe_for(
        tmp_path,
        write_splits(tmp_path / "data", preferences),
        model={"method": "qlora", "lora_rank": 2},
        optimizer={"learning_rate": 1e-12},
        training={"epochs": 1.0},
    )
    finished = train(recipe)
    ((model, objective),) = judged
    begun = finished.named("evaluated")[0]["loss"]
    assert begun == pytest.approx(0.6931, abs=1e-3), "trained from the rounded base"
    assert objective.test is not None
    for pairs in (objective.validation, objective.test):  # nothing was learned
        assert float(objective.all_margins(model, pairs).abs().max()) < 1e-4
    rounded = objective.all_margins(model, objective.train)
    assert float(rounded.abs().max()) > 1e-3, "rounding moved the base too little to be seen"
