"""Beginning from a fine-tuned version's weights instead of the base's own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from hone.models.bundle import Bundle
from hone.models.catalogue import Base
from hone.models.errors import BundleCorrupt, InvalidInput
from hone.models.names import parse_reference
from hone.models.registry import Registry
from hone.training.classifier import TextClassifier
from hone.training.recipe import ClassifierRecipe

WEIGHTS_FILE = "weights.safetensors"
"""What a bundle's trained weights are called."""


def find_earlier(recipe: ClassifierRecipe, base: Base) -> Bundle | None:
    """Return the version that the recipe continues from, every hash of it verified.

    NotFound when there is none, InvalidInput when it is of another base or keeps no weights.
    """
    name = recipe.model.continue_from
    if name is None:
        return None
    bundle = Registry(Path(recipe.saving.store)).open(parse_reference(name))
    made_from = bundle.manifest.base.id
    if made_from != base.id:
        raise InvalidInput(
            f"model.continue_from: {name} was made from the base {made_from}, not {base.id}"
        )
    if all(entry.path != WEIGHTS_FILE for entry in bundle.manifest.files):
        raise InvalidInput(f"model.continue_from: {name} was published without its weights")
    return bundle


def begin_from(bundle: Bundle, model: TextClassifier, labels: Sequence[str]) -> None:
    """Put the version's weights into `model`; the head keeps what it knows of these labels.

    A label that the version did not have begins as in a new head. BundleCorrupt when the weights
    are not this encoder's.
    """
    try:
        weights: dict[str, Tensor] = load_file(bundle.file(WEIGHTS_FILE))
    except (OSError, SafetensorError):
        raise BundleCorrupt(f"the weights of {bundle.folder.name} cannot be read") from None
    known = {label: row for row, label in enumerate(bundle.manifest.labels)}
    with torch.no_grad():
        _fill(_bare(model.encoder), weights)
        for row, label in enumerate(labels):
            if label in known:
                model.head.weight[row] = weights["head.weight"][known[label]]
                model.head.bias[row] = weights["head.bias"][known[label]]


def _bare(encoder: nn.Module) -> Any:  # noqa: ANN401 - a class of transformers, which has no types
    return encoder.get_base_model() if isinstance(encoder, PeftModel) else encoder


def _fill(encoder: nn.Module, weights: dict[str, Tensor]) -> None:
    """Copy the encoder's weights; LoRA's own matrices stay as they are, without effect yet."""
    for name, own in encoder.state_dict().items():
        if ".lora_" in name:
            continue
        found = weights.get("encoder." + name.replace(".base_layer.", "."))
        if found is None or found.shape != own.shape:
            raise BundleCorrupt(f"the weights to continue from do not fit the base: {name}")
        own.copy_(found)
