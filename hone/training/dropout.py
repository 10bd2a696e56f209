"""Dropout whose masks cost little on a CPU.

torch draws a 32-bit number for every element on one thread: an eighth of a training step of a
small encoder on short texts. Here one 64-bit number gives eight masks.
"""

import torch
from torch import Tensor, nn

_LEVELS = 256


class CheapDropout(nn.Dropout):
    """`nn.Dropout` with `p` rounded to a 256th; on a GPU the very same as `nn.Dropout`."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Return the input with a share `p` of its elements zeroed and the others scaled up."""
        cut = round(self.p * _LEVELS)
        if not self.training or input.device.type != "cpu" or cut in {0, _LEVELS}:
            return super().forward(input)
        count = input.numel()
        words = torch.empty(-(-count // 8), dtype=torch.int64).random_(-(2**63), None)
        kept = words.view(torch.uint8)[:count].view(input.shape) >= cut
        return input * (kept.to(input.dtype) * (_LEVELS / (_LEVELS - cut)))


def cheapen_dropout(model: nn.Module) -> None:
    """Replace every `nn.Dropout` inside `model`."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, CheapDropout(child.p))


def hide_tokens(ids: Tensor, mask: Tensor, *, share: float, mask_id: int) -> Tensor:
    """Return `ids` with a random share of each text's own tokens replaced by `mask_id`.

    Never the first and the last token of a text, which are special. A classifier that must do
    with any nine tenths of a text does not learn single texts by heart (word dropout, Iyyer et
    al. 2015).
    """
    if share == 0:
        return ids
    places = torch.arange(ids.shape[1], device=ids.device)
    inner = (places > 0) & (places < mask.sum(dim=1, keepdim=True) - 1)
    drawn = torch.rand(ids.shape).to(ids.device) < share
    return ids.masked_fill(inner & drawn, mask_id)
