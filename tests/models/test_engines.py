"""Engines refuse what is no classifier, and the fake one behaves as a real one would."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from hone.models.engines import FakeEngine, OnnxEngine, choose_device
from hone.models.errors import BundleCorrupt, InvalidInput
from hone.models.tokenizer import pad

only_without_cuda = pytest.mark.skipif(
    "CUDAExecutionProvider" in ort.get_available_providers(), reason="CUDA is here"
)


@pytest.mark.parametrize("content", [b"", b"noise", b"\x08\x07\x12\x00", bytes(1000)])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.fp32.onnx"
    path.write_bytes(content)
    with pytest.raises(BundleCorrupt, match=r"model\.fp32\.onnx") as caught:
        OnnxEngine(path)
    assert str(tmp_path) not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleCorrupt):
        OnnxEngine(tmp_path / "model.fp32.onnx", device="cpu")


def save_identity(path: Path, *, inputs: list[str], output: str) -> None:
    """Write a model that gives its first input back; making it needs the onnx library."""
    onnx = pytest.importorskip("onnx")
    number = onnx.TensorProto.INT64
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", inputs[:1], [output])],
        "identity",
        [onnx.helper.make_tensor_value_info(name, number, ["n", "m"]) for name in inputs],
        [onnx.helper.make_tensor_value_info(output, number, ["n", "m"])],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), path)


@pytest.mark.parametrize(
    ("inputs", "output", "complaint"),
    [
        (["x"], "logits", r"takes \['x'\]"),
        (["input_ids"], "logits", "takes"),
        (["input_ids", "attention_mask", "token_type_ids"], "logits", "takes"),
        (["input_ids", "attention_mask"], "y", "gives no logits"),
    ],
)
def test_a_model_of_other_inputs_or_outputs_is_refused(
    tmp_path: Path, inputs: list[str], output: str, complaint: str
) -> None:
    path = tmp_path / "model.fp32.onnx"
    save_identity(path, inputs=inputs, output=output)
    with pytest.raises(BundleCorrupt, match=complaint):
        OnnxEngine(path, device="cpu")


def test_a_model_of_the_right_form_runs(tmp_path: Path) -> None:
    path = tmp_path / "model.fp32.onnx"
    save_identity(path, inputs=["input_ids", "attention_mask"], output="logits")
    logits = OnnxEngine(path, device="cpu").run(*pad([[1, 2], [3]], 0))
    assert logits.dtype == np.float32
    assert logits.tolist() == [[1.0, 2.0], [3.0, 0.0]]


@only_without_cuda
def test_without_cuda_auto_is_the_cpu_and_cuda_is_refused() -> None:
    assert choose_device("auto") == choose_device("cpu") == "cpu"
    with pytest.raises(InvalidInput):
        choose_device("cuda")


def test_a_cpu_is_a_cpu_wherever_it_is() -> None:
    assert choose_device("cpu") == "cpu"


def test_the_fake_engine_ignores_padding() -> None:
    engine = FakeEngine(4)
    rows = [[1, 2], [3], [7, 7, 7]]
    together = engine.run(*pad(rows, pad_id=9))
    alone = np.concatenate([engine.run(*pad([row], pad_id=9)) for row in rows])
    assert (together == alone).all()
    assert together.dtype == np.float32
    assert together.argmax(axis=1).tolist() == [3, 3, 1]
    assert engine.batch_shapes == [(3, 3), (1, 2), (1, 1), (1, 3)]


def test_the_fake_engine_can_be_poisoned() -> None:
    engine = FakeEngine(2, poison=13)
    assert engine.run(*pad([[1]], 0)).shape == (1, 2)
    with pytest.raises(RuntimeError):
        engine.run(*pad([[1], [13]], 0))
