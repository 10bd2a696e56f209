"""Pictures as the model reads them, varied anew in each training step, with torch alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hone.models.imaging.preprocessing import Preprocessing, normalize
from hone.training.images.loading import PictureSplit
from hone.training.images.recipe import AugmentationGroup

_LONGEST_SIDE = 4 / 3
"""Most that a crop's sides may differ from the picture's proportions (Szegedy et al. 2015)."""


@dataclass(frozen=True, slots=True)
class PictureFeed:
    """Float32 pictures (pictures, 3, height, width); in training cropped, mirrored and tinted.

    Everything is drawn from torch's generator, whose state a checkpoint holds.
    """

    rule: Preprocessing
    augmentation: AugmentationGroup

    def __call__(
        self, split: PictureSplit, rows: Sequence[int], device: torch.device, *, training: bool
    ) -> tuple[Tensor, ...]:
        """Return the pictures of some rows."""
        pixels = np.stack([split.pixels[row] for row in rows])
        if not training:
            return (torch.from_numpy(normalize(pixels, self.rule)).to(device),)
        drawn = self._draw(len(rows))
        return (self._varied(torch.from_numpy(normalize(pixels, self.rule)), *drawn).to(device),)

    def _draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Return the affine maps (count, 2, 3) of the crops, and tints (count, 2)."""
        chosen = self.augmentation
        area = chosen.smallest_crop + (1 - chosen.smallest_crop) * torch.rand(count)
        stretch = torch.exp((2 * torch.rand(count) - 1) * np.log(_LONGEST_SIDE) / 2)
        if chosen.smallest_crop == 1:
            stretch = torch.ones(count)
        width, height = (area.sqrt() * stretch).clamp(max=1), (area.sqrt() / stretch).clamp(max=1)
        left, top = (2 * torch.rand(2, count) - 1) * torch.stack([1 - width, 1 - height])
        sign = torch.where(torch.rand(count) < 0.5, -1.0, 1.0) if chosen.mirror else 1.0
        zero = torch.zeros(count)
        rows = [torch.stack([width * sign, zero, left], 1), torch.stack([zero, height, top], 1)]
        return torch.stack(rows, 1), 1 + chosen.colour * (2 * torch.rand(count, 2) - 1)

    def _varied(self, pictures: Tensor, maps: Tensor, tints: Tensor) -> Tensor:
        size = (len(pictures), 3, self.rule.height, self.rule.width)
        grid = functional.affine_grid(maps, list(size), align_corners=False)
        cut = functional.grid_sample(
            pictures, grid, mode="bilinear", padding_mode="reflection", align_corners=False
        )
        # Black is not 0 after normalising: brightness scales from there, contrast from the mean.
        black = torch.from_numpy(normalize(np.zeros((1, 1, 1, 3), dtype=np.uint8), self.rule))
        brighter = black + (cut - black) * tints[:, 0, None, None, None]
        mean = brighter.mean(dim=(1, 2, 3), keepdim=True)
        return mean + (brighter - mean) * tints[:, 1, None, None, None]
