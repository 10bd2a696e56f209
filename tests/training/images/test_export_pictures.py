"""int8 of pictures: what is left in fp32 is found by measuring."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from hone.models.engines import OnnxPictureEngine
from hone.training.images.backbones import ConvNet, ImageClassifier
from hone.training.images.export import (
    export_picture_fp32,
    quantize_picture_int8,
    relative_noise,
)

SIDE = 16


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageClassifier, Path]:
    torch.manual_seed(0)
    model = ImageClassifier(ConvNet(), features=ConvNet.features, labels=3, dropout=0.0).eval()
    path = tmp_path_factory.mktemp("export") / "fp32.onnx"
    export_picture_fp32(model, path, height=SIDE, width=SIDE)
    return model, path


def pictures(count: int) -> torch.Tensor:
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("count", [1, 3, 8])
def test_fp32_gives_the_model_s_logits_for_any_number_of_pictures(
    exported: tuple[ImageClassifier, Path], count: int
) -> None:
    model, path = exported
    with torch.no_grad():
        wanted = model(pictures(count)).numpy()
    found = OnnxPictureEngine(path, device="cpu").run(pictures(count).numpy())
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_int8_has_quantized_weights_and_near_logits(
    exported: tuple[ImageClassifier, Path], tmp_path: Path
) -> None:
    shots = pictures(24).numpy()
    left_out = quantize_picture_int8(exported[1], tmp_path / "int8.onnx", shots)
    assert left_out.startswith("the head")
    graph = onnx.load(tmp_path / "int8.onnx").graph
    assert [node for node in graph.node if node.op_type == "QuantizeLinear"]
    assert [t for t in graph.initializer if t.data_type == onnx.TensorProto.INT8 and t.dims]
    engines = [OnnxPictureEngine(p, device="cpu") for p in (tmp_path / "int8.onnx", exported[1])]
    assert relative_noise(*(engine.run(shots) for engine in engines)) < 0.3
    assert [path.name for path in tmp_path.iterdir()] == ["int8.onnx"]


def test_noise_is_relative_and_blind_to_what_a_softmax_does_not_see() -> None:
    wanted = np.array([[1, -1], [2, -2], [-3, 3]], dtype=np.float32)
    assert relative_noise(wanted, wanted) == 0
    assert relative_noise(wanted + 7, wanted) == pytest.approx(0, abs=1e-6)
    assert relative_noise(wanted * 1.1, wanted) == pytest.approx(0.1, rel=1e-4)
