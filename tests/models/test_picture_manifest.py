"""What a manifest must say of a model of pictures, and of one of texts."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from hone.models.errors import BundleCorrupt
from hone.models.imaging.tokens import picture_tokens
from hone.models.registry import Registry
from tests.tiny_bundle import publish_tiny
from tests.tiny_picture_bundle import publish_tiny_pictures


def test_a_model_of_pictures_has_a_rule_and_no_lengths(tmp_path: Path) -> None:
    manifest = publish_tiny_pictures(Registry(tmp_path / "store"))
    assert manifest.picture_rule.height == 16
    for name in ("text_limits", "text_lengths"):
        with pytest.raises(BundleCorrupt, match="no model of texts"):
            getattr(manifest, name)


def test_a_model_of_texts_has_lengths_and_no_rule(tmp_path: Path) -> None:
    manifest = publish_tiny(Registry(tmp_path / "store"))
    assert manifest.text_limits.max_tokens == 64
    with pytest.raises(BundleCorrupt, match="no model of pictures"):
        _ = manifest.picture_rule


@pytest.mark.parametrize("missing", ["limits", "token_lengths"])
def test_texts_need_their_limits_and_lengths(tmp_path: Path, missing: str) -> None:
    nothing: dict[str, Any] = {missing: None}
    with pytest.raises(ValidationError, match="are needed for models of texts"):
        publish_tiny(Registry(tmp_path / "store"), **nothing)


def test_the_rule_is_for_pictures_and_needed_by_them(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "store")
    with pytest.raises(ValidationError, match="'preprocessing' is for models of pictures"):
        publish_tiny_pictures(registry, preprocessing=None)
    with pytest.raises(ValidationError, match="'preprocessing' is for models of pictures"):
        publish_tiny(registry, preprocessing={"height": 8, "width": 8})


@pytest.mark.parametrize(
    ("size", "tokens"),
    [((1, 1), 255), ((512, 512), 255), ((513, 512), 425), ((1024, 1024), 765), ((2048, 4096), 1105),
     ((4096, 2048), 1105), ((768, 768), 765)],
)  # fmt: skip
def test_a_picture_s_tokens_follow_the_published_rule(size: tuple[int, int], tokens: int) -> None:
    assert picture_tokens(*size) == tokens
