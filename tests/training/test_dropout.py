"""The cheap masks drop what they should, keep the expectation, and follow the seed."""

import pytest
import torch
from torch import nn

from hone.training.dropout import CheapDropout, cheapen_dropout


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_drops_its_share_and_keeps_the_expectation(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    found = CheapDropout(p)(torch.ones(300, 1001, dtype=dtype)).float()
    assert found.dtype == torch.float32
    assert float((found == 0).float().mean()) == pytest.approx(p, abs=1 / 256)
    assert float(found.mean()) == pytest.approx(1.0, abs=0.01)
    assert found.unique().numel() == 2


def test_every_byte_of_a_drawn_number_is_a_fair_mask() -> None:
    torch.manual_seed(0)
    dropped = (CheapDropout(0.25)(torch.ones(20_000, 8)) == 0).float().mean(dim=0)
    assert dropped.tolist() == pytest.approx([0.25] * 8, abs=0.015)
    pairs = (CheapDropout(0.5)(torch.ones(20_000, 8)) == 0).float()
    assert float((torch.corrcoef(pairs.T) - torch.eye(8)).abs().max()) < 0.04


def test_it_follows_the_seed_and_two_calls_differ() -> None:
    dropout, ones = CheapDropout(0.3), torch.ones(50, 50)
    torch.manual_seed(4)
    first, second = dropout(ones), dropout(ones)
    torch.manual_seed(4)
    assert torch.equal(dropout(ones), first)
    assert not torch.equal(first, second)


def test_it_passes_gradients_where_it_passed_values() -> None:
    values = torch.randn(64, 64, requires_grad=True)
    found = CheapDropout(0.5)(values)
    torch.autograd.backward(found.sum())
    assert values.grad is not None
    assert torch.equal(values.grad == 0, found == 0)


@pytest.mark.parametrize("p", [0.0, 0.001, 1.0])
def test_shares_that_are_no_mask_are_left_to_torch(p: float) -> None:
    values = torch.randn(8, 8)
    torch.manual_seed(1)
    found = CheapDropout(p)(values)
    torch.manual_seed(1)
    assert torch.equal(found, nn.Dropout(p)(values))
    assert torch.equal(CheapDropout(0.5).eval()(values), values)


def test_all_dropout_of_a_model_is_replaced_and_keeps_its_share() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Dropout(0.2)), nn.Dropout(0.4))
    cheapen_dropout(model)
    found = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    assert [(type(module), module.p) for module in found] == [
        (CheapDropout, 0.2),
        (CheapDropout, 0.4),
    ]
