"""The trained model: a backbone that gives features, and a linear head."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from peft import LoraConfig, PeftModel
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForImageClassification

from hone.models.catalogue import Base
from hone.models.errors import InvalidInput, InvalidRecipe
from hone.models.imaging.preprocessing import Preprocessing
from hone.models.manifest import sha256_of_json
from hone.training.bases import obtain_base
from hone.training.classifier import weights_file, weights_revision, with_lora
from hone.training.images.processor_config import read_processor_config
from hone.training.images.recipe import SCRATCH, PictureModelGroup

_LOADING_ERRORS = (OSError, ValueError, RuntimeError, SafetensorError, StrictDataclassError)
_DROPOUTS = ("classifier_dropout_prob", "classifier_dropout", "dropout_rate")
_SCRATCH_SIZE = 64
_NO_FOLDER = Path()


@dataclass(frozen=True, slots=True)
class PictureBase:
    """A base, how it wants its pictures, and the SHA-256 of its weights."""

    base: Base
    rule: Preprocessing
    revision: str


class ImageClassifier(nn.Module):
    """Backbone, dropout and a linear head.

    `forward` takes float32 pictures (pictures, 3, height, width) and returns logits of shape
    (pictures, labels). Batch norms keep the statistics of the pretraining: a few small batches
    know them worse, and what is exported is then what was trained.
    """

    def __init__(self, backbone: nn.Module, *, features: int, labels: int, dropout: float) -> None:
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(features, labels)

    def features(self, pixel_values: Tensor) -> Tensor:
        """Return what the head reads, float32 (pictures, features)."""
        found: Tensor = self.backbone(pixel_values)
        return found

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Return logits of shape (pictures, labels)."""
        logits: Tensor = self.head(self.dropout(self.features(pixel_values)))
        return logits

    def train(self, mode: bool = True) -> "ImageClassifier":
        """Turn training on or off; batch norms stay as they are in use."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 - has no other
                module.eval()
        return self


class _Pretrained(nn.Module):
    """An image classifier of transformers whose last layer was taken off."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Return the features of pictures, flat."""
        found: Tensor = self.net(pixel_values=pixel_values).logits
        return found.flatten(1)


class ConvNet(nn.Module):
    """A small residual network for bases of random weights: 0.5 M parameters, 192 features.

    Group norms (Wu and He 2018) need no statistics of batches.
    """

    features = 192

    def __init__(self) -> None:
        super().__init__()
        widths = (32, 64, 128, self.features)
        self.stem = nn.Sequential(nn.Conv2d(3, widths[0], 3, 2, 1, bias=False), _norm(widths[0]))
        self.stages = nn.ModuleList(_Block(before, after) for before, after in pairwise(widths))

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Return the mean of the last feature map, float32 (pictures, 192)."""
        found: Tensor = torch.relu(self.stem(pixel_values))
        for stage in self.stages:
            found = stage(found)
        return found.mean(dim=(2, 3))


class _Block(nn.Module):
    """Halve the map, then add what two convolutions make of it."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(before, after, 3, 2, 1, bias=False), _norm(after))
        self.first = nn.Sequential(nn.Conv2d(after, after, 3, 1, 1, bias=False), _norm(after))

    def forward(self, found: Tensor) -> Tensor:
        """Return a map of half the size."""
        smaller = torch.relu(self.down(found))
        return torch.relu(smaller + cast("Tensor", self.first(smaller)))


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(8, channels)


def obtain_picture_base(group: PictureModelGroup) -> PictureBase:
    """Return the recipe's base, fetching it first if it is on a hub; NotFound or InvalidInput."""
    if group.scratch:
        if group.base != SCRATCH:
            raise InvalidRecipe([f"model.base: there is no {group.base!r}; there is {SCRATCH!r}"])
        size = _SCRATCH_SIZE if group.picture_size == "auto" else group.picture_size
        rule = Preprocessing(
            height=size, width=size, shortest_edge=size, mean=(0.5,) * 3, std=(0.25,) * 3
        )
        base = Base(SCRATCH, _NO_FOLDER, "Apache-2.0", "image-classification", 0)
        return PictureBase(base, rule, sha256_of_json([SCRATCH, 1]))
    if group.picture_size != "auto":
        raise InvalidRecipe(["model.picture_size: only a 'scratch:' base has a size to choose"])
    base = obtain_base(group.base, "image-classification")
    return PictureBase(base, read_processor_config(base.folder), weights_revision(base))


def build_image_classifier(
    found: PictureBase, group: PictureModelGroup, *, labels: int
) -> ImageClassifier:
    """Load the base and put a fresh head on it, as the method asks for.

    InvalidInput when the base's files are not one whole model; InvalidRecipe for LoRA on an
    architecture without linear layers.
    """
    if group.scratch:
        return ImageClassifier(
            ConvNet(), features=ConvNet.features, labels=labels, dropout=group.dropout
        )
    net = _load_net(found.base)
    features = _take_head_off(net, found.base)
    backbone: nn.Module = _Pretrained(net)
    if group.settled_method == "lora":
        backbone = _with_lora(net, group)
    elif group.settled_method == "probe":
        backbone.requires_grad_(False)
    return ImageClassifier(backbone, features=features, labels=labels, dropout=group.dropout)


def merge_picture_lora(model: ImageClassifier) -> None:
    """Fold LoRA matrices into the weights that they adapt; nothing to do for other methods."""
    net = getattr(model.backbone, "net", None)
    if isinstance(net, PeftModel):
        model.backbone = _Pretrained(cast("nn.Module", net.merge_and_unload()))


def _load_net(base: Base) -> Any:  # noqa: ANN401 - a class of transformers, which has no types
    weights_file(base)
    try:
        config = AutoConfig.from_pretrained(base.folder, trust_remote_code=False)
        for name in _DROPOUTS:
            if hasattr(config, name):
                setattr(config, name, 0.0)  # there is one of our own before the head
        net, report = AutoModelForImageClassification.from_pretrained(
            base.folder,
            config=config,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except _LOADING_ERRORS as error:
        raise InvalidInput(
            f"the base {base.id}: its weights do not fit its config.json, or it is no image "
            "classifier that transformers knows"
        ) from error
    missing = sorted(name for name in report["missing_keys"] if "classifier" not in name)
    if missing:
        raise InvalidInput(f"the base {base.id} lacks {len(missing)} weights, as {missing[0]}")
    return net


def _take_head_off(net: Any, base: Base) -> int:  # noqa: ANN401 - as above
    """Replace the one linear layer that gives the base's own labels; return what it reads."""
    labels = int(net.config.num_labels)
    heads = [
        name
        for name, module in net.named_modules()
        if isinstance(module, nn.Linear)
        and module.out_features == labels
        and "encoder" not in name
        and "classifier" in name
    ]
    if len(heads) != 1:
        raise InvalidInput(f"the base {base.id} has no single linear layer as its head")
    parent, _, last = heads[0].rpartition(".")
    owner = net.get_submodule(parent)
    features = int(getattr(owner, last).in_features)
    setattr(owner, last, nn.Identity())
    return features


def _with_lora(net: nn.Module, group: PictureModelGroup) -> nn.Module:
    if not any(isinstance(module, nn.Linear) for module in net.modules()):
        raise InvalidRecipe(
            ["model.method: this base has no linear layers for LoRA: take 'full' or 'probe'"]
        )
    config = LoraConfig(
        r=group.lora_rank,
        lora_alpha=group.lora_alpha,
        lora_dropout=group.lora_dropout,
        target_modules="all-linear",
    )
    return _Pretrained(with_lora(net, config))
