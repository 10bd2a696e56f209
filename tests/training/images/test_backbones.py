from pathlib import Path
from typing import Any

import pytest
import torch

from hone.models.errors import InvalidInput, InvalidRecipe, NotFound
from hone.training.classifier import trained_parameters
from hone.training.images.backbones import (
    ImageClassifier,
    build_image_classifier,
    merge_picture_lora,
    obtain_picture_base,
)
from hone.training.images.recipe import PictureModelGroup
from tests.training.images.families import MAKERS, SIDE, saved


def group(base: object, **more: Any) -> PictureModelGroup:
    return PictureModelGroup.model_validate(
        {"task": "image-classification", "base": str(base), **more}
    )


def build(folder: Path, **more: Any) -> ImageClassifier:
    chosen = group(folder, **more)
    return build_image_classifier(obtain_picture_base(chosen), chosen, labels=3)


@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_any_image_classifier_gives_its_features_to_a_fresh_head(kind: str, tmp_path: Path) -> None:
    folder = saved(kind, tmp_path)
    model = build(folder, method="full").eval()
    whole = MAKERS[kind]().from_pretrained(folder).eval()
    pictures = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():
        assert model(pictures).shape == (2, 3)
        heads = [m for m in whole.modules() if isinstance(m, torch.nn.Linear)]
        wanted = whole(pixel_values=pictures).logits
        torch.testing.assert_close(heads[-1](model.features(pictures)), wanted)


def test_a_probe_trains_the_head_alone(tmp_path: Path) -> None:
    model = build(saved("resnet", tmp_path), method="probe")
    assert trained_parameters(model)[0] == model.head.weight.numel() + 3


def test_batch_norms_keep_the_pretraining_s_statistics(tmp_path: Path) -> None:
    model = build(saved("resnet", tmp_path), method="full").train()
    before = {name: value.clone() for name, value in model.named_buffers()}
    model(torch.randn(4, 3, SIDE, SIDE))
    assert before
    assert all(torch.equal(before[name], value) for name, value in model.named_buffers())


def test_lora_adapts_linear_layers_and_is_merged_without_a_change(tmp_path: Path) -> None:
    model = build(saved("vit", tmp_path), method="lora", lora_rank=2)
    trained, everything = trained_parameters(model)
    assert 0 < trained < everything / 2
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    pictures = torch.randn(2, 3, SIDE, SIDE)
    model.eval()
    with torch.no_grad():
        before = model(pictures)
        merge_picture_lora(model)
        torch.testing.assert_close(model(pictures), before, atol=1e-4, rtol=1e-4)
    assert not [name for name, _ in model.named_parameters() if "lora" in name]


def test_lora_needs_linear_layers(tmp_path: Path) -> None:
    with pytest.raises(InvalidRecipe, match="no linear layers for LoRA"):
        build(saved("mobilenet", tmp_path), method="lora")


def test_what_is_no_base_for_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="for pictures"):
        obtain_picture_base(group("minilm"))
    with pytest.raises(InvalidRecipe, match="there is 'scratch:convnet'"):
        obtain_picture_base(group("scratch:other"))
    with pytest.raises(InvalidRecipe, match="picture_size"):
        obtain_picture_base(group(saved("vit", tmp_path), picture_size=64))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match=r"no config\.json"):
        obtain_picture_base(group(tmp_path / "empty"))


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    folder = saved("vit", tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(InvalidInput, match="do not fit"):
        build(folder, method="full")


def test_a_scratch_base_is_trained_whole() -> None:
    assert group("scratch:convnet").settled_method == "full"
    with pytest.raises(ValueError, match="trained whole"):
        group("scratch:convnet", method="probe")
