"""A small image classifier of each family, as transformers saves it."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    ConvNextConfig,
    ConvNextForImageClassification,
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

SIDE = 32


MAKERS: dict[str, Any] = {
    "vit": lambda: ViTForImageClassification(
        ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
                  image_size=SIDE, patch_size=8, num_labels=5)
    ),
    "convnext": lambda: ConvNextForImageClassification(
        ConvNextConfig(hidden_sizes=[8, 8, 16, 24], depths=[1, 1, 1, 1], num_labels=5)
    ),
    "resnet": lambda: ResNetForImageClassification(
        ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=5)
    ),
    "mobilenet": lambda: MobileNetV2ForImageClassification(
        MobileNetV2Config(depth_multiplier=0.1, num_labels=5)
    ),
}  # fmt: skip


def saved(kind: str, folder: Path) -> Path:
    torch.manual_seed(0)
    MAKERS[kind]().save_pretrained(folder / kind)
    return folder / kind
