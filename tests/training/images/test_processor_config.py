import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from hone.models.errors import InvalidInput
from hone.models.imaging.decoding import decode_picture
from hone.models.imaging.preprocessing import crop_picture, normalize
from hone.training.images.processor_config import CONFIG_FILE, read_processor_config
from tests.pictures import encoded, picture

PROCESSORS: list[tuple[str, dict[str, Any]]] = [
    ("MobileNetV2ImageProcessorPil", {"size": {"shortest_edge": 40}, "crop_size": 32}),
    ("ViTImageProcessorPil", {"size": {"height": 32, "width": 24}}),
    ("ConvNextImageProcessorPil", {"size": {"shortest_edge": 32}, "crop_pct": 0.875}),
    ("ConvNextImageProcessorPil", {"size": {"shortest_edge": 384}}),
    ("EfficientNetImageProcessorPil", {"size": {"height": 30, "width": 30}, "rescale_offset": False,
      "include_top": False}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), PROCESSORS)
def test_the_rule_gives_the_very_pixels_of_the_base_s_processor(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    theirs = getattr(transformers, name)(**options)
    theirs.save_pretrained(tmp_path)
    rule = read_processor_config(tmp_path)
    for size in ((60, 50), (33, 90), (90, 33), (20, 20)):
        image = decode_picture(encoded(picture((90, 120, 200), size=size, seed=size[0])))
        wanted = theirs(image, return_tensors="np")["pixel_values"]
        np.testing.assert_allclose(
            normalize(crop_picture(image, rule)[None], rule), wanted, atol=1e-6
        )


def test_a_base_without_a_config_gets_the_usual_rule(tmp_path: Path) -> None:
    rule = read_processor_config(tmp_path)
    assert (rule.height, rule.shortest_edge, rule.mean[0]) == (224, 256, 0.485)


@pytest.mark.parametrize(
    "config",
    [
        {"do_resize": False},
        {"size": {"shortest_edge": 224}, "do_center_crop": False},
        {"size": {"longest_edge": 224}},
        {"size": "large"},
        {"image_mean": [0.5]},
        {"resample": 99},
        [],
    ],
)
def test_a_config_that_cannot_be_followed_is_refused(config: Any, tmp_path: Path) -> None:
    (tmp_path / CONFIG_FILE).write_text(json.dumps(config))
    with pytest.raises(InvalidInput, match="cannot be followed"):
        read_processor_config(tmp_path)
