"""What a training will hold is estimated from what its backward pass is really given."""

import mmap
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hone.training.generation.causal_bases import obtain_causal_base
from hone.training.generation.causal_model import build_causal_model
from hone.training.generation.encoding import TrainedText
from hone.training.generation.losses import token_losses
from hone.training.generation.memory import estimate_memory, padded_to, rows_together
from hone.training.generation.settling import CausalHyperparameters, settle_causal
from hone.training.memory import held_bytes, peak_bytes
from tests.training.generation.running import recipe_for
from tests.training.generation.tiny import tiny_base

LONGEST = 64


def settled_for(recipe: Any, *, preferences: bool = False) -> CausalHyperparameters:
    return settle_causal(
        recipe, preferences=preferences, rows=100, longest=LONGEST, token_limit=LONGEST
    )


def saved_bytes(model: Any, rows: int) -> int:
    """Return how much a step keeps for its backward pass, weights left out, each storage once."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    lengths = [LONGEST - row for row in range(rows)]
    texts = [TrainedText((5,) * length, (1.0,) * length, length) for length in lengths]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        token_losses(model.train(), texts, pad_id=0)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize(
    ("model", "training"),
    [
        ({"method": "full"}, {}),
        ({"method": "lora", "lora_dropout": 0.0}, {}),
        ({"method": "lora", "lora_dropout": 0.1}, {}),
        ({"method": "full"}, {"gradient_accumulation": 2}),
    ],
)
def test_the_activations_of_a_step_are_within_a_third_of_the_estimate(
    tmp_path: Path, model: dict[str, Any], training: dict[str, Any]
) -> None:
    tiny_base(tmp_path / "base")
    given = {"model": {"base": str(tmp_path / "base"), **model}, "training": training}
    recipe = recipe_for(tmp_path, tmp_path, **given)
    settled = settled_for(recipe)
    made = build_causal_model(obtain_causal_base(recipe.model.base), recipe.model)
    estimate = estimate_memory(made, recipe, settled, before=1000, processes=1)
    parts = training.get("gradient_accumulation", 1)
    assert rows_together(recipe, settled, processes=1) == settled.batch_size // parts
    found = saved_bytes(made, settled.batch_size // parts)
    assert 2 / 3 < found / estimate.activations < 3 / 2
    assert estimate.total > estimate.activations + estimate.weights + 1000


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_half_precision_on_a_cpu_meets_few_lengths_and_learns_the_same(
    tmp_path: Path, precision: str
) -> None:
    base = tiny_base(tmp_path / "base")
    recipe = recipe_for(tmp_path, tmp_path, training={"precision": precision})
    multiple = padded_to(settled_for(recipe))
    assert multiple == (1 if precision == "fp32" else 16)
    model = build_causal_model(base, recipe.model).eval()
    met: list[int] = []
    model.register_forward_pre_hook(
        lambda _module, _args, given: met.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    short = TrainedText((7,) * 9, (0.5,) * 9, 9)
    for length in (17, 24, 31, 32):
        texts = [TrainedText((5,) * length, (1.0,) * length, length), short]
        exact = token_losses(model, texts, pad_id=0)
        padded = token_losses(model, texts, pad_id=0, multiple=multiple)
        one, other = ((found.losses * found.weights).sum(dim=1) for found in (padded, exact))
        assert torch.allclose(one, other, rtol=1e-4)
    assert set(met[1::2]) == ({17, 24, 31, 32} if multiple == 1 else {32})


def test_what_a_process_holds_is_at_most_what_it_has_held() -> None:
    before = held_bytes("cpu")
    with mmap.mmap(-1, 64 * 2**20) as block:  # pages of its own, not what the heap has to spare
        block.write(b"x" * len(block))
        assert held_bytes("cpu") > before + 32 * 2**20
    assert peak_bytes("cpu") >= held_bytes("cpu") > 2**20
